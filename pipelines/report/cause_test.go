package report_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/report"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	findings := []report.Finding{
		{Tool: "a", Severity: report.Low, Message: "low"}, {Tool: "a", Severity: report.High, Message: "high"}, {Tool: "a", Severity: report.Medium, Message: "medium"},
	}
	for name, c := range map[string]struct {
		node report.Node
		want []string
	}{
		"the worst findings":       {report.Node{Details: findings, Output: "x", Error: "y"}, []string{"high (a)", "medium (a)"}},
		"the rest of the error":    {report.Node{Reason: "down", Error: "down\none\ntwo\nthree", Output: "x"}, []string{"two", "three"}},
		"the end of the output":    {report.Node{Output: "1\n2\n\x1b[31m3\x1b[0m\n"}, []string{"2", "3"}},
		"nothing":                  {report.Node{Reason: "down", Error: "down"}, nil},
		"less than there is space": {report.Node{Output: "1"}, []string{"1"}},
	} {
		require.Equal(t, c.want, c.node.Explain(2), name)
	}
}
