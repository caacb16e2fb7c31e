package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// The script that runs in the pod, with a real server to ask.
func TestSmokeScript(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"status": "ready", "models": {"churn": true, "a.b": 2}, "items": [{"id": 7}], "rate": 1.0}`)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ready", http.StatusFound) })
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { time.Sleep(300 * time.Millisecond) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("Content-Type"), r.Header.Get("Authorization"))
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	check := func(name, path string, more map[string]any) map[string]any {
		c := map[string]any{
			"name": name, "url": server.URL + path, "method": "GET", "headers": map[string]string{}, "body": "", "status": 200,
			"contains": "", "matches": "", "json": nil, "max_latency": 0, "timeout": 5, "secrets": []string{},
		}
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	plan := map[string]any{"startup": 10, "checks": []any{
		check("ready", "/ready", map[string]any{"json": map[string]any{
			"status": "ready", "models.churn": true, `models["a.b"]`: 2, "items[0].id": 7, "rate": 1}}),
		check("values", "/ready", map[string]any{"json": map[string]any{"models.churn": 1}}),
		check("nothing there", "/ready", map[string]any{"json": map[string]any{"items[3].id": 7}}),
		check("no JSON", "/echo", map[string]any{"json": map[string]any{"a": 1}}),
		check("status", "/none", nil),
		check("moved", "/moved", map[string]any{"status": 302}),
		check("slow", "/slow", map[string]any{"max_latency": 0.1}),
		check("hangs", "/slow", map[string]any{"timeout": 0.1}),
		check("contains", "/echo", map[string]any{"contains": "POST"}),
		check("matches", "/echo", map[string]any{"matches": "^G.T "}),
		check("secret", "/echo", map[string]any{
			"method": "POST", "body": "{}", "headers": map[string]string{"Authorization": "Bearer ${SMOKE_TOKEN}", "Content-Type": "application/json"},
			"secrets": []string{"SMOKE_TOKEN"}, "contains": "nothing"}),
		check("refused", "", map[string]any{"url": "http://127.0.0.1:1/"}),
	}}
	text, err := json.Marshal(plan)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "checks.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	cmd := exec.Command(python(t), "smoke.py", file)
	cmd.Env = append(os.Environ(), "SMOKE_TOKEN=open-sesame")
	out, err := cmd.Output()
	require.NoError(t, err)

	got := map[string]SmokeCheck{}
	for line := range strings.Lines(string(out)) {
		var c SmokeCheck
		require.NoError(t, json.Unmarshal([]byte(line), &c))
		got[c.Name] = c
	}
	require.Len(t, got, 12)
	require.True(t, got["ready"].Passed, got["ready"].Wrong)
	require.Equal(t, 3, got["ready"].Tries, "two tries failed while it started")
	for _, name := range []string{"moved", "matches"} {
		require.True(t, got[name].Passed, got[name].Wrong)
	}
	for name, want := range map[string]Difference{
		"values":        {"models.churn = 1", "models.churn = true"},
		"nothing there": {"items[3].id = 7", "nothing at items[3].id"},
		"no JSON":       {"a body in JSON", "a body that is none"},
		"status":        {"status 200", "status 404"},
		"hangs":         {"status 200", "no answer: no answer within 0.1 s"},
		"contains":      {"a body that contains 'POST'", "a body of 5 characters without it"},
		"secret":        {"a body that contains 'nothing'", "a body of 40 characters without it"},
	} {
		require.False(t, got[name].Passed, name)
		require.Equal(t, []Difference{want}, got[name].Wrong, name)
		require.Equal(t, 1, got[name].Tries, "%s: nothing is tried twice once something has passed", name)
	}
	require.Equal(t, "an answer within 100 ms", got["slow"].Wrong[0].Expected)
	require.Contains(t, got["refused"].Wrong[0].Got, "refused")
	require.Equal(t, "POST application/json Bearer ***", got["secret"].Body)
	require.NotContains(t, string(out), "open-sesame")
}

// python returns the Python of this machine. Where there is none, the script is only run in pods, by the engine's tests.
func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	return path
}

func TestSmokeScriptGivesUp(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "checks.json")
	check := `{"name": "up", "url": "http://127.0.0.1:1/", "method": "GET", "headers": {}, "body": "", "status": 200, "contains": "",
		"matches": "", "json": null, "max_latency": 0, "timeout": 1, "secrets": []}`
	require.NoError(t, os.WriteFile(file, []byte(`{"startup": 1, "checks": [`+check+`, `+check+`]}`), 0o600))
	out, err := exec.Command(python(t), "smoke.py", file).Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 2)
	var first, second SmokeCheck
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &first))
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &second))
	require.Greater(t, first.Tries, 1)
	require.Equal(t, 1, second.Tries, "the time for the start is over")
}

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
