package enginetest

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/canary"
	"github.com/millrace-ci/millrace/pipelines/load"
)

// A real Prometheus, which watches itself as if it were both versions.
const prometheusManifests = `
apiVersion: v1
kind: ConfigMap
metadata: {name: prometheus}
data:
  prometheus.yml: |
    global: {scrape_interval: 1s}
    scrape_configs:
      - job_name: both
        static_configs:
          - {targets: ["127.0.0.1:9090"], labels: {version: stable}}
          - {targets: ["localhost:9090"], labels: {version: canary}}
---
apiVersion: v1
kind: Service
metadata: {name: prometheus}
spec: {selector: {app: prometheus}, ports: [{port: 9090}]}
---
apiVersion: v1
kind: Pod
metadata: {name: prometheus-0, labels: {app: prometheus}}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65534, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: prometheus
      image: IMAGE
      command: [prometheus, --config.file=/etc/millrace/prometheus.yml, --storage.tsdb.path=/tmp/data]
      readinessProbe: {httpGet: {path: /-/ready, port: 9090}, periodSeconds: 1}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: config, mountPath: /etc/millrace}, {name: tmp, mountPath: /tmp}]
  volumes: [{name: config, configMap: {name: prometheus}}, {name: tmp, emptyDir: {}}]
`

func TestPrometheusIsASource(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, os.Getenv, engine.Lines(io.Discard))
	require.NoError(t, err)
	require.NoError(t, chosen.Ready(t.Context()))
	image, err := client(t).Container().From("debian:bookworm-slim").
		WithExec([]string{"apt-get", "update"}).
		WithExec([]string{"apt-get", "install", "--yes", "--no-install-recommends", "prometheus"}).
		Publish(t.Context(), chosen.Registry+"/enginetest/prometheus:latest")
	require.NoError(t, err)
	ns := restricted(t)
	serve(t, ns, "api")
	apply(t, ns, strings.ReplaceAll(prometheusManifests, "IMAGE", image))
	kubectl(t, "--namespace", ns, "wait", "pod/prometheus-0", "--for=condition=Ready", "--timeout=120s")
	time.Sleep(3 * time.Second) // a scrape is a second apart from the next
	source := client(t).Directory().WithNewFile("load.js", `import http from "k6/http";
export const options = { iterations: 5 };
export default function () { http.get(__ENV.BASE_URL + "/") }`)
	decide := func(t *testing.T, queries ...canary.Query) map[string]canary.Check {
		t.Helper()
		got, err := load.Canary{
			Namespace: ns, Stable: "http://api", New: "http://api", Script: "load.js", Rules: canary.Rules{MinRequests: 5},
			Prometheus: &load.Prometheus{URL: "http://prometheus:9090", Queries: queries},
		}.Run(t.Context(), client(t), source, cluster(t))
		require.NoError(t, err)
		checks := map[string]canary.Check{}
		for _, c := range got.Decision.Checks {
			checks[c.Name] = c
		}
		return checks
	}
	checks := decide(t,
		canary.Query{Name: "equal", Expression: `max(up{version="${version}"})`, MaxRatio: 1.1},
		canary.Query{Name: "above", Expression: `max(up{version="${version}"})`, Max: 0.5},
		canary.Query{Name: "unknown", Expression: `max(nothing{version="${version}", ns="${namespace}"})`, Max: 1},
	)
	require.Equal(t, canary.Promote, checks["equal"].Outcome, checks)
	require.Equal(t, canary.Abort, checks["above"].Outcome)
	require.Equal(t, "above of the canary is 1, and 0.5 is the most that is allowed", checks["above"].Reason)
	require.Equal(t, canary.Inconclusive, checks["unknown"].Outcome)

	checks = decide(t, canary.Query{Name: "broken", Expression: "up)", Max: 1})
	require.Equal(t, canary.Inconclusive, checks["prometheus"].Outcome)
	require.Contains(t, checks["prometheus"].Reason, "unexpected right parenthesis")
}
