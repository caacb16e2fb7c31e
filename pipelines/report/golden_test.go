package report_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to write it")
	require.Equal(t, string(want), string(got), "run the test with -update, and look at the difference")
}

// outcome is a step's value as the steps return it.
type outcome report.NodeReport

func (o outcome) Report() report.NodeReport { return report.NodeReport(o) }

var began = time.Date(2026, 3, 14, 3, 9, 26, 535_000_000, time.UTC)

func record(name string, verdict graph.Verdict, reason string, start, length float64, value any) graph.Record {
	r := graph.Record{Name: name, Verdict: verdict, Reason: reason, Value: value}
	if length > 0 {
		r.Started = began.Add(time.Duration(start * float64(time.Second)))
		r.Duration = time.Duration(length * float64(time.Second))
		r.Attempts = 1
	}
	return r
}

var (
	ref = report.Ref{
		Event: "push", Branch: "main", SHA: "4f1c2d3e5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d", Repository: "acme/customer-intelligence",
		Author: "Ada Lovelace", URL: "https://ci.example.com/runs/77",
	}
	engine = report.Engine{Kind: "embedded", Version: "v0.19.10"}
)

func passedRun() report.Run {
	return report.NewRun(&graph.Result{
		Graph: "ci-cd", Verdict: graph.Passed, Started: began, Duration: 94*time.Second + 321*time.Millisecond,
		Nodes: []graph.Record{
			record("lint", graph.Passed, "", 0.1, 12.4, outcome{
				Metrics: map[string]float64{"files": 31}, Tools: map[string]string{"black": "25.1.0", "mypy": "1.18.2"}, HasReports: true,
			}),
			record("test", graph.Passed, "", 12.6, 41.9, outcome{
				Metrics: map[string]float64{"coverage_percent": 87.512, "tests": 43}, Tools: map[string]string{"pytest": "8.4.2"}, HasReports: true,
			}),
			record("security", graph.Passed, "", 12.6, 20, outcome{Findings: []report.Finding{
				{Tool: "bandit", Rule: "B101", Severity: report.Low, File: "backend/app.py", Line: 8, Message: "Use of assert detected.", URL: "https://bandit.readthedocs.io/b101"},
			}}),
			record("publish", graph.Passed, "", 60, 34.2, outcome{Artifacts: []report.Artifact{
				{Name: "api", Reference: "registry.example.com/acme/api:main", Digest: "sha256:" + strings.Repeat("a1", 32)},
				{Name: "batch", Reference: "registry.example.com/acme/batch:main", Digest: "sha256:" + strings.Repeat("b2", 32)},
			}}),
			record("codecov", graph.Skipped, "no Codecov token", 0, 0, nil),
		},
	}, ref, engine)
}

func failedRun() report.Run {
	findings := []report.Finding{
		{Tool: "pytest", Rule: "test_half[3]", Severity: report.High, File: "backend/tests/test_score.py", Line: 11, Message: "assert 0.25 == 0.5"},
		{Tool: "pytest", Rule: "test_negative", Severity: report.High, File: "backend/tests/test_score.py", Line: 15, Message: "ValueError: visits must not be negative"},
	}
	lint := make([]report.Finding, 0, 12)
	for i := range 12 {
		lint = append(lint, report.Finding{
			Tool: "flake8", Rule: "E501", Severity: report.Severities[i%3], File: "backend/app.py", Line: 3 + i, Column: 101,
			Message: "line too long (118 > 100 characters)",
		})
	}
	panicked := record("build", graph.Errored, "panic: assignment to entry in nil map", 12.6, 3.25, nil)
	panicked.Err = errors.New("panic: assignment to entry in nil map\nthe step's own code is at fault: tell whoever wrote it")
	panicked.Stack = "goroutine 7 [running]:\nmain.build()\n\tbuild.go:12 +0x1d"
	retried := record("publish base", graph.Passed, "", 1, 9, nil)
	retried.Attempts = 3
	return report.NewRun(&graph.Result{
		Graph: "ci-cd", Verdict: graph.Errored, Started: began, Duration: 65*time.Second + 20*time.Millisecond,
		Nodes: []graph.Record{
			record("lint", graph.Passed, "", 0.1, 12.4, outcome{Findings: lint, HasReports: true, Tools: map[string]string{"flake8": "7.3.0"}}),
			retried,
			record("test", graph.Failed, "2 of 43 tests failed, first test_half[3] in backend/tests/test_score.py:11: assert 0.25 == 0.5", 12.6, 52.4, outcome{
				Findings: findings, HasReports: true, Metrics: map[string]float64{"coverage_percent": 81.2, "failures": 2, "tests": 43},
				Tools:  map[string]string{"pytest": "8.4.2"},
				Output: "\x1b[31mFAILED\x1b[0m backend/tests/test_score.py::test_negative\n2 failed, 41 passed in 50.11s",
			}),
			record("security", graph.Cancelled, "stopped because build errored", 12.6, 3.3, nil),
			panicked,
			record("load", graph.Inconclusive, "12 samples, and 30 are needed", 20, 9, outcome{Output: "p95 = 12 ms (12 samples)"}),
			record("deploy-staging", graph.Skipped, "needs build, which errored", 0, 0, nil),
			record("デプロイ", graph.Skipped, "only on a tag", 0, 0, nil),
		},
	}, ref, engine)
}

// hostileRun holds what a test, a file name or a tool may print to break a report.
func hostileRun() report.Run {
	evil := "</script><script>alert(1)</script> | `x` <img src=x onerror=alert(2)> @acme/admins #12 ](javascript:alert(3)) \x1b[2J\x1b]0;own\x07\u202e\x00 https://evil.example **b**"
	f := report.Finding{Tool: evil, Rule: evil, Severity: report.Critical, File: "a|b`c\n</td>" + evil, Line: 1, Message: evil, URL: "javascript:alert(4)"}
	r := record(evil, graph.Failed, evil+"\nsecond line", 0, 1, outcome{
		Findings: []report.Finding{f}, Output: evil, HasReports: true,
		Artifacts: []report.Artifact{{Name: evil, Reference: evil, Digest: evil}}, Tools: map[string]string{evil: evil},
		Metrics: map[string]float64{evil: 1},
	})
	r.Err = errors.New(evil + "\n```\n# heading\n" + evil)
	r.Stack = evil
	return report.NewRun(&graph.Result{Graph: evil, Verdict: graph.Failed, Started: began, Duration: time.Second, Nodes: []graph.Record{r}},
		report.Ref{Event: evil, Branch: evil, Tag: evil, SHA: evil, Repository: evil, Author: evil, URL: "javascript:alert(5)"},
		report.Engine{Kind: evil, Version: evil})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]report.Run{"passed": passedRun(), "failed": failedRun(), "hostile": hostileRun()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encoded, err := run.Encode()
			require.NoError(t, err)
			golden(t, name+".run.json", encoded)
			golden(t, name+".txt", []byte(report.Text(run, 100)))
			golden(t, name+".md", []byte(report.Markdown(run)))

			var page, junit, sarif bytes.Buffer
			require.NoError(t, report.WriteHTML(&page, run))
			golden(t, name+".html", page.Bytes())
			require.NoError(t, report.WriteJUnit(&junit, run))
			golden(t, name+".junit.xml", junit.Bytes())
			require.NoError(t, report.WriteSARIF(&sarif, run.Findings(), run.Tools()))
			golden(t, name+".sarif", sarif.Bytes())
		})
	}
}
