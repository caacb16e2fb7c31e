// Package drift finds out whether a table has moved away from the one that a model was trained on, how sure that is,
// whether it matters, and what is to be done about it.
//
// [Detect] compares the tables in a container: its program is the Python package millrace_drift in the folder detector. What follows
// needs no container: [Ledger] keeps the history of runs, [Policy] decides on retraining, [Dispatch] asks for it, and
// [WriteHTML] shows all of it.
package drift

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Config says how tables are compared. Its zero value works.
type Config struct {
	// Prediction and Target are the columns with the model's prediction and with what came true; empty where there are none.
	Prediction string `json:"prediction,omitempty"`
	Target     string `json:"target,omitempty"`
	// Positive is the value of the target that a prediction is the probability of; guessed among 1, true and yes.
	Positive string `json:"positive,omitempty"`
	// Columns says more of single columns.
	Columns map[string]ColumnConfig `json:"columns,omitempty"`
	// Importances are the columns' importances to the model, in any unit, for columns without a weight.
	Importances map[string]float64 `json:"importances,omitempty"`
	// Alpha is the corrected p-value below which a change is no chance; 0.01 by default.
	Alpha *float64 `json:"alpha,omitempty"`
	// Severe is the corrected p-value below which a critical change alerts at once; 0.0001 by default.
	Severe *float64 `json:"severe,omitempty"`
	// Correction of the p-values for their number is bh (by default), holm or none.
	Correction string `json:"correction,omitempty"`
	// Effects are the sizes from which a change is a warning, and critical, by test.
	Effects map[string][2]float64 `json:"effects,omitempty"`
	// Needed is the number of the last Runs runs in which a change must have been seen; 2 of 3 by default.
	Needed int `json:"needed,omitempty"`
	Runs   int `json:"runs,omitempty"`
	// Minor is the weight below which a column's drift is a warning at most; 0.1 by default.
	Minor *float64 `json:"minor,omitempty"`
	// MinRows is the number of rows below which nothing can be told; 50 by default.
	MinRows int `json:"min_rows,omitempty"`
	// Sample is the number of rows that statistics are computed on, at most; 200,000 by default.
	Sample int `json:"sample,omitempty"`
}

// ColumnConfig says more of one column.
type ColumnConfig struct {
	// Weight is how much the column matters, from 0 to 1.
	Weight *float64 `json:"weight,omitempty"`
	// Owner is who is asked about it.
	Owner string `json:"owner,omitempty"`
	// Ignore leaves the column out.
	Ignore bool `json:"ignore,omitempty"`
	// Kind is number, category, text or time, where the guess is wrong.
	Kind string `json:"kind,omitempty"`
}

// Detect compares a current table with a reference.
//
// The comparison runs again when a table, the configuration or the day changes, the judgement at every run.
type Detect struct {
	// Name is what the table or the model is called in the report.
	Name   string
	Config Config
	// Now is the time of the run.
	Now time.Time
	// Python is the version of Python that it runs on; the library's default when it is empty.
	Python string
}

// Detected is what [Detect] found.
type Detected struct {
	step.Result
	// Found is the result; its Status tells whether there is one.
	Found Result
}

// detector is the program. Its tests are not part of it.
//
//go:embed detector/millrace_drift/*.py
var detector embed.FS

// The locks are written by
//
//	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate NAME.in -o NAME.txt
//
// in the folder detector.
//
//go:embed detector/requirements.txt
var requirements string

const (
	// Where things lie in the container.
	programFolder   = "/opt/detector"
	referenceFolder = "/reference"
	currentFolder   = "/current"
	reportsFolder   = "/reports"
)

// Tools are the versions of what the comparison is computed with.
func Tools() map[string]string { return image.Pinned(requirements) }

// program returns the detector's files.
func program(c *dagger.Client) (*dagger.Directory, error) {
	dir := c.Directory()
	err := fs.WalkDir(detector, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := detector.ReadFile(name)
		dir = dir.WithNewFile(strings.TrimPrefix(name, "detector/"), string(data))
		return err
	})
	return dir, err
}

// Run compares the tables and judges what it finds by the history of earlier runs.
//
// The verdict is passed when the tables could be compared, whatever was found: see Found.Severity. It is failed when a
// table can't be used, and inconclusive when it has too few rows.
//
// Metrics: columns, drifted, alerts, score_percent, reference_rows, current_rows.
func (d Detect) Run(ctx context.Context, c *dagger.Client, reference, current *dagger.Directory, history History) (Detected, error) {
	ctr, err := image.Toolbox(ctx, c, d.Python, requirements)
	if err != nil {
		return Detected{}, err
	}
	ctr = ctr.WithEnvVariable("PYTHONPATH", programFolder)
	code, err := program(c)
	if err != nil {
		return Detected{}, err
	}
	config, err := json.Marshal(d.Config)
	if err != nil {
		return Detected{}, fmt.Errorf("write the detector's configuration: %w", err)
	}
	entries, err := json.Marshal(history.Entries)
	if err != nil {
		return Detected{}, fmt.Errorf("write the history: %w", err)
	}
	if history.Entries == nil {
		entries = []byte("[]")
	}
	now := d.Now.UTC()
	run := func(on *dagger.Container, at time.Time, args ...string) (step.Executed, error) {
		argv := append([]string{image.ToolboxPython, "-m", "millrace_drift"}, args...)
		argv = append(argv, "--config", "/opt/config.json", "--now", at.Format(time.RFC3339))
		done, err := step.Exec(ctx, on, reportsFolder, args[0], argv)
		if err != nil {
			return done, err
		}
		if done.ExitCode != 0 {
			said, _ := done.Tail(ctx)
			return done, fmt.Errorf("the detector broke with exit code %d:\n%s", done.ExitCode, said)
		}
		return done, nil
	}
	// By the day, so that tables that have not changed are not measured again.
	measured, err := run(ctr.
		WithDirectory(programFolder, code).
		WithNewFile("/opt/config.json", string(config)).
		WithDirectory(reportsFolder, c.Directory()).
		WithMountedDirectory(referenceFolder, reference).
		WithMountedDirectory(currentFolder, current),
		now.Truncate(24*time.Hour), "measure", "--reference", referenceFolder, "--current", currentFolder, "--out", reportsFolder+"/measurement.json")
	if err != nil {
		return Detected{}, err
	}
	judged, err := run(measured.Container.
		WithNewFile("/opt/history.json", string(entries)).
		WithoutMount(referenceFolder).WithoutMount(currentFolder),
		now, "judge", "--measurement", reportsFolder+"/measurement.json", "--history", "/opt/history.json", "--out", reportsFolder+"/drift.json")
	if err != nil {
		return Detected{}, err
	}
	text, err := judged.File(ctx, reportsFolder+"/drift.json")
	if err != nil {
		return Detected{}, err
	}
	found, err := DecodeResult([]byte(text))
	if err != nil {
		return Detected{}, err
	}
	out := d.result(found, judged)
	if found.Status == "measured" {
		return out, nil // the report is written when it is known what was done about it
	}
	var page bytes.Buffer
	if err := WriteHTML(&page, cmp.Or(d.Name, "a table"), found, history); err != nil {
		return Detected{}, err
	}
	out.Reports = out.Reports.WithNewFile("drift.html", page.String())
	return out, nil
}

// result puts what was found into the form that all steps have.
func (d Detect) result(found Result, done step.Executed) Detected {
	out := Detected{Found: found, Result: step.Result{
		Verdict: graph.Passed, Reason: found.Reason, Tools: Tools(),
		Reports: done.Container.Directory(reportsFolder).Filter(dagger.DirectoryFilterOpts{Include: []string{"*.json", "*.stderr.txt"}}),
	}}
	switch found.Status {
	case "unusable":
		out.Verdict = graph.Failed
		return out
	case "inconclusive":
		out.Verdict = graph.Inconclusive
		return out
	}
	out.Findings = Findings(found)
	drifted := 0
	for _, c := range found.Columns {
		if c.Level != OK {
			drifted++
		}
	}
	out.Metrics = map[string]float64{
		"columns": float64(len(found.Columns)), "drifted": float64(drifted), "alerts": float64(len(found.Alerts)),
		"score_percent": found.Score * 100, "reference_rows": float64(found.Tables["reference"].Rows), "current_rows": float64(found.Tables["current"].Rows),
	}
	return out
}

// Findings lists what was found for people and for CI hosts: alerts, what is watched, and what is wrong with the tables.
func Findings(found Result) []report.Finding {
	var all []report.Finding
	add := func(rule string, severity report.Severity, format string, args ...any) {
		all = append(all, report.Finding{Tool: "drift", Rule: rule, Severity: severity, Message: fmt.Sprintf(format, args...)})
	}
	for _, a := range found.Alerts {
		severity := report.Medium
		if a.Level == Critical {
			severity = report.Critical
		}
		add(a.Test, severity, "%s", Sentence(a))
	}
	for _, c := range found.Watched() {
		add(c.Worst.Name, report.Low, "%s has moved, seen in too few runs yet for an alert: %s", c.Name, c.Worst.Said)
	}
	for _, p := range found.Problems {
		if p.Breach {
			continue // it is among the alerts
		}
		severity := report.Info
		if slices.Contains([]string{"column-added", "malformed", "future"}, p.Name) {
			severity = report.Low
		}
		add(p.Name, severity, "%s", strings.TrimPrefix(p.Column+": "+p.Said, ": "))
	}
	if p := found.Performance; p != nil && p.Status != "measured" {
		add("performance", report.Info, "performance is not known: %s", p.Reason)
	}
	return all
}

// Sentence says in one line what an alert is about: what moved, how sure that is, since when, and whom to ask.
func Sentence(a Alert) string {
	said := a.Subject + ": " + a.Said
	if a.Kind == "performance" {
		said = "the model has become worse: " + a.Said
	}
	if !a.Contract() {
		said += "; by chance: " + Chance(a.Q)
	}
	if a.Since != "" {
		if t, err := time.Parse(time.RFC3339, a.Since); err == nil {
			said += "; since " + t.UTC().Format(time.DateOnly)
		}
	}
	if a.Minor {
		said += "; it hardly matters to the model"
	}
	if a.Owner != "" {
		said += "; ask " + a.Owner
	}
	return said
}

// Chance says how likely a change of this size is by accident alone.
func Chance(q float64) string {
	switch {
	case q < 1e-9:
		return "less than 1 in a thousand million"
	case q < 1e-6:
		return "less than 1 in a million"
	case q < 0.001:
		return "1 in " + strconv.Itoa(int(1/q))
	case q < 0.1:
		return strconv.FormatFloat(q*100, 'g', 2, 64) + " %"
	default:
		return strconv.FormatFloat(q*100, 'f', 0, 64) + " %"
	}
}
