package enginetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// A run is taken up where it failed: what passed stays as it was while the source does.
func TestFromFailed(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	closed := newDepot()
	closed.user, closed.password = "ada", "secret"
	closed.open(t)
	open := newDepot().open(t)
	source := scores(t, nil)
	first := ci(t, source, append([]string{"ci-cd", "--registry", closed.address + "/team"}, push...))
	require.Equal(t, 3, first.code)
	first.requireVerdicts(t, map[string]graph.Verdict{
		"lint": graph.Passed, "test": graph.Passed, "security": graph.Passed, "build": graph.Passed, "publish": graph.Errored,
	})
	require.NotEmpty(t, first.run.Source)

	again := append([]string{"run", "--from-failed", "--registry", open.address + "/team"}, push...)
	t.Run("another folder has no record", func(t *testing.T) {
		got := ci(t, source, again)
		require.Equal(t, 2, got.code)
		require.Contains(t, got.stderr, "no record of a run in "+got.out)
	})
	t.Run("on the same source only publish is run again", func(t *testing.T) {
		got := startIn(t, first.out, source, again).wait(t, longest)
		require.Equal(t, 0, got.code)
		require.Equal(t, first.run.Source, got.run.Source)
		got.requireVerdicts(t, map[string]graph.Verdict{
			"lint": graph.Skipped, "test": graph.Skipped, "security": graph.Skipped, "build": graph.Passed, "publish": graph.Passed,
		})
		require.Equal(t, "passed in the last run", got.node(t, "test").Reason)
		for _, image := range got.images(t) {
			requirePullable(t, image)
		}
		got.requireOneScreen(t)
	})
	t.Run("then there is nothing to run again", func(t *testing.T) {
		code, stdout := pasted(t, program+" run --from-failed --source "+source+" --out "+first.out)
		require.Equal(t, 2, code)
		require.Empty(t, stdout)
	})
	t.Run("on another source nothing is published that was not tested", func(t *testing.T) {
		require.Equal(t, 3, startIn(t, first.out, source, append([]string{"ci-cd", "--registry", closed.address + "/team"}, push...)).wait(t, longest).code)
		edit(t, source, oneFails)
		got := startIn(t, first.out, source, again).wait(t, longest)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.stderr, "the source has changed")
		require.NotEqual(t, first.run.Source, got.run.Source)
		require.NotEqual(t, graph.Skipped, got.node(t, "lint").Verdict)
		require.NotEqual(t, graph.Passed, got.node(t, "publish").Verdict)
	})
}
