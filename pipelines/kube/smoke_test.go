package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

func TestSmokeJUnit(t *testing.T) {
	t.Parallel()
	text, err := smokeJUnit([]SmokeCheck{
		{Name: "GET /ready", Passed: true, Seconds: 0.012},
		{Name: "GET /<x>", Wrong: []Difference{{"status 200", "status 500"}}, Body: "a & b \x00"},
	})
	require.NoError(t, err)
	tests, err := report.ParseJUnit(strings.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, 2, tests.Totals().Tests)
	require.Equal(t, 1, tests.Totals().Failures)
	require.Equal(t, "expected status 200, and got status 500", tests.Failed()[0].Message)
}

func TestTaskPodIsRestricted(t *testing.T) {
	t.Parallel()
	task := Task{Name: "x", Namespace: "ns", Image: "busybox", Argv: []string{"echo", "$(HOME)"}, Env: map[string]string{"A": "$(B)"},
		Secrets: map[string]string{"TOKEN": "api/token"}, Files: map[string]string{"lib/a.js": "1"}, Timeout: time.Minute}
	text, err := task.pod("x-1")
	require.NoError(t, err)
	for _, part := range []string{
		`"runAsNonRoot":true`, `"seccompProfile":{"type":"RuntimeDefault"}`, `"drop":["ALL"]`, `"allowPrivilegeEscalation":false`,
		`"command":["echo","$$(HOME)"]`, `"value":"$$(B)"`, `"secretKeyRef":{"key":"token","name":"api"}`, `"path":"lib/a.js"`,
		`"automountServiceAccountToken":false`,
	} {
		require.Contains(t, text, part)
	}
	task.Files["data.csv"] = strings.Repeat("x", maxTaskFiles)
	_, err = task.pod("x-1")
	require.ErrorContains(t, err, "200 are the most that fit into a pod")
}

func TestTitles(t *testing.T) {
	t.Parallel()
	for want, check := range map[string]project.Smoke{
		"ready":         {Name: "ready", HTTP: &project.SmokeHTTP{URL: "/"}},
		"GET /":         {HTTP: &project.SmokeHTTP{URL: "/", Method: "GET"}},
		"/":             {HTTP: &project.SmokeHTTP{URL: "/"}},
		"curl -f":       {Command: &project.SmokeCommand{Image: "curl", Argv: []string{"curl", "-f"}}},
		"curl":          {Command: &project.SmokeCommand{Image: "curl"}},
		"pytest a/b.py": {Pytest: &project.SmokePytest{Path: "a/b.py"}},
	} {
		require.Equal(t, want, title(check))
	}
}

// What the script prints last is what its log is read for.
func TestSmokeScriptPrintsItsEnd(t *testing.T) {
	t.Parallel()
	require.Contains(t, smokeScript, "print(\""+endChecks+"\", flush=True)\n")
}
