package model

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Evaluate chooses the best of a model's trainings, and holds it against the gates and the champion.
type Evaluate struct {
	Model project.Model
	// Registry has the champion; without a store there is none.
	Registry Registry
	// Commit is that of the code.
	Commit string
}

// Evaluated is a model that can be judged.
type Evaluated struct {
	step.Result
	// Trained is the training that was chosen.
	Trained Trained
	// Champion is the one that it was held against.
	Champion Champion
	// Evaluation is what was found, and Files have it with the plots and the model's card.
	Evaluation Evaluation
	Files      *dagger.Directory
	// Same says that the champion was trained by the same command, in the same image, on the same data.
	Same bool
}

// Evaluation is the content of evaluation.json.
type Evaluation struct {
	Verdict    graph.Verdict      `json:"verdict"`
	Reason     string             `json:"reason"`
	Chosen     int                `json:"chosen"`
	Parameters map[string]string  `json:"parameters"`
	Metrics    map[string]float64 `json:"metrics"`
	Gates      []GateResult       `json:"gates"`
}

// GateResult is what was found of one gate.
type GateResult struct {
	Metric  string        `json:"metric"`
	Kind    string        `json:"kind"`
	Verdict graph.Verdict `json:"verdict"`
	Reason  string        `json:"reason"`
}

const evaluationFolder = "/evaluation"

// Run evaluates. It passes whatever the gates say; see [Evaluated.Judge].
func (e Evaluate) Run(ctx context.Context, c *dagger.Client, trainings []Trained) (Evaluated, error) {
	m, first := e.Model, trainings[0]
	ctr, err := container(ctx, c, "evaluate.py", "plots.py", "card.py")
	if err != nil {
		return Evaluated{}, err
	}
	champion, _, err := e.Registry.Champion(ctx, m.Name)
	if err != nil {
		return Evaluated{}, err
	}
	settings := map[string]any{
		"name": m.Name, "description": m.Description, "metrics": m.Metrics, "holdout": m.Holdout, "segment": m.Segment,
		"choose": map[string]any{"metric": m.Choose.Metric, "lower": m.Choose.Lower},
		"seed":   m.Seed, "command": m.Command, "commit": e.Commit, "image": first.Image.Digest, "data": first.Data.Version(m.Inputs...),
		"libraries": first.Libraries,
	}
	crowned, err := e.manifest(ctx, champion)
	if err != nil {
		return Evaluated{}, err
	}
	same := len(trainings) == 1 && crowned.sameAs(first, m)
	if same {
		// It is not held against itself, and what was found of it the first time still stands.
		settings["commit"] = crowned.Commit
	}
	if champion.Version != "" && !same {
		files, err := e.Registry.Store.Get(ctx, e.Registry.folder(m.Name, champion.Version))
		if err != nil {
			return Evaluated{}, fmt.Errorf("get the champion of %s: %w", m.Name, err)
		}
		ctr = ctr.WithMountedDirectory("/champion", files.Directory("outputs"))
		settings["champion"] = "/champion"
	}
	gates, folders, tables := []map[string]any{}, []map[string]any{}, []map[string]any{} // an empty list is no null
	for _, g := range m.Gates {
		gates = append(gates, map[string]any{"metric": g.Metric, "min": g.Min, "max": g.Max, "margin": g.Margin, "lower": g.Lower})
	}
	for i, t := range trainings {
		folder := fmt.Sprintf("/candidates/%d", i+1)
		ctr = ctr.WithMountedDirectory(folder, t.Outputs)
		folders = append(folders, map[string]any{"folder": folder, "parameters": t.Parameters})
	}
	for _, t := range first.Data.Tables {
		for _, input := range m.Inputs {
			if t.Name == input {
				tables = append(tables, map[string]any{"name": t.Name, "sha256": t.SHA256, "rows": t.Rows})
			}
		}
	}
	settings["gates"], settings["trainings"], settings["tables"] = gates, folders, tables
	if ctr, err = withSettings(ctr, settings); err != nil {
		return Evaluated{}, err
	}
	done, err := run(ctx, ctr, "evaluate", settingsFile, evaluationFolder)
	if err != nil {
		return Evaluated{}, err
	}
	text, err := done.File(ctx, evaluationFolder+"/evaluation.json")
	if err != nil {
		return Evaluated{}, err
	}
	out := Evaluated{Champion: champion, Files: done.Container.Directory(evaluationFolder), Result: step.Result{Verdict: graph.Passed}}
	if err := json.Unmarshal([]byte(text), &out.Evaluation); err != nil {
		return Evaluated{}, fmt.Errorf("read the evaluation of %s: %w", m.Name, err)
	}
	out.Reports, out.Tools = out.Files, image.Pinned(lock, "numpy", "scikit-learn", "scipy")
	if out.Evaluation.Chosen < 0 {
		out.Verdict, out.Reason = graph.Failed, m.Name+": "+out.Evaluation.Reason
		return out, nil
	}
	out.Trained = trainings[out.Evaluation.Chosen]
	out.Same = crowned.sameAs(out.Trained, m)
	out.Metrics = map[string]float64{}
	for _, g := range m.Gates {
		if value, ok := out.Evaluation.Metrics[g.Metric]; ok {
			out.Metrics[g.Metric] = value
		}
	}
	return out, nil
}

// manifest returns the champion's; the zero value where there is none.
func (e Evaluate) manifest(ctx context.Context, champion Champion) (Manifest, error) {
	if champion.Version == "" {
		return Manifest{}, nil
	}
	return e.Registry.Manifest(ctx, e.Model.Name, champion.Version)
}

// sameAs reports whether a version comes of the same command in the same image on the same data as a training.
func (m Manifest) sameAs(t Trained, of project.Model) bool {
	return m.Image != "" && m.Image == t.Image.Digest && m.Data == t.Data.Version(of.Inputs...) &&
		slices.Equal(m.Command, t.Command) && m.Holdout == of.Holdout && m.MetricsFile == of.Metrics
}

// Judge is the gate: failed when one of them is, and the champion stays; inconclusive when noise hides whether the model
// is worse than the champion, and the champion stays as well.
func (e Evaluated) Judge(model string) step.Result {
	out := step.Result{Verdict: e.Evaluation.Verdict, Metrics: maps.Clone(e.Metrics)}
	if out.Verdict != graph.Passed {
		out.Reason = model + ": " + e.Evaluation.Reason
		if e.Champion.Version != "" {
			out.Reason += "; the champion stays " + Short(e.Champion.Version)
		}
	}
	for _, g := range e.Evaluation.Gates {
		if g.Verdict != graph.Passed {
			out.Findings = append(out.Findings, report.Finding{Tool: "gate", Rule: g.Metric, Severity: report.High, Message: model + ": " + g.Reason})
		}
	}
	return out
}
