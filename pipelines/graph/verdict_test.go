package graph_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for verdict, code := range map[graph.Verdict]int{
		graph.Passed: 0, graph.Skipped: 0, graph.Failed: 1, graph.Errored: 3, graph.Inconclusive: 4, graph.Cancelled: 130,
	} {
		require.True(t, verdict.Valid())
		require.Equal(t, code, verdict.ExitCode())
		var read graph.Verdict
		require.NoError(t, json.Unmarshal([]byte(`"`+string(verdict)+`"`), &read))
		require.Equal(t, verdict, read)
	}
	var read graph.Verdict
	require.EqualError(t, json.Unmarshal([]byte(`"green"`), &read), `unknown verdict "green"`)
	require.Error(t, json.Unmarshal([]byte(`1`), &read))
	require.False(t, graph.Verdict("").Valid())

	require.Equal(t, graph.Skipped, graph.Worst())
	require.Equal(t, graph.Passed, graph.Worst(graph.Skipped, graph.Passed))
	require.Equal(t, graph.Failed, graph.Worst(graph.Cancelled, graph.Failed, graph.Inconclusive))
	require.Equal(t, graph.Errored, graph.Worst(graph.Errored, graph.Failed))
}
