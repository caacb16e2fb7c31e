package pipelines_test

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// MLflow is told after the store, and only where there is one to tell.
func TestTrainingTellsMLflow(t *testing.T) {
	t.Parallel()
	in := pipelines.Inputs{
		Project: &project.Project{
			Data:   []project.Table{{Name: "rows", Path: "rows.csv"}},
			Models: []project.Model{{Name: "churn", Image: "training", Inputs: []string{"rows"}}},
		},
		Training: pipelines.TrainingInputs{Data: model.Folder{Name: "data"}, Store: store.Registry{Address: "oci://example.com/models"}},
	}
	planned := func() (graph.PlanNode, bool) {
		g := pipelines.Training(in)
		require.NoError(t, g.Check())
		nodes := g.Plan().Nodes
		i := slices.IndexFunc(nodes, func(n graph.PlanNode) bool { return n.Name == "mlflow-churn" })
		if i < 0 {
			return graph.PlanNode{}, false
		}
		return nodes[i], true
	}
	_, there := planned()
	require.False(t, there)
	in.Training.MLflow.URL = "https://mlflow.example.com"
	node, there := planned()
	require.True(t, there)
	require.Equal(t, []string{"register-churn"}, node.Needs)
	require.Empty(t, node.Skip)
	in.Training.Store = nil
	node, _ = planned()
	require.Contains(t, node.Skip, "register-churn")
}

func TestMLflowAddress(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"": true, "https://mlflow.example.com": true, "http://10.0.0.1:5000/prefix": true,
		"mlflow.example.com": false, "https://ada:secret@mlflow.example.com": false, "databricks": false,
	} {
		require.Equal(t, good, model.MLflow{URL: address}.Check() == nil, address)
	}
}

// lab is a project with a model for the engine, one for a cluster, and a grid for a cluster.
func lab(t *testing.T, ref host.Ref) pipelines.Inputs {
	t.Helper()
	p, err := project.Detect(project.FS(fstest.MapFS{
		"Dockerfile": {Data: []byte("FROM scratch\n")},
		"millrace.yaml": {Data: []byte(`data: [{name: rows}]
training: {kubernetes: {namespace: ml}}
models:
  - {name: small, dockerfile: Dockerfile, command: [x], inputs: [rows]}
  - {name: large, dockerfile: Dockerfile, command: [x], inputs: [rows], runner: kubernetes}
  - {name: grid, dockerfile: Dockerfile, command: [x], inputs: [rows], runner: kubernetes, grid: {depth: ["1", "2", "3"]}, choose: {metric: auc}}
`)},
	}), nil)
	require.NoError(t, err)
	return pipelines.Inputs{
		Project: p, Ref: ref, Registry: pipelines.Registry{Address: "registry.example.com/acme"},
		Training: pipelines.TrainingInputs{
			Data: model.Folder{Name: "data"}, Store: store.Bucket{URL: "s3://models"},
			Clusters: map[string]kube.Cluster{"KUBE_CONFIG_TRAINING": {}},
		},
	}
}

func TestTrainingOnAClusterIsPlanned(t *testing.T) {
	t.Parallel()
	in := lab(t, host.Ref{Event: host.Schedule})
	require.NoError(t, pipelines.CheckTraining(in))
	g := pipelines.Training(in)
	for _, node := range []string{"train-small", "train-large", "jobs-grid", "train-grid-1", "train-grid-3", "evaluate-grid"} {
		require.Empty(t, skipped(t, g.Graph, node), node)
	}
	require.Nil(t, g.Models["large"].Jobs)
	require.NotNil(t, g.Models["grid"].Jobs)
	for node, pulls := range map[string]bool{"train-small": false, "train-large": true, "jobs-grid": true} {
		refs := pipelines.References(in.Project, func(name string) bool { return name == node })
		require.Equal(t, pulls, slices.Contains(refs, image.KubeTools), node)
	}

	for ref, want := range map[*host.Ref]string{
		{Event: host.PullRequest, PullRequest: 7}: "a pull request gets no kubeconfig: ",
		{Event: host.PullRequest, Fork: true}:     "a fork gets no kubeconfig: ",
	} {
		in := lab(t, *ref)
		in.Training.Clusters = nil
		require.NoError(t, pipelines.CheckTraining(in), "nothing is missing for what does not run")
		g := pipelines.Training(in).Graph
		require.Equal(t, want+"large is trained on a cluster", skipped(t, g, "train-large"))
		require.Equal(t, want+"grid is trained on a cluster", skipped(t, g, "jobs-grid"))
		require.Empty(t, skipped(t, g, "train-small"), "the engine trains all the same")
	}
}

func TestWhatTrainingOnAClusterTakes(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*pipelines.Inputs){
		"--kubeconfig=env:KUBE_CONFIG_TRAINING": func(in *pipelines.Inputs) { in.Training.Clusters = nil },
		"through a bucket: name one":            func(in *pipelines.Inputs) { in.Training.Store = nil },
		"through a registry: name one":          func(in *pipelines.Inputs) { in.Registry.Address = "" },
	} {
		in := lab(t, host.Ref{Event: host.Manual})
		change(&in)
		require.ErrorContains(t, pipelines.CheckTraining(in), "large is trained on a cluster")
		require.ErrorContains(t, pipelines.CheckTraining(in), want)
		in.Training.Models = []string{"small"}
		require.NoError(t, pipelines.CheckTraining(in), "the engine needs none of that")
	}
}

// A call of the module has one kubeconfig, and trains on no other cluster than the one that was meant.
func TestOneClusterTrainsAll(t *testing.T) {
	t.Parallel()
	in := lab(t, host.Ref{Event: host.Manual})
	one := kube.Cluster{Host: "one"}
	clusters, err := pipelines.OneCluster(in, one)
	require.NoError(t, err)
	require.Equal(t, map[string]kube.Cluster{"KUBE_CONFIG_TRAINING": one}, clusters)

	grid := slices.IndexFunc(in.Project.Models, func(m project.Model) bool { return m.Name == "grid" })
	in.Project.Models[grid].Kubernetes = &project.Kubernetes{Namespace: "ml", Kubeconfig: "KUBE_CONFIG_GPU"}
	_, err = pipelines.OneCluster(in, one)
	require.EqualError(t, err, "large is trained on the cluster of KUBE_CONFIG_TRAINING and grid on that of KUBE_CONFIG_GPU, and one kubeconfig is given")
	in.Training.Models = []string{"grid", "small"}
	clusters, err = pipelines.OneCluster(in, one)
	require.NoError(t, err)
	require.Equal(t, map[string]kube.Cluster{"KUBE_CONFIG_GPU": one}, clusters)

	// What is trained again on drift is one model, if it has the drift's name.
	in.Training.Models, in.Project.Drift.Name = nil, "large"
	clusters, err = pipelines.OneCluster(pipelines.Retrained(in), one)
	require.NoError(t, err)
	require.Equal(t, map[string]kube.Cluster{"KUBE_CONFIG_TRAINING": one}, clusters)
}
