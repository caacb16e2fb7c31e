package enginetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// routes is the part of the Gateway API that a release with an HTTPRoute needs; no gateway acts on it here.
const routes = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: httproutes.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, for a test"}
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {kind: HTTPRoute, listKind: HTTPRouteList, plural: httproutes, singular: httproute}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
`

func TestCanary(t *testing.T) {
	t.Parallel()
	manifests := settings("app", "") + workload("app", "app")
	canaried := func(p *place) string {
		return kubectl(t, "get", "deployment,service", "--namespace", p.namespace, "-o", "name")
	}
	t.Run("is promoted", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.up()
		var weights []int
		var shares []float64
		d := p.deploy("2")
		d.Canary = &kube.Canary{
			Steps: []kube.CanaryStep{{Weight: 20}, {Weight: 60, Pause: time.Second}},
			Analyse: func(_ context.Context, r kube.Rollout, stable, canary kube.Track) (step.Result, error) {
				// Each of the two Services reaches one version alone, and the one that was there both.
				p.serves(stable.Service, "1")
				p.serves(canary.Service, "2")
				require.Equal(t, 80, canary.Port)
				require.Equal(t, 2, r.Revision)
				weights = append(weights, canary.Pods)
				shares = append(shares, canary.Share)
				return step.Result{Verdict: graph.Passed}, nil
			},
		}
		got := p.run(d, manifests)
		require.Equal(t, graph.Passed, got.Verdict)
		require.Equal(t, []int{1, 1}, weights)
		require.Equal(t, []float64{0.5, 0.5}, shares, "of two pods, one is half")
		p.serves("app", "2")
		require.NotContains(t, canaried(p), "canary")
		require.NotContains(t, canaried(p), "stable")
		p.requireStatuses(kube.Deployed, kube.Superseded)

		// The same pods once more need no canary.
		again := p.deploy("2")
		again.Canary = d.Canary
		require.Contains(t, p.run(again, manifests).Output, "no canary: no Deployment that runs already gets new pods")
		require.Len(t, weights, 2)
	})
	t.Run("is worse", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.up()
		d := p.deploy("2")
		d.Canary = &kube.Canary{
			Steps: []kube.CanaryStep{{Weight: 20}, {Weight: 50}},
			Analyse: func(context.Context, kube.Rollout, kube.Track, kube.Track) (step.Result, error) {
				return step.Result{Verdict: graph.Failed, Reason: "p95 went from 10 ms to 90 ms"}, nil
			},
		}
		got := p.run(d, manifests)
		require.Equal(t, graph.Failed, got.Verdict)
		require.Contains(t, "^"+got.Reason, "^the canary at 20% is not promoted: p95 went from 10 ms to 90 ms; rolled back: deployment/app runs "+appImage(t, "1"))
		p.serves("app", "1")
		require.NotContains(t, canaried(p), "canary")
		p.requireStatuses(kube.RolledBack, kube.Deployed)
	})
	t.Run("can't be judged", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.up()
		d := p.deploy("2")
		d.Canary = &kube.Canary{
			Steps: []kube.CanaryStep{{Weight: 20}},
			Analyse: func(context.Context, kube.Rollout, kube.Track, kube.Track) (step.Result, error) {
				return step.Result{Verdict: graph.Inconclusive, Reason: "12 requests, and 500 are needed"}, nil
			},
		}
		got := p.run(d, manifests)
		require.Equal(t, graph.Inconclusive, got.Verdict)
		require.Contains(t, canaried(p), "deployment.apps/app-canary")
		p.serves("app-stable", "1")
		p.requireStatuses(kube.Paused, kube.Deployed)
		state, err := kube.Environment{Name: "test", Namespace: p.namespace, Cluster: p.cluster}.Status(t.Context(), client(t))
		require.NoError(t, err)
		require.Contains(t, state.Text(), "PAUSED: the canary of revision 2")

		back, err := kube.Rollback{Environment: "test", Namespace: p.namespace, Cluster: p.cluster, Origin: kube.Origin{Holder: "ada"}}.Run(t.Context(), client(t))
		require.NoError(t, err)
		require.Equal(t, graph.Passed, back.Verdict, back.Reason)
		require.NotContains(t, canaried(p), "canary")
		p.serves("app", "1")
		p.requireStatuses(kube.RolledBack, kube.Deployed)
	})
	t.Run("by the weights of a route", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		apply(t, p.namespace, routes)
		kubectl(t, "wait", "crd/httproutes.gateway.networking.k8s.io", "--for=condition=Established", "--timeout=30s")
		routed := manifests + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\nspec: {rules: [{backendRefs: [{name: app, port: 80}]}]}\n"
		require.Equal(t, graph.Passed, p.run(p.deploy("1"), routed).Verdict)
		backends := func() string {
			return kubectl(t, "get", "httproute", "web", "--namespace", p.namespace, "-o", "jsonpath={range .spec.rules[0].backendRefs[*]}{.name}={.weight} {end}")
		}
		var seen []string
		d := p.deploy("2")
		d.Canary = &kube.Canary{
			Steps: []kube.CanaryStep{{Weight: 10}, {Weight: 50}},
			Analyse: func(_ context.Context, _ kube.Rollout, _, canary kube.Track) (step.Result, error) {
				seen = append(seen, backends())
				require.InDelta(t, []float64{0.1, 0.5}[len(seen)-1], canary.Share, 1e-9)
				return step.Result{Verdict: graph.Passed}, nil
			},
		}
		require.Equal(t, graph.Passed, p.run(d, routed).Verdict)
		require.Equal(t, []string{"app-stable=90 app-canary=10", "app-stable=50 app-canary=50"}, seen)
		require.Equal(t, "app=", backends())
		p.serves("app", "2")
	})
}
