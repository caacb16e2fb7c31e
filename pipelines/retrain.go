package pipelines

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// TrainOnDrift returns what trains in the same run on critical drift, for [DriftInputs.Train]: the training graph, of the
// model that has the name of the drift, or of all models where none has. It returns nil where there are no models.
//
// The verdict is passed only if every one of them was registered: a model that fails its gates leaves the drift as it is. It is skipped
// where all of them are the champions already.
func TrainOnDrift(in Inputs) func(context.Context, drift.Result) (graph.Verdict, string, error) {
	if len(in.Project.Models) == 0 {
		return nil
	}
	in = Retrained(in)
	return func(ctx context.Context, _ drift.Result) (graph.Verdict, string, error) {
		if can, why := registering(in); !can {
			return graph.Skipped, "nothing was trained: " + why, nil
		}
		if err := CheckTraining(in); err != nil {
			return graph.Errored, "", err
		}
		t := Training(in)
		result := t.Run(ctx, graph.KeepGoing())
		if result.Err != nil {
			return graph.Errored, "", fmt.Errorf("train: %w", result.Err)
		}
		var said, why []string
		trained := false
		for _, n := range result.Nodes {
			switch held, ok := n.Value.(interface{ Of() step.Result }); {
			case n.Verdict == graph.Failed || n.Verdict == graph.Errored || n.Verdict == graph.Inconclusive:
				said = append(said, fmt.Sprintf("%s %s: %s", n.Name, n.Verdict, n.Reason))
			case ok && strings.HasPrefix(n.Name, "register-"):
				if registered, _ := n.Value.(model.Registered); registered.Unchanged {
					why = append(why, n.Reason)
					continue
				}
				trained = true
				for _, a := range held.Of().Artifacts {
					said = append(said, "registered "+a.Name+" "+a.Pinned())
				}
			}
		}
		if result.Verdict == graph.Passed && !trained {
			return graph.Skipped, "nothing new came of it, newer tables are named by --data: " + strings.Join(why, "; "), nil
		}
		return result.Verdict, strings.Join(said, "; "), nil
	}
}

// Retrained narrows a training down to the model that has the name of the drift, if one has.
func Retrained(in Inputs) Inputs {
	if name := in.Project.Drift.Name; slices.ContainsFunc(in.Project.Models, func(m project.Model) bool { return m.Name == name }) {
		in.Training.Models = []string{name}
	}
	return in
}

// CheckRetraining reports what is missing for models that are trained on a cluster, as [CheckTraining] does.
func CheckRetraining(in Inputs) error { return CheckTraining(Retrained(in)) }
