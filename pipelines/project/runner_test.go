package project_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

func TestRunners(t *testing.T) {
	t.Parallel()
	text := strings.TrimPrefix(strings.ReplaceAll(aModel, "    image: train\n", "    image: train\n    runner: kubernetes\n"), "\n")
	text += `  - {name: small, image: train, command: [x], inputs: [customers], runner: engine}
  - {name: other, image: train, command: [x], inputs: [customers], runner: kubernetes, kubernetes: {namespace: gpu, resources: {nvidia.com/gpu: "1"}, kubeconfig: OTHER}}
training: {kubernetes: {namespace: ml, node_selector: {pool: large}, tolerations: [{key: pool, value: large, effect: NoSchedule}], parallelism: 2}}
`
	p, err := configured(t, text)
	require.NoError(t, err)
	require.True(t, p.Models[0].OnKubernetes())
	require.Equal(t, &project.Kubernetes{
		Namespace: "ml", NodeSelector: map[string]string{"pool": "large"}, Parallelism: 2, StartWithin: 10 * time.Minute,
		Tolerations: []project.Toleration{{Key: "pool", Value: "large", Effect: "NoSchedule"}},
	}, p.Models[0].Kubernetes)
	require.Equal(t, "KUBE_CONFIG_TRAINING", p.Models[0].Kubernetes.Variable())
	require.False(t, p.Models[1].OnKubernetes())
	require.Nil(t, p.Models[1].Kubernetes)
	require.Equal(t, "gpu", p.Models[2].Kubernetes.Namespace)
	require.Equal(t, "OTHER", p.Models[2].Kubernetes.Variable())
	require.NoError(t, validate(t, compiledSchema(t), []byte(text)))

	all, err := configured(t, aModel+"training: {runner: kubernetes, kubernetes: {namespace: ml}}\n")
	require.NoError(t, err)
	require.Equal(t, "ml", all.Models[0].Kubernetes.Namespace, "what training says holds for models that don't say it")
	plain, err := configured(t, aModel)
	require.NoError(t, err)
	require.False(t, plain.Models[0].OnKubernetes())
}

func TestMistakesInRunners(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"runner: kubernets":                                                                                    `unknown runner "kubernets": did you mean "kubernetes"?`,
		"runner: kubernetes":                                                                                   "say under kubernetes which namespace",
		"kubernetes: {namespace: ml}":                                                                          "add runner: kubernetes, or remove this",
		"runner: engine, kubernetes: {namespace: ml}":                                                          "it is trained on the engine",
		"runner: kubernetes, kubernetes: {parallelism: 1}":                                                     "namespace is missing",
		"runner: kubernetes, kubernetes: {namespace: ML}":                                                      "can't name a namespace",
		"runner: kubernetes, kubernetes: {namespace: ml, kubeconfig: 'apiVersion: v1'}":                        "can't name an environment variable",
		"runner: kubernetes, kubernetes: {namespace: ml, parallelism: -1}":                                     "is no number of trainings",
		"runner: kubernetes, kubernetes: {namespace: ml, start_within: -1s}":                                   "is too short",
		"runner: kubernetes, kubernetes: {namespace: ml, node_selector: {'a b': x}}":                           "is no label of a node",
		"runner: kubernetes, kubernetes: {namespace: ml, node_selector: {a: 'x y'}}":                           "is no label of a node",
		"runner: kubernetes, kubernetes: {namespace: ml, tolerations: [{value: x}]}":                           "key is missing",
		"runner: kubernetes, kubernetes: {namespace: ml, tolerations: [{key: a, operator: Exists, value: x}]}": "compares no value",
		"runner: kubernetes, kubernetes: {namespace: ml, tolerations: [{key: a, operator: Equals}]}":           `did you mean "Equal"?`,
		"runner: kubernetes, kubernetes: {namespace: ml, tolerations: [{key: a, effect: NoSchedul}]}":          `did you mean "NoSchedule"?`,
		"runner: kubernetes, kubernetes: {namespace: ml, resources: {memory: 1Gi}}":                            "is given by memory_mib",
		"runner: kubernetes, kubernetes: {namespace: ml, resources: {nvidia.com/gpu: many}}":                   "is no quantity",
		"runner: kubernetes, kubernetes: {namespace: ml, pull_secrets: [A]}":                                   "can't name a Secret",
		"runner: kubernetes, kubernetes: {namespace: ml, node_selectors: {a: b}}":                              `did you mean "node_selector"?`,
	} {
		_, err := configured(t, "data: [{name: a}]\nmodels:\n  - {name: m, image: i, command: [x], inputs: [a], "+text+"}\n")
		var mistake *project.ConfigError
		require.ErrorAs(t, err, &mistake, text)
		require.Contains(t, mistake.Problem, want, text)
		require.Equal(t, 3, mistake.Line, text)
		require.Equal(t, 2, mistake.ExitCode())
	}
	_, err := configured(t, "training: {runner: kubernetes}\n")
	require.ErrorContains(t, err, "millrace.yaml:1:20: training.runner: say under kubernetes which namespace")
}
