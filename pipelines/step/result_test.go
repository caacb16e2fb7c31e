package step_test

import (
	"errors"
	"strings"
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// A step's result is what the graph judges by and what the record is made from.
var (
	_ graph.Judged  = step.Result{}
	_ report.Source = step.Result{}
)

func TestSkip(t *testing.T) {
	t.Parallel()
	verdict, reason := step.Skip("no %s in %q", "Dockerfile", "src").Judgement()
	require.Equal(t, graph.Skipped, verdict)
	require.Equal(t, `no Dockerfile in "src"`, reason)
	require.False(t, step.Skip("nothing to do").Report().HasReports)
}

func TestReportHasAllThatTheRecordTakes(t *testing.T) {
	t.Parallel()
	r := step.Result{
		Verdict:   graph.Failed,
		Reason:    "1 finding",
		Findings:  []report.Finding{{Tool: "flake8", Rule: "F401", File: "a.py", Line: 3}},
		Metrics:   map[string]float64{"findings": 1},
		Tools:     map[string]string{"flake8": "7.3.0"},
		Artifacts: []report.Artifact{{Name: "api"}},
		Output:    "a.py:3: F401",
		Reports:   &dagger.Directory{},
	}
	require.Equal(t, report.NodeReport{
		Findings: r.Findings, Metrics: r.Metrics, Tools: r.Tools, Artifacts: r.Artifacts, Output: r.Output, HasReports: true,
	}, r.Report())
	require.Equal(t, r, r.Of())
	verdict, reason := r.Judgement()
	require.Equal(t, graph.Failed, verdict)
	require.Equal(t, "1 finding", reason)
}

func TestMerge(t *testing.T) {
	t.Parallel()
	finding := func(file string, line int) report.Finding {
		return report.Finding{Tool: "t", Rule: "r", Severity: report.Medium, File: file, Line: line}
	}
	for name, test := range map[string]struct {
		parts map[string]step.Result
		want  step.Result
	}{
		"nothing": {
			want: step.Result{Verdict: graph.Skipped},
		},
		"the worst verdict, and every reason in the order of the names": {
			parts: map[string]step.Result{
				"mypy":  {Verdict: graph.Failed, Reason: "mypy: 1 finding"},
				"black": {Verdict: graph.Errored, Reason: "black: broke"},
				"isort": {Verdict: graph.Passed},
			},
			want: step.Result{Verdict: graph.Errored, Reason: "black: broke; mypy: 1 finding"},
		},
		"a part that was skipped does not hide one that passed": {
			parts: map[string]step.Result{"go": {Verdict: graph.Skipped, Reason: "no tests"}, "python": {Verdict: graph.Passed}},
			want:  step.Result{Verdict: graph.Passed, Reason: "no tests"},
		},
		"findings in one order, metrics added up, tools and artifacts together": {
			parts: map[string]step.Result{
				"a": {
					Verdict: graph.Failed, Findings: []report.Finding{finding("z.py", 1), finding("b.py", 9)}, Output: "from a",
					Metrics: map[string]float64{"tests": 2, "failures": 1}, Tools: map[string]string{"pytest": "9"},
					Artifacts: []report.Artifact{{Name: "one"}},
				},
				"b": {
					Verdict: graph.Passed, Findings: []report.Finding{finding("b.py", 2)}, Output: "from b",
					Metrics: map[string]float64{"tests": 3}, Tools: map[string]string{"go": "1.26"},
					Artifacts: []report.Artifact{{Name: "two"}},
				},
			},
			want: step.Result{
				Verdict: graph.Failed, Findings: []report.Finding{finding("b.py", 2), finding("b.py", 9), finding("z.py", 1)},
				Output: "from a\nfrom b", Metrics: map[string]float64{"tests": 5, "failures": 1},
				Tools: map[string]string{"pytest": "9", "go": "1.26"}, Artifacts: []report.Artifact{{Name: "one"}, {Name: "two"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := step.Merge(nil, test.parts)
			if test.want.Metrics == nil {
				test.want.Metrics = map[string]float64{}
			}
			test.want.Parts = map[string]graph.Verdict{}
			for part, r := range test.parts {
				test.want.Parts[part] = r.Verdict
			}
			if test.want.Tools == nil {
				test.want.Tools = map[string]string{}
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	plain := errors.New("connection refused")
	require.Equal(t, plain, step.Explain(plain))
	require.NoError(t, step.Explain(nil))

	exec := func(stdout, stderr string) error {
		return errors.Join(&dagger.ExecError{Cmd: []string{"uv", "pip", "sync"}, ExitCode: 2, Stdout: stdout, Stderr: stderr})
	}
	require.EqualError(t, step.Explain(exec("progress", " no such package\n")), "uv pip sync: exit code 2\nno such package")
	require.EqualError(t, step.Explain(exec("said here\n", " \n")), "uv pip sync: exit code 2\nsaid here", "standard output when standard error is empty")

	long := step.Explain(exec("", strings.Repeat("x", step.MaxOutput)+"the end")).Error()
	require.Less(t, len(long), step.MaxOutput+100)
	require.True(t, strings.HasSuffix(long, "xthe end"))
}
