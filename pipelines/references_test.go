package pipelines

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
)

// What training and drift run in is known before they run.
func TestReferencesOfTrainingAndDrift(t *testing.T) {
	t.Parallel()
	p, err := project.Detect(project.FS(fstest.MapFS{
		"millrace.yaml": {Data: []byte(`data: [{name: rows}]
images: [{name: hidden, dockerfile: hidden/Dockerfile, skip: true}]
models:
  - {name: named, image: trainer, inputs: [rows], command: [train]}
  - {name: built, dockerfile: hidden/Dockerfile, inputs: [rows], command: [train]}
  - {name: pulled, image: "registry.example.com/train:1", inputs: [rows], command: [train]}
drift: {retrain: {mode: inline}}
`)},
		"trainer/Dockerfile": {Data: []byte("FROM python:3.13-slim\n")},
		"hidden/Dockerfile":  {Data: []byte("FROM debian:12-slim\n")},
		"data/rows.csv":      {Data: []byte("id\n")},
	}), nil)
	require.NoError(t, err)
	of := func(g *graph.Graph) []string {
		plan := g.Plan()
		return References(p, func(node string) bool {
			return slices.ContainsFunc(plan.Nodes, func(n graph.PlanNode) bool { return n.Name == node && n.Skip == "" })
		})
	}
	all := []string{"debian:12-slim", "python:3.11-slim", "python:3.13-slim", "registry.example.com/train:1"}
	in := Inputs{Project: p}
	require.Empty(t, of(Training(in).Graph), "there is no data, so nothing runs")
	in.Training.Data = nowhere{}
	require.Equal(t, all, of(Training(in).Graph))
	in.Training.Models = []string{"pulled"}
	require.Equal(t, []string{"python:3.11-slim", "registry.example.com/train:1"}, of(Training(in).Graph))
	require.Equal(t, all, of(Drift(DriftInputs{Inputs: in}).Graph), "drift may train all of them in the same run")
	p.Drift.Retrain.Mode = "dispatch"
	require.Equal(t, []string{"python:3.11-slim"}, of(Drift(DriftInputs{Inputs: in}).Graph))
}

// nowhere has no tables.
type nowhere struct{ model.Source }
