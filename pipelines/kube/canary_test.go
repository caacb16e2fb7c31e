package kube

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShares(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ pods, weight, canary, stable int }{
		{1, 10, 1, 1}, {1, 50, 1, 1}, {2, 20, 1, 2}, {4, 20, 1, 4}, {10, 10, 1, 10}, {10, 50, 10, 10}, {4, 50, 4, 4},
		{10, 80, 10, 3}, {2, 90, 2, 1}, {3, 100, 3, 0},
	} {
		canary, stable := shares(test.pods, test.weight)
		require.Equal(t, [2]int{test.canary, test.stable}, [2]int{canary, stable}, "%d%% of %d", test.weight, test.pods)
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	objects, err := parse("r.yaml", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  rules:
    - backendRefs: [{name: api, port: 80}, {name: other, port: 80}]
    - backendRefs: [{name: other, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, type: LoadBalancer, clusterIP: 10.0.0.1, ports: [{port: 80, nodePort: 30080}]}
`)
	require.NoError(t, err)
	route, changed := weighed(objects[0], objects[1:], 20)
	require.True(t, changed)
	backends := route.list("spec", "rules")[0].list("backendRefs")
	require.Equal(t, []string{"api-stable", "api-canary", "other"}, []string{backends[0].text("name"), backends[1].text("name"), backends[2].text("name")})
	require.Equal(t, []int{80, 20}, []int{backends[0].number("weight"), backends[1].number("weight")})
	require.Equal(t, "api", objects[0].list("spec", "rules")[0].list("backendRefs")[0].text("name"), "the release's own route stays as it is")
	_, changed = weighed(objects[0], nil, 20)
	require.False(t, changed)

	only := track(objects[1], canarySuffix, Object{trackLabel: "canary"})
	require.Equal(t, "service/api-canary", only.ID().String())
	require.Equal(t, Object{"selector": map[string]any{"app": "api", trackLabel: "canary"}, "type": "ClusterIP", "ports": []any{map[string]any{"port": objects[1].at("spec", "ports").([]any)[0].(map[string]any)["port"]}}}, only.object("spec"))
}
