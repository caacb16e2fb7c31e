package enginetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

// smokeScript runs the script that smoke tests run in a pod, in a container with the secret that the checks name, and
// returns what it prints.
func smokeScript(t *testing.T, checks string) string {
	t.Helper()
	c := client(t)
	out, err := c.Container().From(image.Python("")).
		WithFile("/smoke.py", c.Host().Directory(repository+"/pipelines/kube").File("smoke.py")).
		WithNewFile("/checks.json", checks).
		WithEnvVariable("SMOKE_TOKEN", "open-sesame").
		WithExec([]string{"python", "/smoke.py", "/checks.json"}).
		Stdout(t.Context())
	require.NoError(t, err)
	return out
}

func smokeChecks(t *testing.T, out string) (all []kube.SmokeCheck) {
	t.Helper()
	out, whole := strings.CutSuffix(out, "-----END CHECKS-----\n")
	require.True(t, whole, out)
	for line := range strings.Lines(out) {
		var c kube.SmokeCheck
		require.NoError(t, json.Unmarshal([]byte(line), &c))
		all = append(all, c)
	}
	return all
}

// The script that runs in the pod, with a real server to ask.
func TestSmokeScript(t *testing.T) {
	needsEngine(t)
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
	server := reachable(t, mux)

	check := func(name, path string, more map[string]any) map[string]any {
		c := map[string]any{
			"name": name, "url": server + path, "method": "GET", "headers": map[string]string{}, "body": "", "status": 200,
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
	out := smokeScript(t, string(text))
	got := map[string]kube.SmokeCheck{}
	for _, c := range smokeChecks(t, out) {
		got[c.Name] = c
	}
	require.Len(t, got, 12)
	require.True(t, got["ready"].Passed, got["ready"].Wrong)
	require.Equal(t, 3, got["ready"].Tries, "two tries failed while it started")
	for _, name := range []string{"moved", "matches"} {
		require.True(t, got[name].Passed, got[name].Wrong)
	}
	for name, want := range map[string][2]string{
		"values":        {"models.churn = 1", "models.churn = true"},
		"nothing there": {"items[3].id = 7", "nothing at items[3].id"},
		"no JSON":       {"a body in JSON", "a body that is none"},
		"status":        {"status 200", "status 404"},
		"hangs":         {"status 200", "no answer: no answer within 0.1 s"},
		"contains":      {"a body that contains 'POST'", "a body of 5 characters without it"},
		"secret":        {"a body that contains 'nothing'", "a body of 40 characters without it"},
	} {
		require.False(t, got[name].Passed, name)
		require.Equal(t, []kube.Difference{{Expected: want[0], Got: want[1]}}, got[name].Wrong, name)
		require.Equal(t, 1, got[name].Tries, "%s: nothing is tried twice once something has passed", name)
	}
	require.Equal(t, "an answer within 100 ms", got["slow"].Wrong[0].Expected)
	require.Contains(t, got["refused"].Wrong[0].Got, "refused")
	require.Equal(t, "POST application/json Bearer ***", got["secret"].Body)
	require.NotContains(t, out, "open-sesame")
}

func TestSmokeScriptGivesUp(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	check := `{"name": "up", "url": "http://127.0.0.1:1/", "method": "GET", "headers": {}, "body": "", "status": 200, "contains": "",
		"matches": "", "json": null, "max_latency": 0, "timeout": 1, "secrets": []}`
	checks := smokeChecks(t, smokeScript(t, `{"startup": 1, "checks": [`+check+`, `+check+`]}`))
	require.Len(t, checks, 2)
	require.Greater(t, checks[0].Tries, 1)
	require.Equal(t, 1, checks[1].Tries, "the time for the start is over")
}
