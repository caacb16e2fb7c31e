package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

const example = "../examples/customer-intelligence"

// call runs the command line as main does.
func call(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(args, &out, &err)
	return status, out.String(), err.String()
}

func TestMistakesAreSaidBeforeAnyEngineIsAsked(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file.py")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.Mkdir(empty, 0o755))
	broken := filepath.Join(dir, "broken")
	require.NoError(t, os.Mkdir(broken, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(broken, "main.py"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(broken, "millrace.yaml"), []byte("test:\n  covrage: 80\n"), 0o644))
	lost := filepath.Join(dir, "lost")
	require.NoError(t, os.CopyFS(lost, fstest.MapFS{
		"main.py": {}, "api.Dockerfile": {Data: []byte("FROM scratch\n")},
		"millrace.yaml": {Data: []byte("python: {requirements: [reqs.txt]}\n")},
	}))
	pods := filepath.Join(dir, "pods")
	require.NoError(t, os.CopyFS(pods, fstest.MapFS{
		"Dockerfile": {Data: []byte("FROM scratch\n")}, "data/rows.csv": {},
		"millrace.yaml": {Data: []byte(`data: [{name: rows}]
models: [{name: m, dockerfile: Dockerfile, command: [x], inputs: [rows], runner: kubernetes, kubernetes: {namespace: ml}}]
`)},
	}))
	nowhere := filepath.Join(dir, "nowhere.yaml")
	require.NoError(t, os.WriteFile(nowhere, []byte("training:\n  runner: kubernetes\n"), 0o644))
	misspelt := filepath.Join(dir, "misspelt.yaml")
	require.NoError(t, os.WriteFile(misspelt, []byte("images:\n  - name: ap1\n    skip: true\n"), 0o644))
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"no command":                {nil, []string{"expected one of"}},
		"unknown command":           {[]string{"deploi"}, []string{"deploi"}},
		"unknown flag":              {[]string{"ci-cd", "--sauce", "x"}, []string{"--sauce", "--source"}},
		"source is missing":         {[]string{"ci-cd", "--source", dir + "/nowhere"}, []string{"nowhere", "does not exist", "--source"}},
		"source is a file":          {[]string{"ci-cd", "--source", file}, []string{"file.py", "is a file", "--source"}},
		"source is empty":           {[]string{"ci-cd", "--source", empty}, []string{"empty"}},
		"typing error in config":    {[]string{"ci-cd", "--source", broken}, []string{"millrace.yaml", "covrage", "coverage", "2"}},
		"config is missing":         {[]string{"ci-cd", "--source", example, "--config", dir + "/none.yaml"}, []string{"none.yaml", "does not exist", "--config"}},
		"config lies in the source": {[]string{"ci-cd", "--source", broken, "--config", "millrace.yaml"}, []string{"does not exist", "did you mean --config " + filepath.Join(broken, "millrace.yaml")}},
		"config is a folder":        {[]string{"ci-cd", "--source", example, "--config", dir}, []string{"is a folder", "--config"}},
		"config names no file":      {[]string{"ci-cd", "--source", lost}, []string{"millrace.yaml:1:25", "reqs.txt", "does not exist"}},
		"config skips no image":     {[]string{"ci-cd", "--source", lost, "--config", misspelt}, []string{"misspelt.yaml:2:11", "ap1", "did you mean \"api\"?"}},
		"reports in a file":         {[]string{"ci-cd", "--source", example, "--engine", "embedded", "--out", file}, []string{"file.py", "not a directory"}},
		"no time":                   {[]string{"ci-cd", "--source", example, "--timeout", "0s"}, []string{"--timeout 0s"}},
		"unknown event":             {[]string{"ci-cd", "--source", example, "--event", "puhs"}, []string{"--event", "push"}},
		"unknown node":              {[]string{"ci-cd", "--source", example, "--only", "tset"}, []string{"tset", "test"}},
		"unknown engine":            {[]string{"ci-cd", "--source", example, "--engine", "warp"}, []string{"--engine"}},
		"a registry with a scheme":  {[]string{"ci-cd", "--source", example, "--registry", "https://ghcr.io/acme"}, []string{"https://ghcr.io/acme", "without https://"}},
		"nothing left":              {[]string{"ci-cd", "--source", example, "--only", "lint", "--skip", "lint"}, []string{"nothing is left to run", "--only", "--skip"}},
		"nothing left of a plan":    {[]string{"plan", "--source", example, "--only", "build", "--skip", "build"}, []string{"nothing is left to run"}},
		"no node to run":            {[]string{"run", "--source", example}, []string{"--from-failed", "ci-cd --source " + example}},
		"a shell in no node":        {[]string{"shell", "tset", "--source", example}, []string{"no node \"tset\"", "\"test\""}},
		"a shell in publish":        {[]string{"shell", "publish", "--source", example}, []string{"no container", "build"}},
		"a shell in coverage":       {[]string{"shell", "coverage", "--source", example}, []string{"no container", "test"}},
		"a shell in no image":       {[]string{"shell", "build", "apii", "--source", example}, []string{"apii", "did you mean \"api\"?"}},
		"a shell in which image":    {[]string{"shell", "build", "--source", example}, []string{"api, batch, monitoring or training"}},
		"a shell without terminal":  {[]string{"shell", "test", "--source", example, "--engine", "embedded"}, []string{"needs a terminal", "shell test -- ls"}},
		"a shell in no language":    {[]string{"shell", "test", "--language", "go", "--source", example}, []string{"no code of the language go"}},
		"interactive, no terminal":  {[]string{"ci-cd", "--interactive", "--source", example, "--engine", "embedded"}, []string{"--interactive needs a terminal", "shell NODE --source " + example}},
		"interactive plan":          {[]string{"test", "--interactive", "--dry-run", "--source", example}, []string{"--interactive", "--dry-run"}},
		"a flag that does nothing":  {[]string{"format", "--parallelism", "2", "--source", example}, []string{"--parallelism"}},
		"models in an artifact":     {[]string{"training", "--source", example, "--store", "oci://ghcr.io/acme/models:v1"}, []string{"names one artifact", "without a tag"}},
		"models on a web server":    {[]string{"training", "--source", example, "--store", "https://example.com/models"}, []string{"nothing can be kept at", "oci://HOST/REPOSITORY"}},
		"state in an artifact":      {[]string{"drift", "--source", example, "--current", file, "--state", "oci://ghcr.io/acme/models:v1"}, []string{"names one artifact"}},
		"tables at no address":      {[]string{"training", "--source", example, "--data", "ftp://example.com/data"}, []string{"ftp://example.com/data", "oci://HOST/REPOSITORY:TAG"}},
		"a table in no object":      {[]string{"drift", "--source", example, "--current", "s3://bucket"}, []string{"s3://bucket", "add the object's name"}},
		"MLflow at no address":      {[]string{"training", "--source", example, "--mlflow", "mlflow.example.com"}, []string{"mlflow.example.com", "https://HOST"}},
		"pods without a cluster":    {[]string{"training", "--source", pods, "--engine", "embedded"}, []string{"m is trained on a cluster", "set KUBE_CONFIG_TRAINING"}},
		"pods without a namespace":  {[]string{"training", "--source", pods, "--config", nowhere}, []string{"nowhere.yaml:2:11", "under kubernetes which namespace"}},
		"unknown form of a plan":    {[]string{"plan", "--source", example, "--format", "gif"}, []string{"--format"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := call(test.args...)
			require.Equal(t, exitUsage, status, stderr)
			require.Empty(t, stdout)
			for _, want := range test.want {
				require.Contains(t, stderr, want)
			}
			require.Less(t, strings.Count(stderr, "\n"), 24, "one screen")
		})
	}
}

func TestPlan(t *testing.T) {
	status, stdout, stderr := call("plan", "--engine", "embedded", "--source", example, "--event", "push", "--ref", "main", "--format", "json")
	require.Zero(t, status, stderr)
	var plan struct {
		Nodes []struct {
			Name    string
			Skipped string `json:"skip"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &plan))
	var names []string
	for _, n := range plan.Nodes {
		names = append(names, n.Name)
	}
	require.Equal(t, []string{"lint", "test", "security", "build", "coverage", "publish",
		"deploy-dev", "deploy-staging", "load-test-staging", "deploy-production", "load-test-production", "notify"}, names)

	for format, want := range map[string]string{"text": "publish", "mermaid": "flowchart", "svg": "<svg"} {
		status, stdout, stderr = call("plan", "--engine", "embedded", "--source", example, "--format", format)
		require.Zero(t, status, stderr)
		require.Contains(t, stdout, want)
	}
}

func TestAPlanSaysWhyNothingIsPublished(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"pull request":   {[]string{"--event", "pull_request", "--ref", "12"}, "pull requests build and don't publish"},
		"manual run":     {[]string{"--event", "manual", "--ref", "main"}, "only a push to main or develop, or a tag, publishes"},
		"another branch": {[]string{"--event", "push", "--ref", "feature"}, "only a push to main or develop"},
		"no registry":    {[]string{"--event", "push", "--ref", "main", "--engine", "runner"}, "no registry given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", "tcp://127.0.0.1:1")
			args := append([]string{"ci-cd", "--dry-run", "--source", example, "--engine", "embedded"}, test.args...)
			status, stdout, stderr := call(args...)
			require.Zero(t, status, stderr)
			require.Contains(t, stdout, test.want)
		})
	}
}

func TestAPlanKnowsOfSecretsThatAreSet(t *testing.T) {
	t.Setenv("CODECOV_TOKEN", "canary")
	status, stdout, stderr := call("plan", "--engine", "embedded", "--source", example)
	require.Zero(t, status, stderr)
	require.NotContains(t, stdout, "no Codecov token")
	require.NotContains(t, stdout+stderr, "canary")
}

func TestConfigPrintsWhatWasDetected(t *testing.T) {
	status, stdout, stderr := call("config", "--source", example)
	require.Zero(t, status, stderr)
	for _, want := range []string{"backend", "api", "batch", "monitoring", "training", "shards: 1"} {
		require.Contains(t, stdout, want)
	}
}

func TestVersion(t *testing.T) {
	status, stdout, stderr := call("--version")
	require.Zero(t, status)
	require.Empty(t, stderr)
	require.Regexp(t, `^millrace \S+, Dagger engine v0\.\d+\.\d+, go\S+ \w+/\w+\n$`, stdout)
}

func TestHelp(t *testing.T) {
	status, stdout, _ := call("--help")
	require.Zero(t, status)
	for _, want := range []string{"ci-cd", "engine", "Exit status: 0 passed"} {
		require.Contains(t, stdout, want)
	}
}

// A flag that a command lists does something there: the others' flags only hide the one that is looked for.
func TestHelpListsTheFlagsThatDoSomething(t *testing.T) {
	const source, ref = "--source --config", " --event --ref --sha"
	const registry = " --registry --registry-user --registry-password-env"
	const look, step = " --out --engine --verbose", " --out --dry-run --timeout --engine --verbose"
	for command, want := range map[string]string{
		"format":    source + " --dry-run --engine --verbose",
		"plan":      source + ref + " --registry --engine --only --skip --format",
		"lint":      source + ref + step + " --interactive",
		"test":      source + ref + step + " --interactive --fresh",
		"security":  source + ref + step + " --interactive",
		"build":     source + ref + step + " --interactive",
		"publish":   source + ref + registry + step + " --interactive",
		"deploy":    source + ref + registry + " --ephemeral --wait" + step + " --interactive",
		"promote":   source + ref + step + " --wait --from --to",
		"rollback":  source + step + " --wait --to-revision",
		"history":   source + look + " --json",
		"status":    source + look + " --json",
		"smoke":     source + step,
		"load-test": source + ref + step + " --accept",
		"approve":   source + ref + look + " --image --key --valid",
		"training":  source + ref + registry + step + " --interactive --parallelism --only --skip --store --mlflow --data --model",
		"drift": source + ref + registry + step + " --parallelism --keep-going --store --mlflow --data" +
			" --reference --current --retrain --state --retrain-token-env",
	} {
		status, stdout, _ := call(command, "--help")
		require.Zero(t, status)
		var flags []string
		for _, found := range listed.FindAllStringSubmatch(stdout, -1) {
			flags = append(flags, found[1])
		}
		require.ElementsMatch(t, append(strings.Fields(want), "--help", "--version"), flags, command)
	}
}

func TestHelpNamesTheNodesOfEnvironments(t *testing.T) {
	for _, command := range []string{"ci-cd", "plan", "run"} {
		status, stdout, _ := call(command, "--help")
		require.Zero(t, status)
		require.Contains(t, strings.Join(strings.Fields(stdout), " "), "publish, deploy-ENV, load-test-ENV, notify; ENV is an environment of millrace.yaml", command)
	}
}

// listed matches the lines of a help that a flag begins.
var listed = regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`)

func TestTheExitCodeOfAToolIsNotOurs(t *testing.T) {
	t.Parallel()
	broke := exec.Command("sh", "-c", "exit 1").Run()
	require.Error(t, broke)
	var said bytes.Buffer
	require.Equal(t, 3, statusOf(fmt.Errorf("build the registry: %w", broke), t.Context(), &said))
	require.Equal(t, "ci: build the registry: exit status 1\n", said.String())
	require.Equal(t, 2, statusOf(usageError{fmt.Errorf("no such folder: %w", broke)}, t.Context(), &said))
}
