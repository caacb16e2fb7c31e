package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/rhysd/actionlint"
	"github.com/stretchr/testify/require"
)

// command finds the call of the command in a wrapper: its version, and its arguments.
var command = regexp.MustCompile(`go run github\.com/millrace-ci/millrace/ci@(latest|v\d+\.\d+\.\d+) (.*)`)

// requireCall checks that a line calls a command and flags that exist, and returns them.
func requireCall(t *testing.T, text string) cli {
	t.Helper()
	call := command.FindStringSubmatch(text)
	require.NotNil(t, call, "%s does not call the command", text)
	var args []string
	for _, arg := range strings.Fields(call[2]) {
		args = append(args, strings.Trim(arg, `'"`))
	}
	var c cli
	parser, err := kong.New(&c)
	require.NoError(t, err)
	_, err = parser.Parse(args)
	require.NoError(t, err, "ci %s", args)
	return c
}

// These wrappers can't be run on their hosts here, but they must call commands and flags that exist. GitHub's is run by
// the tests in enginetest.
func TestWrappersCallWhatThereIs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/wrappers/*")
	require.NoError(t, err)
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, ".md") {
			continue
		}
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		if strings.HasSuffix(name, ".yml") {
			var any map[string]any
			require.NoError(t, yaml.Unmarshal(data, &any), name)
		}
		require.Equal(t, "out", requireCall(t, string(data)).CICD.Out, name)
		found++
	}
	require.Equal(t, 7, found)
}

// pinned is how a workflow names an action: by its commit, with the version that this is in a comment.
var pinned = regexp.MustCompile(`uses: ([\w.-]+/[\w./-]+)@[0-9a-f]{40} # (v\d+)\.\d+\.\d+\n`)

// People copy these workflows, and with them every hole that is in them.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/*/.github/workflows/*")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			requireLinted(t, name, data)
			text := string(data)
			require.Len(t, pinned.FindAllString(text, -1), strings.Count(text, "uses:"), "an action is not pinned by its commit and version")
			// actionlint knows the inputs of an action by its version only.
			requireLinted(t, name, pinned.ReplaceAll(data, []byte("uses: $1@$2\n")))

			workflow, problems := actionlint.Parse(data)
			require.Empty(t, problems)
			require.NotNil(t, workflow.Concurrency, "two runs for one branch could overtake each other")
			require.NotNil(t, workflow.Permissions)
			require.Empty(t, workflow.Permissions.Scopes, "permissions are the jobs' affair")
			require.Nil(t, workflow.Permissions.All)
			var pullRequests bool
			for _, event := range workflow.On {
				require.NotContains(t, []string{"pull_request_target", "workflow_run"}, event.EventName(), "it hands secrets to strangers' code")
				pullRequests = pullRequests || event.EventName() == "pull_request"
			}
			for id, job := range workflow.Jobs {
				require.NotNil(t, job.Permissions, id)
				require.Nil(t, job.Permissions.All, id)
				require.NotNil(t, job.TimeoutMinutes, id)
				if pullRequests && (job.If == nil || job.If.Value != "github.event_name != 'pull_request'") {
					requireHarmless(t, id, job)
				}
				calls := 0
				for _, step := range job.Steps {
					if run, ok := step.Exec.(*actionlint.ExecRun); ok {
						require.NotContains(t, run.Run.Value, "${{", "an expression in a script is executed: hand it over by env")
						requireCall(t, run.Run.Value)
						calls++
					}
				}
				require.Equal(t, 1, calls, "%s: what is done stands in the pipeline, not in the wrapper", id)
			}
		})
	}
}

func requireLinted(t *testing.T, name string, data []byte) {
	t.Helper()
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	require.NoError(t, err)
	problems, err := linter.Lint(name, data, nil)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// requireHarmless checks that a job may run whatever a pull request brings: it can write nothing, and knows no secret.
func requireHarmless(t *testing.T, id string, job *actionlint.Job) {
	t.Helper()
	for scope, permission := range job.Permissions.Scopes {
		require.Equal(t, "read", permission.Value.Value, "%s may write %s for a pull request", id, scope)
	}
	values := map[string]string{}
	environment := func(env *actionlint.Env) {
		if env == nil {
			return
		}
		require.Nil(t, env.Expression, id)
		for name, variable := range env.Vars {
			values[name] = variable.Value.Value
		}
	}
	environment(job.Env)
	for _, step := range job.Steps {
		environment(step.Env)
		if action, ok := step.Exec.(*actionlint.ExecAction); ok {
			for name, input := range action.Inputs {
				values[name] = input.Value.Value
			}
		}
	}
	for name, value := range values {
		require.NotRegexp(t, `(?i)secrets|token`, value, "%s hands %s to a pull request", id, name)
	}
}
