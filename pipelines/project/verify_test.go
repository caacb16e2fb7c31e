package project_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

const verified = `
environments:
  - name: staging
    manifests: backend/k8s
    url: http://api
    smoke:
      - http: {url: /readyz, json: {status: ready, "items[0].id": 7, models.churn: true}, max_latency: 500ms}
        secrets: {TOKEN: credentials/token}
      - name: cli
        command: {image: "curlimages/curl:8.11.1", argv: [curl, -f, http://api], user: 100}
        timeout: 1m
      - pytest: {path: ./backend/tests/unit, requirements: [httpx==0.28.1], python: "3.12"}
    load:
      script: ./loadtest/api.js
      env: {RATE: "20"}
      thresholds: {http_req_duration: ["p(95)<100"]}
      margin: 0.2
  - name: production
    manifests: backend/k8s
    strategy: canary
    analysis:
      max_p95: 250ms
      prometheus:
        url: http://prometheus.monitoring:9090
        queries: [{name: errors, query: 'sum(x{version="${version}"})', max_ratio: 1.5}]
    gates:
      from: staging
      window: {days: [mon, tue], from: "09:00", to: "17:00", zone: Europe/Berlin}
      approvers: [{name: Ada, key: ssh-ed25519 AAAA ada}]
      host_approval: true
`

func TestSmokeLoadAndGatesAreRead(t *testing.T) {
	t.Parallel()
	p, err := configured(t, verified)
	require.NoError(t, err)
	staging, production := p.Environments[0], p.Environments[1]
	require.Equal(t, 500*time.Millisecond, staging.Smoke[0].HTTP.MaxLatency)
	require.Equal(t, true, staging.Smoke[0].HTTP.JSON["models.churn"])
	require.Equal(t, 100, staging.Smoke[1].Command.User)
	require.Equal(t, "backend/tests/unit", staging.Smoke[2].Pytest.Path)
	require.Equal(t, "loadtest/api.js", staging.Load.Script)
	require.Equal(t, 250*time.Millisecond, production.Analysis.MaxP95)
	require.Equal(t, "mon", production.Gates.Window.Days[0])
	schema := compiledSchema(t)
	require.NoError(t, validate(t, schema, []byte(verified)))
	text, err := p.YAML()
	require.NoError(t, err)
	again, err := configured(t, string(text))
	require.NoError(t, err, string(text))
	require.Equal(t, p.Environments, again.Environments)
}

func TestMistakesInSmokeLoadAndGates(t *testing.T) {
	t.Parallel()
	staging := func(text string) string {
		return "environments:\n  - name: staging\n    manifests: backend/k8s\n    " + text + "\n"
	}
	production := func(text string) string {
		return "environments:\n  - {name: staging, manifests: backend/k8s}\n  - name: production\n    manifests: backend/k8s\n    " + text + "\n"
	}
	for text, want := range map[string]string{
		staging("smoke: [{name: x}]"):                                                                                     "environments[0].smoke[0]: a smoke test is one of http, command and pytest, and this has 0 of them",
		staging("smoke: [{http: {url: /}, command: {image: x}}]"):                                                         "and this has 2 of them",
		staging("smoke: [{http: {url: readyz}}]"):                                                                         `smoke[0].http.url: "readyz" is neither a path such as /readyz nor an address`,
		staging("smoke: [{http: {path: /}}]"):                                                                             `unknown key "path" in environments[0].smoke[0].http`,
		staging("smoke: [{http: {url: /, status: 20}}]"):                                                                  "20 is no status of HTTP",
		staging("smoke: [{http: {url: /}, secrets: {A: token}}]"):                                                         `smoke[0].secrets.A: "token" names no secret: write the Secret and the key in it`,
		staging("smoke: [{command: {argv: [x]}}]"):                                                                        "image is missing",
		staging("smoke: [{pytest: {path: backend/tests/unti}}]"):                                                          "smoke[0].pytest.path: backend/tests/unti does not exist: did you mean backend/tests/unit?",
		staging("load: {script: loadtest/appi.js}"):                                                                       "load.script: loadtest/appi.js does not exist: did you mean loadtest/api.js?",
		staging("load: {margin: -1}"):                                                                                     "load.margin: -1 is no share: write 10 % as 0.1",
		staging("load: {url: staging.example.com}"):                                                                       "is no web address",
		staging("load: {thresholds: {checks: []}}"):                                                                       "load.thresholds.checks: has no threshold",
		production("strategy: canary\n    analysis: {error_margin: 2}"):                                                   "analysis.error_margin: 2 is no share",
		production("strategy: canary\n    analysis: {prometheus: {url: http://p, queries: [{name: a, query: b}]}}"):       "queries[0]: it has no bound: give it max, max_ratio or both",
		production("gates: {from: stagin}"):                                                                               `gates.from: unknown environment "stagin": did you mean "staging"?`,
		"environments:\n  - {name: a, manifests: backend/k8s, gates: {from: b}}\n  - {name: b, manifests: backend/k8s}\n": "b stands below a: environments are in the order in which images pass them",
		production("gates: {from: production}"):                                                                           "production can't wait for itself",
		production("gates: {window: {days: [monday]}}"):                                                                   `window.days[0]: unknown day "monday"`,
		production("gates: {window: {from: 9am}}"):                                                                        `window.from: "9am" is no time of day: write it as "09:00"`,
		production("gates: {approvers: [{name: Ada, key: secret}]}"):                                                      "approvers[0].key: it is no public key",
	} {
		_, err := configured(t, text)
		var mistake *project.ConfigError
		require.ErrorAs(t, err, &mistake, text)
		require.Contains(t, err.Error(), want)
		require.Positive(t, mistake.Line, text)
	}
}
