package enginetest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/canary"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/load"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// restricted makes a namespace that admits only pods of the restricted standard.
func restricted(t *testing.T) string {
	t.Helper()
	ns := namespace(t)
	kubectl(t, "label", "namespace", ns, "pod-security.kubernetes.io/enforce=restricted")
	return ns
}

// serve deploys the test's service under a name, and waits until it runs.
func serve(t *testing.T, ns, name string, env ...string) {
	t.Helper()
	text, err := os.ReadFile("testdata/target.yaml")
	require.NoError(t, err)
	apply(t, ns, strings.ReplaceAll(string(text), "NAME", name))
	if len(env) > 0 {
		kubectl(t, append([]string{"--namespace", ns, "set", "env", "deployment/" + name}, env...)...)
	}
	kubectl(t, "--namespace", ns, "rollout", "status", "deployment/"+name, "--timeout=180s")
}

// requireNoTasks checks that what ran in pods of its own is gone.
func requireNoTasks(t *testing.T, ns string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return kubectl(t, "--namespace", ns, "get", "pods", "--selector", "app.kubernetes.io/managed-by=millrace", "--output", "name") == ""
	}, time.Minute, time.Second)
}

func TestSmoke(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	ns := restricted(t)
	serve(t, ns, "api", "STARTS=8")
	kubectl(t, "--namespace", ns, "create", "secret", "generic", "credentials", "--from-literal=token=open-sesame")
	source := client(t).Directory().
		WithNewFile("checks/test_live.py", `
import json, os, urllib.request

def test_ready():
    with urllib.request.urlopen(os.environ["BASE_URL"] + "/") as answer:
        assert json.load(answer)["status"] == os.environ.get("WANT", "ready")
`)
	python := func(program string) *project.SmokeCommand {
		return &project.SmokeCommand{Image: "python:3.11-slim", Argv: []string{"python", "-c", program}}
	}
	good := []project.Smoke{
		{HTTP: &project.SmokeHTTP{URL: "/starts", JSON: map[string]any{"status": "ready", "models.churn": true, "items[0].id": 7}}},
		{HTTP: &project.SmokeHTTP{URL: "/broken", Status: 500, Matches: `"st.tus"`}},
		{
			Name: "token", HTTP: &project.SmokeHTTP{URL: "/token", Headers: map[string]string{"Authorization": "Bearer ${TOKEN}"}, Contains: "Bearer open-"},
			Secrets: map[string]string{"TOKEN": "credentials/token"},
		},
		{Name: "command", Command: python(`import os, urllib.request as r; assert r.urlopen(os.environ["BASE_URL"] + "/").status == 200`)},
		{Pytest: &project.SmokePytest{Path: "checks/test_live.py"}},
	}
	smoke := kube.Smoke{Namespace: ns, URL: "http://api", Source: source, Checks: good}

	t.Run("passes", func(t *testing.T) {
		began := time.Now()
		got, err := smoke.Run(t.Context(), client(t), cluster(t))
		require.NoError(t, err)
		require.Equal(t, graph.Passed, got.Verdict, got.Reason+"\n"+got.Output)
		require.Len(t, got.Checks, 5)
		t.Logf("5 checks in 3 pods took %s", time.Since(began))
		requireNoTasks(t, ns)
	})

	t.Run("fails, each kind with what was expected and what came", func(t *testing.T) {
		smoke := smoke
		smoke.Startup = time.Second
		smoke.Checks = []project.Smoke{
			{Name: "fine", HTTP: &project.SmokeHTTP{URL: "/"}},
			{Name: "status", HTTP: &project.SmokeHTTP{URL: "/broken"}},
			{Name: "json", HTTP: &project.SmokeHTTP{URL: "/", JSON: map[string]any{"status": "asleep"}}},
			{Name: "latency", HTTP: &project.SmokeHTTP{URL: "/slow", MaxLatency: 100 * time.Millisecond}},
			{Name: "nobody", HTTP: &project.SmokeHTTP{URL: "http://nowhere/"}, Timeout: 2 * time.Second},
			{
				Name: "secret", HTTP: &project.SmokeHTTP{URL: "/token", Headers: map[string]string{"Authorization": "${TOKEN}"}, Contains: "another"},
				Secrets: map[string]string{"TOKEN": "credentials/token"},
			},
			{Name: "command", Command: python(`print("no such customer"); raise SystemExit(3)`)},
			{Name: "hangs", Command: python(`import time; time.sleep(60)`), Timeout: 3 * time.Second},
			{Name: "pytest", Pytest: &project.SmokePytest{Path: "checks/test_live.py"}, Env: map[string]string{"WANT": "asleep"}},
		}
		got, err := smoke.Run(t.Context(), client(t), cluster(t))
		require.NoError(t, err)
		require.Equal(t, graph.Failed, got.Verdict)
		require.Equal(t, "8 of 9 smoke tests failed; first status: expected status 200, and got status 500", got.Reason)
		messages := map[string]string{}
		for _, f := range got.Findings {
			messages[f.Rule] = f.Message
		}
		for name, want := range map[string]string{
			"status": "expected status 200, and got status 500", "json": `expected status = "asleep", and got status = "ready"`,
			"latency": "expected an answer within 100 ms, and got one after ", "nobody": "expected status 200, and got no answer: ",
			"secret": "expected a body that contains 'another'", "command": "expected exit code 0, and got exit code 3",
			"hangs": "expected exit code 0, and got no end within 3s", "pytest": "expected exit code 0, and got exit code 1",
		} {
			require.Contains(t, messages[name], want)
		}
		require.Contains(t, got.Output, "no such customer")
		require.Contains(t, got.Output, "AssertionError")
		require.NotContains(t, got.Output, "open-sesame")
		junit, err := got.Reports.File("junit.xml").Contents(t.Context())
		require.NoError(t, err)
		require.NotContains(t, junit, "open-sesame")
		tests, err := report.ParseJUnit(strings.NewReader(junit))
		require.NoError(t, err)
		require.Equal(t, report.Totals{Tests: 9, Failures: 8, Seconds: tests.Totals().Seconds}, tests.Totals())
		requireNoTasks(t, ns)
	})

	t.Run("a pod that the cluster does not take or start is an error that says why", func(t *testing.T) {
		smoke := smoke
		smoke.Namespace = "no-such-namespace"
		smoke.Checks = good[:1]
		_, err := smoke.Run(t.Context(), client(t), cluster(t))
		require.ErrorContains(t, err, `the cluster takes no pod for millrace-smoke in the namespace no-such-namespace`)
		require.ErrorContains(t, err, `namespaces "no-such-namespace" not found`)

		smoke.Namespace = ns
		smoke.Checks = []project.Smoke{{Command: &project.SmokeCommand{Image: "Not An Image"}}}
		_, err = smoke.Run(t.Context(), client(t), cluster(t))
		require.ErrorContains(t, err, "does not start: InvalidImageName")
		requireNoTasks(t, ns)
	})
}

// script is a load of 40 requests a second, for some seconds.
const script = `import http from "k6/http";
import { seconds } from "./lib/seconds.js";
export const options = {
  scenarios: { steady: { executor: "constant-arrival-rate", rate: 40, timeUnit: "1s", duration: seconds, preAllocatedVUs: 40 } },
  thresholds: { http_req_failed: ["rate<0.2"] },
};
export default function () {
  http.get(__ENV.BASE_URL + "/");
}
`

// What is judged by how fast it answers runs beside nothing else than this.
func TestUnderLoad(t *testing.T) {
	needsEngine(t)
	t.Run("load test", testLoad)
	t.Run("canary analysis", testCanaryAnalysis)
}

func testLoad(t *testing.T) {
	t.Parallel()
	ns := restricted(t)
	serve(t, ns, "api")
	source := client(t).Directory().WithNewFile("loadtest/load.js", script).WithNewFile("loadtest/lib/seconds.js", `export const seconds = "8s";`).
		WithNewFile("loadtest/broken.js", `import { nothing } from "./nowhere.js"; export default function () {}`).
		WithNewFile("loadtest/throws.js", `export default function () { throw new Error("no customer") }`)
	test := load.Test{Namespace: ns, URL: "http://api", Script: "loadtest/load.js", Timeout: 3 * time.Minute}
	run := func(t *testing.T, test load.Test) load.Result {
		t.Helper()
		got, err := test.Run(t.Context(), client(t), source, cluster(t))
		require.NoError(t, err)
		return got
	}

	first := run(t, test)
	requireNoTasks(t, ns)
	require.Equal(t, graph.Passed, first.Verdict, first.Reason+"\n"+first.Output)
	require.Equal(t, "not compared: no baseline yet", first.Reason)
	require.InDelta(t, 320, first.Metrics["requests"], 40)
	require.Greater(t, first.Metrics["p50_ms"], 29.0)
	require.GreaterOrEqual(t, first.Metrics["p99_ms"], first.Metrics["p95_ms"])
	require.Zero(t, first.Metrics["error_percent"])
	for _, name := range []string{"index.html", "k6.html", "summary.json", "comparison.json", "profile.json", "k6.log"} {
		size, err := first.Reports.File(name).Size(t.Context())
		require.NoError(t, err, name)
		t.Logf("%s: %d bytes", name, size)
	}
	require.Len(t, first.Profiles, 1, "the pod that was under load, and not the one that made it: %s", first.Output)
	require.Greater(t, first.Profiles[0].MaxMemory, 5.0)

	t.Run("a run like the one before is no worse", func(t *testing.T) {
		test := test
		test.Tolerance.Margin = 0.5 // this machine is shared
		again := run(t, test)
		require.Equal(t, graph.Passed, again.Verdict, again.Reason)
		require.True(t, again.Comparison.Compared)
		require.Equal(t, 1, again.Comparison.Runs)
	})

	t.Run("that failed", func(t *testing.T) {
		t.Run("a threshold of the configuration is k6's exit code 99", func(t *testing.T) {
			t.Parallel()
			test := test
			test.Thresholds = map[string][]string{"http_req_duration": {"p(95)<2"}}
			got := run(t, test)
			require.Equal(t, graph.Failed, got.Verdict)
			require.Regexp(t, `^thresholds crossed: http_req_duration: p\(95\)<2, and it was \d+`, got.Reason)
			require.Len(t, got.Findings, 1)
		})
		t.Run("a script with an error", func(t *testing.T) {
			t.Parallel()
			test := test
			test.Script = "loadtest/broken.js"
			got := run(t, test)
			require.Equal(t, graph.Failed, got.Verdict)
			require.Contains(t, got.Reason, `the script has an error: The moduleSpecifier "./nowhere.js" couldn't be found on local disk`)
		})
		t.Run("a script that throws", func(t *testing.T) {
			t.Parallel()
			test := test
			test.Script = "loadtest/throws.js"
			got := run(t, test)
			require.Equal(t, graph.Failed, got.Verdict)
			require.Contains(t, got.Reason, "the script made no request: Error: no customer")
		})
		t.Run("from the engine", func(t *testing.T) {
			t.Parallel()
			test := test
			test.External = "http://no-such-host"
			test.Script = "loadtest/throws.js"
			got := run(t, test)
			require.Equal(t, graph.Failed, got.Verdict)
			require.Contains(t, got.Reason, "the script made no request: Error: no customer")
		})
	})
	requireNoTasks(t, ns)

	t.Run("slower than the baseline", func(t *testing.T) {
		kubectl(t, "--namespace", ns, "set", "env", "deployment/api", "DELAY=0.15")
		kubectl(t, "--namespace", ns, "rollout", "status", "deployment/api", "--timeout=120s")
		got := run(t, test)
		require.Equal(t, graph.Failed, got.Verdict)
		require.Contains(t, got.Reason, "worse than the baseline: p50 ms is 1")
		require.Equal(t, 2, got.Comparison.Runs, "neither what failed nor what was worse is in the baseline")

		test := test
		test.Accept = true
		require.Equal(t, graph.Passed, run(t, test).Verdict)
		test.Accept = false
		test.Tolerance.Margin = 0.5
		again := run(t, test)
		require.Equal(t, graph.Passed, again.Verdict, again.Reason)
		require.Equal(t, 1, again.Comparison.Runs, "what was accepted by hand is the baseline alone")
	})
	requireNoTasks(t, ns)
}

func testCanaryAnalysis(t *testing.T) {
	t.Parallel()
	ns := restricted(t)
	serve(t, ns, "stable")
	serve(t, ns, "next")
	source := client(t).Directory().WithNewFile("loadtest/load.js", script).WithNewFile("loadtest/lib/seconds.js", `export const seconds = "6s";`).
		WithNewFile("loadtest/broken.js", `export default function ( {`)
	test := load.Canary{
		Namespace: ns, Stable: "http://stable", New: "http://next", Script: "loadtest/load.js", Timeout: 3 * time.Minute,
		Rules: canary.Rules{MinRequests: 150, Margin: 0.5},
	}
	decide := func(t *testing.T, test load.Canary) load.CanaryResult {
		t.Helper()
		began := time.Now()
		got, err := test.Run(t.Context(), client(t), source, cluster(t))
		require.NoError(t, err)
		t.Logf("%s after %s: %s", got.Decision.Outcome, time.Since(began), got.Reason)
		text, err := got.Reports.File("decision.json").Contents(t.Context())
		require.NoError(t, err)
		var decision canary.Decision
		require.NoError(t, json.Unmarshal([]byte(text), &decision))
		require.Equal(t, got.Decision, decision)
		return got
	}
	t.Run("equal", func(t *testing.T) {
		got := decide(t, test)
		require.Equal(t, canary.Promote, got.Decision.Outcome)
		require.Equal(t, graph.Passed, got.Verdict)
		require.Greater(t, got.Metrics["canary_requests"], 150.0)
	})
	t.Run("too little data", func(t *testing.T) {
		test := test
		test.Rules.MinRequests = 5000
		got := decide(t, test)
		require.Equal(t, graph.Inconclusive, got.Verdict)
		require.Contains(t, got.Reason, "too little data")
	})
	t.Run("a script with an error tells nothing", func(t *testing.T) {
		test := test
		test.Script = "loadtest/broken.js"
		got := decide(t, test)
		require.Equal(t, graph.Inconclusive, got.Verdict)
		require.Contains(t, got.Reason, "the load on the stable version broke off, with exit code 107 of k6: broken.js: Line 1")
	})
	t.Run("slow", func(t *testing.T) {
		kubectl(t, "--namespace", ns, "set", "env", "deployment/next", "DELAY=0.12")
		kubectl(t, "--namespace", ns, "rollout", "status", "deployment/next", "--timeout=120s")
		got := decide(t, test)
		require.Equal(t, canary.Abort, got.Decision.Outcome)
		require.Equal(t, graph.Failed, got.Verdict)
		require.Contains(t, got.Reason, "the canary is slower by more than 50 %")
	})
	t.Run("fails", func(t *testing.T) {
		kubectl(t, "--namespace", ns, "set", "env", "deployment/next", "DELAY=0.03", "FAILS=20")
		kubectl(t, "--namespace", ns, "rollout", "status", "deployment/next", "--timeout=120s")
		got := decide(t, test)
		require.Equal(t, canary.Abort, got.Decision.Outcome)
		require.Contains(t, got.Reason, "the canary fails more often")
	})
	requireNoTasks(t, ns)
}
