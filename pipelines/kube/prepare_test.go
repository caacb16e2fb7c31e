package kube

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shop is a small release with all that a pod template can read.
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {COLOUR: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {TOKEN: canary-9f1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: api}}
    spec:
      initContainers:
        - {name: migrate, image: ghcr.io/acme/api:main}
      containers:
        - name: api
          image: shop/api
          envFrom: [{configMapRef: {name: settings}}]
        - {name: proxy, image: "envoyproxy/envoy:v1.30"}
      volumes:
        - {name: keys, projected: {sources: [{secret: {name: keys}}]}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec:
  jobTemplate:
    spec:
      template:
        spec:
          containers: [{name: batch, image: "batch:1", envFrom: [{secretRef: {name: elsewhere}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
`

func shopObjects(t *testing.T) []Object {
	t.Helper()
	objects, err := parse("shop.yaml", shop)
	require.NoError(t, err)
	return objects
}

func named(t *testing.T, objects []Object, id string) Object {
	t.Helper()
	for _, o := range objects {
		if o.ID().String() == id {
			return o
		}
	}
	t.Fatalf("there is no %s", id)
	return nil
}

func TestImagesGoWhereTheyAreMeant(t *testing.T) {
	t.Parallel()
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	images := map[string]string{"api": "127.0.0.1:5000/acme/api" + digest}
	objects := shopObjects(t)
	placed := place(objects, images)
	require.Equal(t, []Placed{
		{Workload: "deployment/api", Container: "migrate", Reference: images["api"], Built: "api"},
		{Workload: "deployment/api", Container: "api", Reference: images["api"], Built: "api"},
		{Workload: "deployment/api", Container: "proxy", Reference: "envoyproxy/envoy:v1.30"},
		{Workload: "cronjob/nightly", Container: "batch", Reference: "batch:1"},
	}, placed)
	require.Equal(t, images["api"], named(t, objects, "deployment/api").template().containers()[1].text("image"))
	for ref, want := range map[string]string{
		"api": "api", "api:latest": "api", "acme/api": "api", "127.0.0.1:5000/acme/api:1": "api", "127.0.0.1:5000/acme/api" + digest: "api",
		"ghcr.io/other/api" + digest: "", "api-gateway": "", "acme/api/worker": "", "acme/my-api": "", "not a reference": "",
	} {
		require.Equal(t, want, match(ref, images), ref)
	}
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	text := shop + `
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: kube-system}
subjects: [{kind: ServiceAccount, name: api, namespace: shop}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: api}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: shop}
`
	r := rendered{from: map[ID]string{}}
	require.NoError(t, r.add("shop.yaml", text))
	require.Equal(t, "shop", home(r.objects))
	r.settle("shop", "shop-staging")
	require.Equal(t, "shop-staging", named(t, r.objects, "deployment/api").ID().Namespace)
	require.Equal(t, "shop-staging", named(t, r.objects, "serviceaccount/api").ID().Namespace)
	require.Empty(t, named(t, r.objects, "clusterrole/shop").ID().Namespace)
	named(t, r.objects, "namespace/shop-staging")
	reader := named(t, r.objects, "rolebinding/reader")
	require.Equal(t, "kube-system", reader.ID().Namespace)
	require.Equal(t, "shop-staging", reader.list("subjects")[0].text("namespace"))
	for _, o := range r.objects {
		require.Equal(t, "shop.yaml", r.from[o.ID()])
	}
}

func TestAChangeOfWhatPodsReadRollsThem(t *testing.T) {
	t.Parallel()
	mark := func(change func(string) string) string {
		objects, err := parse("shop.yaml", change(shop))
		require.NoError(t, err)
		checksum(objects)
		require.Nil(t, named(t, objects, "cronjob/nightly").template().at("metadata", "annotations"), "nothing is known of a Secret that is not part of the release")
		return named(t, objects, "deployment/api").text("spec", "template", "metadata", "annotations", configAnnotation)
	}
	before := mark(func(s string) string { return s })
	require.Len(t, before, 64)
	require.Equal(t, before, mark(func(s string) string { return strings.Replace(s, "replicas: 2", "replicas: 3", 1) }))
	require.NotEqual(t, before, mark(func(s string) string { return strings.Replace(s, "blue", "red", 1) }), "the ConfigMap, by envFrom")
	require.NotEqual(t, before, mark(func(s string) string { return strings.Replace(s, "canary-9f1", "other", 1) }), "the Secret, by a projected volume")
}

func TestScale(t *testing.T) {
	t.Parallel()
	objects := shopObjects(t)
	require.Equal(t, []string{"nightly", "nobody"}, scale(objects, map[string]int{"api": 0, "nobody": 2, "nightly": 1}))
	require.Equal(t, 0, named(t, objects, "deployment/api").wanted())
	scaler, err := parse("hpa.yaml", "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: api, namespace: shop}\nspec: {scaleTargetRef: {kind: Deployment, name: api}}\n")
	require.NoError(t, err)
	yieldToAutoscalers(append(objects, scaler...))
	require.Nil(t, named(t, objects, "deployment/api").at("spec", "replicas"))
}

func TestSecretsAreRedacted(t *testing.T) {
	t.Parallel()
	secret := named(t, shopObjects(t), "secret/keys")
	require.NotContains(t, encode([]Object{redacted(secret)}), "canary-9f1")
	require.Contains(t, encode([]Object{redacted(secret)}), `"TOKEN"`)
	require.Equal(t, "canary-9f1", secret.text("stringData", "TOKEN"), "the original keeps its value")
}

func TestManifestMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: [":                                "m.yaml: it is no YAML: line 1: did not find expected node content",
		"kind: Service\n":                     "m.yaml: apiVersion is missing",
		"---\n---\napiVersion: v1\nkind: X\n": "m.yaml, document 3: metadata.name is missing",
		"- a\n":                               "m.yaml: it holds no keys and values, as a manifest does",
		"a: 1\na: 2\n":                        "m.yaml: it is no YAML: unmarshal errors:",
	} {
		_, err := parse("m.yaml", text)
		var fault *ManifestError
		require.ErrorAs(t, err, &fault, text)
		require.Contains(t, err.Error(), want)
	}
	r := rendered{from: map[ID]string{}}
	require.NoError(t, r.add("a.yaml", shop))
	require.ErrorContains(t, r.add("b.yaml", shop), "b.yaml: namespace/shop is in a.yaml already")

	lists, err := parse("list.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {mode: \"0644\"}}\n")
	require.NoError(t, err)
	require.Equal(t, "configmap/a", lists[0].ID().String())
	octal, err := parse("o.yaml", "apiVersion: v1\nkind: X\nmetadata: {name: a}\nspec: {defaultMode: 0644, big: 12345678901234567}\n")
	require.NoError(t, err)
	require.Equal(t, 420, octal[0].number("spec", "defaultMode"), "numbers are read as kubectl reads them")
	require.Contains(t, encode(octal), "12345678901234567")
}

func TestCleanedObjectsCanBeAppliedAgain(t *testing.T) {
	t.Parallel()
	o, err := decode([]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","uid":"1","resourceVersion":"2","managedFields":[],
		"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"x"}},"spec":{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[]},"status":{}}`))
	require.NoError(t, err)
	require.Equal(t, Object{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "a"}, "spec": map[string]any{"ports": []any{}}}, o.cleaned())
	o.set("None", "spec", "clusterIP")
	require.Equal(t, "None", o.cleaned().text("spec", "clusterIP"), "a headless Service stays one")
}

func TestOrder(t *testing.T) {
	t.Parallel()
	objects := shopObjects(t)
	sortObjects(objects)
	var kinds []string
	for _, o := range objects {
		kinds = append(kinds, o.text("kind"))
	}
	require.Equal(t, []string{"Namespace", "ConfigMap", "Secret", "Service", "CronJob", "Deployment"}, kinds)
}
