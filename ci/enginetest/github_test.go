package enginetest

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// The workflow ci-cd of examples/github-actions runs as it is: its actions, its line, its conditions, its secrets.
func TestGitHubActions(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	// play has GitHub say that something happened in a repository whose registry only its secret opens.
	play := func(t *testing.T, event string, payload map[string]any, changes edits) (hosted, *depot) {
		t.Helper()
		d := newDepot()
		d.user, d.password = "ada", "battery-staple"
		d.open(t)
		return workflow{
			example: "github-actions", file: "ci-cd.yml", source: scores(t, changes), event: event, payload: payload,
			vars: map[string]string{"REGISTRY": d.address + "/Team"}, secrets: map[string]string{"REGISTRY_PASSWORD": d.password},
		}.run(t), d
	}
	onMain := map[string]any{"ref": "refs/heads/main", "repository": map[string]any{"default_branch": "main"}}

	t.Run("a push to main publishes", func(t *testing.T) {
		got, d := play(t, "push", onMain, nil)
		require.Zero(t, got.code)
		require.Equal(t, "push", got.run.Ref.Event)
		require.Equal(t, "Acme/Scores", got.run.Ref.Repository)
		require.Equal(t, "main", got.run.Ref.Branch)
		got.requireVerdicts(t, map[string]graph.Verdict{
			"lint": graph.Passed, "test": graph.Passed, "security": graph.Passed, "build": graph.Passed, "publish": graph.Passed,
		})
		images := got.images(t)
		require.Len(t, images, 2)
		for _, image := range images {
			require.Equal(t, []string{"sha-" + got.run.Ref.SHA[:7], "main"}, image.Tags)
			require.Contains(t, image.Reference, d.address+"/team/")
		}
		require.NotEmpty(t, d.asked(http.MethodPut))
		got.requireSARIF(t, 0)
		require.Contains(t, got.stdout, "## ✓ ci-cd passed", "the job has no summary")
	})

	t.Run("a fork's pull request is only checked", func(t *testing.T) {
		side := func(ref, repository string) map[string]any {
			return map[string]any{"ref": ref, "sha": sha, "repo": map[string]any{"full_name": repository}}
		}
		got, d := play(t, "pull_request", map[string]any{"number": 7, "pull_request": map[string]any{
			"number": 7, "title": "Better grades", "user": map[string]any{"login": "eve"},
			"head": side("grades", "eve/scores"), "base": side("main", "Acme/Scores"),
		}}, nil)
		require.Zero(t, got.code)
		require.Equal(t, 7, got.run.Ref.PullRequest)
		require.Equal(t, "eve", got.run.Ref.Author)
		got.requireVerdicts(t, map[string]graph.Verdict{"test": graph.Passed, "build": graph.Passed, "publish": graph.Skipped})
		require.Equal(t, "pull requests build and don't publish", got.node(t, "publish").Reason)
		require.Empty(t, d.asked(""), "the registry was asked for something")
		require.NoDirExists(t, filepath.Join(got.uploads, "sarif"), "a pull request can't write to code scanning")
	})

	t.Run("by hand it builds", func(t *testing.T) {
		got, d := play(t, "workflow_dispatch", onMain, nil)
		require.Zero(t, got.code)
		require.Equal(t, "manual", got.run.Ref.Event)
		got.requireVerdicts(t, map[string]graph.Verdict{"build": graph.Passed, "publish": graph.Skipped})
		require.Empty(t, d.asked(""))
	})

	t.Run("a failure fails the job, and is shown", func(t *testing.T) {
		got, d := play(t, "push", onMain, edits{"scores/unused.py": "\"\"\"A module.\"\"\"\n\nimport os\n"})
		require.NotZero(t, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"lint": graph.Failed})
		require.Contains(t, got.stdout, "scores/unused.py:3")
		require.Empty(t, d.asked(""))
		got.requireSARIF(t, 1)
	})
}

// requireSARIF checks that valid SARIF was uploaded, with at least so many findings.
func (h hosted) requireSARIF(t *testing.T, atLeast int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.uploads, "sarif/findings.sarif"))
	require.NoError(t, err)
	log, err := sarif.FromBytes(data)
	require.NoError(t, err)
	require.NoError(t, log.Validate())
	found := 0
	for _, run := range log.Runs {
		found += len(run.Results)
	}
	require.GreaterOrEqual(t, found, atLeast)
}
