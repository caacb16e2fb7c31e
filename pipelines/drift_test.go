package pipelines_test

import (
	"context"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/project"
)

func TestDriftGraphCanBePlanned(t *testing.T) {
	t.Parallel()
	in := pipelines.DriftInputs{Inputs: pipelines.Inputs{Project: &project.Project{}, Now: time.Now()}}
	g := pipelines.Drift(in)
	require.NoError(t, g.Check())
	var names []string
	for _, n := range g.Plan().Nodes {
		names = append(names, n.Name)
		require.NotEmpty(t, n.Doc)
	}
	require.Equal(t, []string{"data", "contract", "detect", "check", "retrain", "report", "alerts", "notify"}, names)
}

func TestDriftWithoutTables(t *testing.T) {
	t.Parallel()
	result := pipelines.Drift(pipelines.DriftInputs{Inputs: pipelines.Inputs{Project: &project.Project{}}}).Run(t.Context())
	require.Equal(t, graph.Errored, result.Verdict)
	node, _ := result.Node("data")
	require.Contains(t, node.Reason, "name them with --reference and --current")
}

func TestCheckDrift(t *testing.T) {
	t.Parallel()
	in := pipelines.DriftInputs{Inputs: pipelines.Inputs{Project: &project.Project{}}}
	require.NoError(t, pipelines.CheckDrift(in))
	in.Mode = drift.Inline
	require.ErrorContains(t, pipelines.CheckDrift(in), "there is no training to run inline")
	in.Train = func(context.Context, drift.Result) (graph.Verdict, string, error) { return graph.Passed, "", nil }
	require.NoError(t, pipelines.CheckDrift(in))
	in.Mode = drift.Dispatched
	require.ErrorContains(t, pipelines.CheckDrift(in), "set drift.retrain.dispatch.to")
	in.Project.Drift.Retrain.Dispatch.To = "github"
	require.ErrorContains(t, pipelines.CheckDrift(in), "the repository is not known")
	in.Ref.Repository = "acme/scores"
	require.ErrorContains(t, pipelines.CheckDrift(in), "RETRAIN_TOKEN")
	in.Token = &dagger.Secret{}
	require.NoError(t, pipelines.CheckDrift(in))
}
