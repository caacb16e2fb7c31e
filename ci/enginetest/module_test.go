package enginetest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	embeds "github.com/millrace-ci/millrace/ci/embedded"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// called is what a run of another program than ci left behind.
type called struct {
	code           int
	stdout, stderr string
}

// onEngine runs a program in dir, with the engine and its dagger command in the environment, as "engine env" gives it.
func onEngine(t *testing.T, dir string, argv ...string) called {
	t.Helper()
	return onEngineWith(t, dir, nil, argv...)
}

// onEngineWith does so with more variables, each NAME=VALUE.
func onEngineWith(t *testing.T, dir string, env []string, argv ...string) called {
	t.Helper()
	own, err := embedded()
	require.NoError(t, err)
	cli, err := own.CLI()
	require.NoError(t, err)
	if argv[0] == "dagger" {
		argv[0] = cli
	}
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = slices.Concat(environment, []string{
		"_EXPERIMENTAL_DAGGER_RUNNER_HOST=" + running(t).RunnerHost(), "_EXPERIMENTAL_DAGGER_CLI_BIN=" + cli,
		"DAGGER_NO_NAG=1", "DO_NOT_TRACK=1", "NO_COLOR=1",
	}, env)
	err = cmd.Run()
	var exited *exec.ExitError
	if !errors.As(err, &exited) {
		require.NoError(t, err)
	}
	return called{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// module calls a function of the Dagger module on a source tree.
func module(t *testing.T, source string, args ...string) called {
	t.Helper()
	root, err := filepath.Abs(repository)
	require.NoError(t, err)
	argv := []string{"dagger", "call", "--progress=plain", "--mod", root, args[0], "--source=" + source}
	return onEngine(t, t.TempDir(), append(argv, args[1:]...)...)
}

func TestModule(t *testing.T) {
	needsEngine(t)
	t.Parallel()

	t.Run("passes", func(t *testing.T) {
		t.Parallel()
		done := module(t, scores(t, nil), "ci-cd", "--skip=build")
		require.Zero(t, done.code, "%s", done.stderr)
		require.Contains(t, done.stdout, "ci-cd passed")
		require.Contains(t, done.stdout, "no registry given")
	})
	t.Run("fails with the summary", func(t *testing.T) {
		t.Parallel()
		done := module(t, scores(t, edits{"scores/unused.py": "\"\"\"A module.\"\"\"\n\nimport os\n"}), "lint")
		require.Equal(t, graph.Failed.ExitCode(), done.code, "%s", done.stderr)
		require.Empty(t, done.stdout)
		_, message, found := strings.Cut(done.stderr, "Error: ")
		require.True(t, found, "%s", done.stderr)
		require.Contains(t, message, "lint failed: ")
		require.Contains(t, message, "scores/unused.py:3")
		require.Less(t, strings.Count(message, "\n"), 25)
	})
	empty, config := t.TempDir(), filepath.Join(t.TempDir(), "millrace.yaml")
	require.NoError(t, os.WriteFile(config, []byte("tests: {}\n"), 0o644))
	for want, args := range map[string][]string{
		`has no node "lnt"; did you mean "lint"?`: {"ci-cd", "--only=lnt"},
		"give host[:port]/path without https://":  {"publish", "--registry=https://example.com/x"},
		`unknown event "puhs"`:                    {"plan", "--event=puhs"},
		`there is no plan in the form "png"`:      {"plan", "--format=png"},
		"no tag is known for this commit":         {"publish", "--event=tag"},
		`there is no image "nope"`:                {"build", "container", "--name=nope", "user"},
		"no files that a pipeline could work on":  {"ci-cd", "--source=" + empty},
		"millrace.yaml:1:":                        {"config", "--config=" + config},
	} {
		t.Run(strings.Join(args[:2], " "), func(t *testing.T) {
			t.Parallel()
			done := module(t, scores(t, nil), args...)
			require.Equal(t, 2, done.code, "%s", done.stderr)
			_, message, _ := strings.Cut(done.stderr, "Error: ")
			require.Contains(t, message, want)
		})
	}
	t.Run("reports on a failure", func(t *testing.T) {
		t.Parallel()
		out := t.TempDir()
		source := scores(t, edits{"scores/unused.py": "\"\"\"A module.\"\"\"\n\nimport os\n"})
		done := module(t, source, "report", "--only=lint", "export", "--path="+out)
		require.Zero(t, done.code, "%s", done.stderr)
		data, err := os.ReadFile(filepath.Join(out, "run.json"))
		require.NoError(t, err)
		requireSchema(t, data)
		run, err := report.DecodeRun(data)
		require.NoError(t, err)
		require.Equal(t, graph.Failed, run.Verdict)
		lint, _ := run.Node("lint")
		require.DirExists(t, filepath.Join(out, filepath.FromSlash(lint.Reports)))
		for _, name := range []string{"index.html", "junit.xml", "findings.sarif", "summary.md"} {
			require.FileExists(t, filepath.Join(out, name))
		}
	})
	t.Run("publishes every time", func(t *testing.T) {
		t.Parallel()
		source := scores(t, nil)
		args := append([]string{"publish", "--registry=" + running(t).Registry + "/module"}, push...)
		for range 2 {
			done := module(t, source, args...)
			require.Zero(t, done.code, "%s", done.stderr)
			require.Contains(t, done.stdout, "✓ publish")
			require.Contains(t, done.stdout, "@sha256:")
		}
	})
	t.Run("keeps the history of drift in a registry", func(t *testing.T) {
		t.Parallel()
		client(t) // the engine's network is there from here on
		d := newDepot().reach(t)
		source, reference, current := t.TempDir(), t.TempDir(), t.TempDir()
		edit(t, source, edits{"millrace.yaml": "drift: {name: people, columns: {id: {ignore: true}}}\n"})
		edit(t, reference, edits{"table.csv": people(1, 1000, 0)})
		edit(t, current, edits{"table.csv": people(2, 1000, 0)})
		for range 2 {
			done := module(t, source, "drift", "--reference="+reference, "--current="+current, "--state=oci+http://"+d.address+"/team/drift")
			require.Zero(t, done.code, "%s", done.stderr)
		}
		runs := 0
		for _, tag := range d.tags(t, "drift") {
			if strings.HasSuffix(tag, ".drift..html") {
				runs++
			}
		}
		require.Equal(t, 2, runs)
		require.Contains(t, d.tags(t, "drift"), "drift.people.history..json")
	})
	t.Run("formats", func(t *testing.T) {
		t.Parallel()
		source := scores(t, edits{"scores/wide.py": "\"\"\"A module.\"\"\"\nX=1\n"})
		done := module(t, source, "format", "export", "--path="+source)
		require.Zero(t, done.code, "%s", done.stderr)
		data, err := os.ReadFile(filepath.Join(source, "scores/wide.py"))
		require.NoError(t, err)
		require.Equal(t, "\"\"\"A module.\"\"\"\n\nX = 1\n", string(data))
	})
	t.Run("takes branch and commit from git", func(t *testing.T) {
		t.Parallel()
		source := scores(t, nil)
		commit := committed(t, source, "https://github.com/acme/scores.git")
		out := t.TempDir()
		done := module(t, source, "report", "--git="+source+"#main", "--only=build", "export", "--path="+out)
		require.Zero(t, done.code, "%s", done.stderr)
		data, err := os.ReadFile(filepath.Join(out, "run.json"))
		require.NoError(t, err)
		run, err := report.DecodeRun(data)
		require.NoError(t, err)
		require.Equal(t, "main", run.Ref.Branch)
		require.Equal(t, commit, run.Ref.SHA)
	})
}

// TestModuleReads makes sure that everything shows up in listings, with a sentence.
// What "engine env" prints is all that the dagger command needs.
func TestEnvironmentOfTheEngine(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	cmd := exec.Command("sh", "-c", `eval "$("$0" engine env --engine embedded)" && dagger core version`, program)
	cmd.Env = environment
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Equal(t, embeds.EngineVersion, strings.TrimSpace(string(out)))
}

func TestModuleReads(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	done := onEngine(t, repository, "dagger", "functions")
	require.Zero(t, done.code, "%s", done.stderr)
	lines := strings.Split(strings.TrimSpace(done.stdout), "\n")[1:]
	var names []string
	for _, line := range lines {
		name, doc, _ := strings.Cut(line, " ")
		names = append(names, name)
		require.Regexp(t, `^[A-Z][^.]*\.$`, strings.TrimSpace(doc), name)
	}
	require.Equal(t, []string{"build", "ci-cd", "config", "deploy", "drift", "format", "history", "lint", "load-test", "notify", "plan", "promote", "publish", "report", "rollback", "run", "security", "smoke", "status", "test", "training"}, names)
}

func TestExampleInstalling(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	done := onEngine(t, repository+"/examples/installing", "dagger", "check", "--list")
	require.Zero(t, done.code, "%s", done.stderr)
	for _, check := range []string{"millrace:lint", "millrace:test", "millrace:security"} {
		require.Contains(t, done.stdout, check)
	}
	done = onEngine(t, repository+"/examples/installing", "dagger", "check", "--progress=plain")
	require.Zero(t, done.code, "%s", done.stderr)
	require.Contains(t, done.stderr, "millrace:test")
}

func TestExampleImporting(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	done := onEngine(t, repository+"/examples/importing", "go", "run", ".", "-source", "../customer-intelligence", "-only", "not-root")
	require.Zero(t, done.code, "%s", done.stderr)
	require.Regexp(t, `✓ not-root `, done.stdout)
}
