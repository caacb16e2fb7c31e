package project_test

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

// deployable has a folder of manifests and a chart.
var deployable = fstest.MapFS{
	"main.py":                     {Data: []byte("\n")},
	"k8s/app.yaml":                {Data: []byte("apiVersion: v1\n")},
	"charts/shop/Chart.yaml":      {Data: []byte("name: shop\n")},
	"charts/shop/values.yaml":     {Data: []byte("a: 1\n")},
	"overlays/staging/patch.yaml": {Data: []byte("a: 1\n")},
}

func environments(t *testing.T, text string) ([]project.Environment, error) {
	t.Helper()
	p, err := project.Detect(project.FS(deployable), &project.File{Name: "millrace.yaml", Data: []byte("environments:\n" + text)})
	if err != nil {
		return nil, err
	}
	return p.Environments, nil
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	got, err := environments(t, `
  - {name: staging, manifests: ./k8s/, replicas: {api: 0}}
  - {name: production, manifests: charts/shop, values: [charts/shop/values.yaml], strategy: canary, deadline: 90s}
  - {name: eu-west, manifests: k8s, kubeconfig: MY_CONFIG, branches: []}
`)
	require.NoError(t, err)
	require.Equal(t, []string{"develop"}, got[0].Branches)
	require.Equal(t, "k8s", got[0].Manifests)
	require.Equal(t, project.Rolling, got[0].Strategy)
	require.Equal(t, "KUBE_CONFIG_STAGING", got[0].Variable())
	require.Equal(t, []string{"main"}, got[1].Branches)
	require.Equal(t, []project.CanaryStep{{Weight: 20}, {Weight: 50}}, got[1].Steps)
	require.Equal(t, 90*time.Second, got[1].Deadline)
	require.Empty(t, got[2].Branches)
	require.Equal(t, "MY_CONFIG", got[2].Variable())
	got[2].Kubeconfig = ""
	require.Equal(t, "KUBE_CONFIG_EU_WEST", got[2].Variable())
}

func TestMistakesOfEnvironments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"- {manifests: k8s}":                                       `millrace.yaml:2:3: environments[0]: name is missing: name the environment, such as staging`,
		"- {name: Staging, manifests: k8s}":                        `"Staging" can't name an environment`,
		"- {name: a, manifests: k8s}\n- {name: a, manifests: k8s}": `millrace.yaml:3:10: environments[1].name: a second environment "a"`,
		"- {name: a}":                                   `manifests is missing, and there are several: name one of charts, k8s`,
		"- {name: a, manifests: k9s}":                   `k9s does not exist: did you mean k8s?`,
		"- {name: a, manifests: k8s, namespace: 'a b'}": `"a b" can't name a namespace`,
		"- {name: a, manifests: k8s, kubeconfig: 'apiVersion: v1 clusters: []'}":             `"apiVersion: …" can't name an environment variable: put the kubeconfig into a variable`,
		"- {name: a, manifests: k8s, values: [k8s/app.yaml]}":                                `values and release are for a Helm chart, and k8s has no Chart.yaml`,
		"- {name: a, manifests: k8s, replicas: {api: -1}}":                                   `-1 is no number of pods`,
		"- {name: a, manifests: k8s, strategy: cannary}":                                     `unknown strategy "cannary": did you mean "canary"?`,
		"- {name: a, manifests: k8s, steps: [{weight: 5}]}":                                  `steps and analysis are for a canary`,
		"- {name: a, manifests: k8s, strategy: canary, steps: [{weight: 50}, {weight: 20}]}": `weight 20 does not go up: the step before has 50`,
		"- {name: a, manifests: k8s, strategy: canary, steps: [{weight: 101}]}":              `weight 101 is no share of the traffic`,
		"- {name: a, manifests: k8s, deadline: soon}":                                        `"soon" is no duration`,
		"- {name: a, manifests: k8s, url: api}":                                              `"api" is no web address`,
		"- {name: a, manifests: k8s, gates: {from: b}}":                                      `unknown environment "b"`,
		"- {name: a, manifest: k8s}":                                                         `unknown key "manifest" in environments[0]: did you mean "manifests"?`,
	} {
		_, err := environments(t, text+"\n")
		require.ErrorContains(t, err, want, text)
	}
}
