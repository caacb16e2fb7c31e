package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"no command":               {nil, []string{"expected one of"}},
		"unknown command":          {[]string{"deploi"}, []string{"deploi"}},
		"unknown flag":             {[]string{"ci-cd", "--sauce", "x"}, []string{"--sauce", "--source"}},
		"source is missing":        {[]string{"ci-cd", "--source", dir + "/nowhere"}, []string{"nowhere", "does not exist", "--source"}},
		"source is a file":         {[]string{"ci-cd", "--source", file}, []string{"file.py", "is a file", "--source"}},
		"source is empty":          {[]string{"ci-cd", "--source", empty}, []string{"empty"}},
		"typing error in config":   {[]string{"ci-cd", "--source", broken}, []string{"millrace.yaml", "covrage", "coverage", "2"}},
		"config is missing":        {[]string{"ci-cd", "--source", example, "--config", dir + "/none.yaml"}, []string{"none.yaml"}},
		"unknown event":            {[]string{"ci-cd", "--source", example, "--event", "puhs"}, []string{"--event", "push"}},
		"unknown node":             {[]string{"ci-cd", "--source", example, "--only", "tset"}, []string{"tset", "test"}},
		"unknown engine":           {[]string{"ci-cd", "--source", example, "--engine", "warp"}, []string{"--engine"}},
		"a registry with a scheme": {[]string{"ci-cd", "--source", example, "--registry", "https://ghcr.io/acme"}, []string{"https://ghcr.io/acme", "without https://"}},
		"unknown form of a plan":   {[]string{"plan", "--source", example, "--format", "gif"}, []string{"--format"}},
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
	require.Equal(t, []string{
		"lint", "test", "security", "build", "coverage", "publish",
		"deploy-dev", "deploy-staging", "deploy-production", "load-test-staging", "load-test-production",
	}, names)

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
	for _, want := range []string{"backend", "api", "batch", "monitoring", "training", "coverage: 80"} {
		require.Contains(t, stdout, want)
	}
}

func TestHelp(t *testing.T) {
	status, stdout, _ := call("--help")
	require.Zero(t, status)
	for _, want := range []string{"ci-cd", "engine", "Exit status: 0 passed"} {
		require.Contains(t, stdout, want)
	}
}
