package enginetest

import (
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

// Overlays and charts are rendered by their own tools, and deployed as a folder of manifests is.
func TestOverlaysAndCharts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	base := func() *dagger.Directory { return client(t).Directory() }
	overlay := base().
		WithNewFile("base/kustomization.yaml", "resources: [app.yaml]\n").
		WithNewFile("base/app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: written-for}\ndata: {COLOUR: blue}\n").
		WithNewFile("staging/kustomization.yaml", "resources: [../base]\nnamePrefix: staging-\nconfigMapGenerator: [{name: more, literals: [A=1], options: {disableNameSuffixHash: true}}]\n")
	chart := base().
		WithNewFile("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n").
		WithNewFile("chart/values.yaml", "colour: blue\n").
		WithNewFile("chart/templates/settings.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-settings}\ndata:\n  COLOUR: {{ required \"say which colour\" .Values.colour }}\n  KUBE: {{ .Capabilities.KubeVersion.Version }}\n  NAMESPACE: {{ .Release.Namespace }}\n").
		WithNewFile("chart/templates/tests/test.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: no, annotations: {helm.sh/hook: test}}\nspec: {containers: [{name: a, image: a}]}\n").
		WithNewFile("staging.yaml", "colour: red\n")
	deploy := func(src *dagger.Directory, m kube.Manifests) kube.Rollout {
		d := p.deploy("1")
		d.Manifests = m
		got, err := d.Run(t.Context(), client(t), src)
		require.NoError(t, err)
		t.Logf("%s: %s\n%s", got.Verdict, got.Reason, got.Output)
		return got
	}
	value := func(name, key string) string {
		return kubectl(t, "get", "configmap", name, "--namespace", p.namespace, "-o", "jsonpath={.data."+key+"}")
	}

	require.Equal(t, graph.Passed, deploy(overlay, kube.Manifests{Path: "staging"}).Verdict)
	require.Equal(t, "blue", value("staging-settings", "COLOUR"))
	require.Equal(t, "1", value("staging-more", "A"))
	broken := deploy(overlay.WithNewFile("staging/kustomization.yaml", "resources: [../nowhere]\n"), kube.Manifests{Path: "staging"})
	require.Equal(t, graph.Failed, broken.Verdict)
	require.Contains(t, broken.Reason, "staging: kustomize can't render it: ")
	require.Contains(t, broken.Reason, "nowhere")
	require.NotContains(t, broken.Reason, "/manifests/")

	require.Equal(t, graph.Passed, deploy(chart, kube.Manifests{Path: "chart", Values: []string{"staging.yaml"}, Release: "shop"}).Verdict)
	require.Equal(t, "red", value("shop-settings", "COLOUR"))
	require.Equal(t, "v1.34.4", value("shop-settings", "KUBE"))
	require.Equal(t, p.namespace, value("shop-settings", "NAMESPACE"))
	require.Empty(t, kubectl(t, "get", "configmap", "staging-settings", "--namespace", p.namespace, "--ignore-not-found", "-o", "name"), "of another release")
	broken = deploy(chart.WithNewFile("staging.yaml", "colour: null\n"), kube.Manifests{Path: "chart", Values: []string{"staging.yaml"}})
	require.Equal(t, graph.Failed, broken.Verdict)
	require.Contains(t, broken.Reason, "say which colour")

	invalid := deploy(base().WithNewFile("k8s/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {number: 5}\n"), kube.Manifests{Path: "k8s"})
	require.Equal(t, graph.Failed, invalid.Verdict)
	require.Len(t, invalid.Findings, 1)
	require.Equal(t, "k8s/a.yaml", invalid.Findings[0].File)
	require.Contains(t, invalid.Findings[0].Message, "configmap/a: data.number: got number, want string")
}
