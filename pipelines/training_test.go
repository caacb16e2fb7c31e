package pipelines_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
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
