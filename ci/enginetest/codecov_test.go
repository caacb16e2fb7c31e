package enginetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/codecov/codecovtest"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

func TestCoverageUpload(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := scores(t, nil)
	require.Equal(t, 0, ci(t, source, []string{"test"}).code)
	commit := committed(t, source, "https://github.com/acme/scores.git")
	handler := &codecovtest.Receiver{Token: "the-token"}
	url := reachable(t, handler)
	args := []string{"run", "coverage", "--event", "push", "--ref", "main"}

	t.Run("arrives", func(t *testing.T) {
		edit(t, source, edits{"millrace.yaml": "codecov: {url: '" + url + "', flags: [backend]}\n"})
		got := ci(t, source, args, withEnv("CODECOV_TOKEN=the-token"))
		require.Equal(t, 0, got.code)
		require.Empty(t, got.node(t, "coverage").Reason)
		require.Empty(t, handler.Problems())
		require.Len(t, handler.Uploads(), 1)
		upload := handler.Uploads()[0]
		require.Equal(t, "github", upload.GitService)
		require.Equal(t, "acme/scores", upload.Slug)
		require.Equal(t, commit, upload.SHA)
		require.Equal(t, "main", upload.Branch)
		require.Equal(t, []string{"backend"}, upload.Flags)
		require.Contains(t, upload.Network, "scores/grade.py")
		require.Len(t, upload.Files, 1)
		for _, content := range upload.Files {
			require.Contains(t, content, `filename="scores/grade.py"`)
		}
	})

	t.Run("a refusal is a warning", func(t *testing.T) {
		got := ci(t, source, args, withEnv("CODECOV_TOKEN=another"))
		require.Equal(t, 0, got.code)
		node := got.node(t, "coverage")
		require.Equal(t, graph.Passed, node.Verdict)
		require.Contains(t, node.Reason, "warning: codecov: "+url+" refuses the token for acme/scores")
		require.Equal(t, 1, node.Findings)
		got.requireOneScreen(t)
	})

	t.Run("or an error, where it is required", func(t *testing.T) {
		edit(t, source, edits{"millrace.yaml": "codecov: {url: '" + url + "', required: true}\n"})
		got := ci(t, source, args, withEnv("CODECOV_TOKEN=another"))
		require.Equal(t, 3, got.code)
		require.Contains(t, got.node(t, "coverage").Reason, "refuses the token")
		got.requireOneScreen(t)
	})
	require.Len(t, handler.Uploads(), 1)
}
