package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// Other steps of a job write to its summary too.
func TestSummaryIsAdded(t *testing.T) {
	t.Parallel()
	run := report.Run{Graph: "ci-cd", Verdict: graph.Passed}
	name := filepath.Join(t.TempDir(), "summary.md")
	require.NoError(t, os.WriteFile(name, []byte("before\n"), 0o644))
	require.NoError(t, addSummary(name, run))
	require.NoError(t, addSummary(name, run))
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	once := report.Markdown(run) + "\n"
	require.Equal(t, "before\n"+once+once, string(data))

	require.NoError(t, addSummary("", run), "a host without job summaries")
	require.ErrorContains(t, addSummary(filepath.Join(t.TempDir(), "nowhere", "summary.md"), run), summaryVariable)
}
