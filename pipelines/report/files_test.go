package report_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	files, err := report.Files(report.Run{Schema: report.RunSchema, Graph: "ci-cd", Verdict: graph.Failed})
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		require.NotEmpty(t, f.Data, f.Name)
		names = append(names, f.Name)
	}
	require.Equal(t, []string{"run.json", "index.html", "junit.xml", "findings.sarif", "summary.md"}, names)
	run, err := report.DecodeRun(files[0].Data)
	require.NoError(t, err)
	require.Equal(t, graph.Failed, run.Verdict)
}
