package pipelines

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// DriftInputs are what the drift graph is made for. Reference and Current are needed, unless it is only planned.
type DriftInputs struct {
	Inputs
	// Reference is the table that the model was trained on, and Current the one of today.
	Reference, Current drift.Source
	// Store keeps the history and the reports. Without one, only severe drift alerts, because nothing is known of earlier runs.
	Store store.Files
	// Mode overrules what the project says of retraining.
	Mode drift.Mode
	// Token is what a retraining is dispatched with.
	Token *dagger.Secret
	// Train trains in the same run and returns how that ended, and why; for the mode inline.
	Train func(ctx context.Context, found drift.Result) (verdict graph.Verdict, reason string, err error)
}

// DriftGraph is the drift graph with its nodes, so that steps can be added that use what they made.
type DriftGraph struct {
	*graph.Graph

	Data     *graph.Node[DriftData]
	Contract *graph.Node[step.Result]
	Detect   *graph.Node[drift.Detected]
	Checked  *graph.Node[DriftCheck]
	Retrain  *graph.Node[step.Result]
	Report   *graph.Node[step.Result]
	Alerts   *graph.Node[step.Result]
	Notify   *graph.Node[step.Result]
}

// DriftData is what a comparison needs.
type DriftData struct {
	Reference, Current *dagger.Directory
	Config             drift.Config
	History            drift.History
	// Aside says that a history could not be read and was put aside; empty if it could.
	Aside string
}

// DriftCheck is what was decided in the light of the history, which has this run in it.
type DriftCheck struct {
	step.Result
	Found    drift.Result
	Decision drift.Retraining
	History  drift.History
	// Lost is why the run could not be written into the history; empty if it was.
	Lost string
}

// Drift returns the drift graph: get the tables, check them against their contract, compare them, decide, retrain on
// critical drift, write the report, and fail if critical drift is left; at the end, whatever happened, notify.
//
// The run's verdict is failed for critical drift, unless a model was trained in this run that passed its gates; failed too
// for a table that breaks its contract or can't be used; inconclusive for too few rows; passed, with findings, for a warning.
func Drift(in DriftInputs) DriftGraph {
	c, config := in.Client, in.Project.Drift
	g := graph.New("drift")
	name := cmp.Or(config.Name, "drift")
	ledger := drift.Ledger{Store: in.Store, Name: name, Now: in.Now.UTC().Truncate(time.Second)}
	policy := drift.Policy{
		Mode: in.mode(), Cooldown: config.Retrain.Cooldown, Budget: config.Retrain.Budget,
	}
	// What was decided, and what became of it, for the report: it is written also where those nodes end without a value.
	var checked DriftCheck
	var outcome drift.Retraining

	data := graph.Add(g, "data", func(ctx context.Context) (DriftData, error) { return driftData(ctx, in, ledger) },
		graph.Doc("get the tables and the history"), graph.Retry(3, 2*time.Second), graph.Timeout(time.Hour))
	contract := graph.Add(g, "contract", func(ctx context.Context) (step.Result, error) { return driftContract(ctx, in, data.Value()) },
		graph.Needs(data), graph.Doc("check both tables against their contract"), graph.Retry(3, time.Second))
	detect := graph.Add(g, "detect", func(ctx context.Context) (drift.Detected, error) {
		d := data.Value()
		return drift.Detect{Name: name, Config: d.Config, Now: ledger.Now}.Run(ctx, c, d.Reference, d.Current, d.History)
	}, graph.Needs(data), graph.After(contract), graph.Doc("compare the current table with the reference"), graph.Retry(3, time.Second))
	check := graph.Add(g, "check", func(ctx context.Context) (_ DriftCheck, err error) {
		checked, err = driftCheck(ctx, ledger, policy, detect.Value().Found, data.Value())
		outcome = checked.Decision
		return checked, err
	}, graph.Needs(data, detect), graph.Doc("decide, and write the run into the history"))
	retrain := graph.Add(g, "retrain", func(ctx context.Context) (result step.Result, err error) {
		outcome, result, err = driftRetrain(ctx, in, ledger, check.Value())
		return result, err
	}, graph.Needs(check), graph.Doc("have the model trained again on critical drift"), graph.Retry(3, 5*time.Second))
	written := graph.Add(g, "report", func(ctx context.Context) (step.Result, error) {
		if checked.Found.Status == "" {
			checked = DriftCheck{Found: detect.Value().Found, History: data.Value().History, Lost: "it was ended before that"}
		}
		return driftReport(ctx, in, ledger, checked, outcome, data.Value().Aside)
	}, graph.Needs(data, detect), graph.After(check, retrain), graph.Always(), graph.Timeout(5*time.Minute), graph.Doc("write the report"))
	alerts := graph.Add(g, "alerts", func(context.Context) (step.Result, error) {
		return driftVerdict(check.Value().Found, outcome), nil
	}, graph.Needs(check), graph.After(retrain, written), graph.Doc("fail on critical drift"))
	told := Notify(g, in.Inputs)
	return DriftGraph{
		Graph: g, Data: data, Contract: contract, Detect: detect, Checked: check, Retrain: retrain, Report: written, Alerts: alerts, Notify: told,
	}
}

// mode is what is done on critical drift.
func (in DriftInputs) mode() drift.Mode {
	return cmp.Or(in.Mode, drift.Mode(in.Project.Drift.Retrain.Mode), drift.No)
}

// Inline reports whether critical drift has a model trained in the same run.
func (in DriftInputs) Inline() bool { return in.mode() == drift.Inline }

// CheckDrift says what the drift graph lacks, before anything runs.
func CheckDrift(in DriftInputs) error {
	switch in.mode() {
	case drift.Inline:
		if in.Train == nil {
			return errors.New("there is no training to run inline: describe models in millrace.yaml, or choose --retrain dispatch or no")
		}
	case drift.Dispatched:
		return dispatch(in).Check()
	}
	return nil
}

// driftData gets the tables, and what is known of earlier runs.
func driftData(ctx context.Context, in DriftInputs, ledger drift.Ledger) (DriftData, error) {
	var d DriftData
	var err error
	if in.Reference == nil || in.Current == nil {
		return d, errors.New("a reference and a current table are needed: name them with --reference and --current, or in millrace.yaml under drift")
	}
	if d.Reference, err = in.Reference.Fetch(ctx, in.Client); err != nil {
		return d, fmt.Errorf("the reference table: %w", err)
	}
	if d.Current, err = in.Current.Fetch(ctx, in.Client); err != nil {
		return d, fmt.Errorf("the current table: %w", err)
	}
	if d.Config, err = driftConfig(ctx, in.Project.Drift, in.Source); err != nil {
		return d, err
	}
	d.History, d.Aside, err = ledger.Load(ctx)
	return d, err
}

// driftConfig turns the project's section into what the detector takes.
func driftConfig(ctx context.Context, p project.Drift, src *dagger.Directory) (drift.Config, error) {
	given := func(v float64) *float64 {
		if v == 0 {
			return nil
		}
		return &v
	}
	config := drift.Config{
		Prediction: p.Prediction, Target: p.Target, Positive: p.Positive, Alpha: given(p.Alpha), Severe: given(p.Severe),
		Correction: p.Correction, Needed: p.Needed, Runs: p.Runs, Minor: given(p.Minor), MinRows: p.MinRows, Sample: p.Sample,
	}
	if len(p.Columns) > 0 {
		config.Columns = map[string]drift.ColumnConfig{}
		for name, column := range p.Columns {
			config.Columns[name] = drift.ColumnConfig(column)
		}
	}
	if len(p.Effects) > 0 {
		config.Effects = map[string][2]float64{}
		for test, pair := range p.Effects {
			config.Effects[test] = [2]float64(pair)
		}
	}
	if p.Importances == "" {
		return config, nil
	}
	text, err := src.File(path.Clean(p.Importances)).Contents(ctx)
	if err != nil {
		return config, fmt.Errorf("read the importances %s: %w", p.Importances, step.Explain(err))
	}
	if err := json.Unmarshal([]byte(text), &config.Importances); err != nil {
		return config, fmt.Errorf("read the importances %s: want an object of numbers by column: %w", p.Importances, err)
	}
	return config, nil
}

// driftCheck writes the run into the history and decides on retraining.
//
// Without the history nothing is decided: what it does not know of could be done twice.
func driftCheck(ctx context.Context, ledger drift.Ledger, policy drift.Policy, found drift.Result, data DriftData) (DriftCheck, error) {
	checked := DriftCheck{Found: found}
	claim := policy.Claim(ledger, found)
	var err error
	checked.History, err = ledger.Change(ctx, func(h *drift.History) { checked.Decision = claim(h) })
	if err != nil {
		checked.History, checked.Lost = data.History, err.Error()
		checked.Decision = drift.Retraining{Mode: policy.Mode, Time: ledger.Now, State: "none", Reason: "the history can't be written"}
		if len(found.Alerts) > 0 {
			err = fmt.Errorf("%s drift was found, %s, and nothing was decided: %w", found.Severity, strings.TrimSuffix(drift.Headline(found), "."), err)
		}
		return checked, err
	}
	checked.Verdict = graph.Passed
	if len(found.Alerts) > 0 {
		checked.Reason = fmt.Sprintf("%s: %s", found.Severity, strings.TrimSuffix(drift.Headline(found), "."))
	}
	if data.Aside != "" {
		checked.Findings = []report.Finding{{Tool: "drift", Rule: "history", Severity: report.Medium, Message: data.Aside}}
	}
	return checked, nil
}

// dispatch fills in whom to ask for a retraining: the CI host that the run takes place on, where nothing else is said.
func dispatch(in DriftInputs) drift.Dispatch {
	d := in.Project.Drift.Retrain.Dispatch
	to := drift.Dispatch{
		Receiver: drift.Receiver(d.To), URL: d.URL, Repository: cmp.Or(d.Repository, in.Ref.Repository), Workflow: d.Workflow,
		Ref: cmp.Or(d.Ref, in.Ref.DefaultBranch), Inputs: d.Inputs, Token: in.Token,
	}
	own, api := drift.Receiver(""), ""
	switch in.Ref.Host {
	case host.GitHub:
		own, api = drift.GitHub, "/api/v3"
	case host.GitLab:
		own, api = drift.GitLab, "/api/v4"
	}
	to.Receiver = cmp.Or(to.Receiver, own)
	// The run's token is for the server that it runs on.
	server, err := url.Parse(in.Ref.RepositoryURL)
	if err == nil && api != "" && server.Host != "" && server.Host != "github.com" && to.Receiver == own && to.URL == "" {
		to.URL = server.Scheme + "://" + server.Host + api
	}
	return to
}

// driftRetrain does what was decided, and keeps in the history what became of it.
func driftRetrain(ctx context.Context, in DriftInputs, ledger drift.Ledger, checked DriftCheck) (drift.Retraining, step.Result, error) {
	done := checked.Decision
	if done.State == "none" {
		return done, step.Skip("%s", done.Reason), nil
	}
	result := step.Result{Verdict: graph.Passed}
	var broke error
	switch done.Mode {
	case drift.Inline:
		if in.Train == nil {
			broke = errors.New("there is no training to run inline")
			done.State, done.Started = "failed", false
			break
		}
		result.Verdict, result.Reason, broke = in.Train(ctx, checked.Found)
		done.State = string(result.Verdict)
		switch {
		case broke != nil:
			done.State, done.Reason = "failed", broke.Error()
		case result.Verdict == graph.Skipped:
			// There was nothing to begin, so the next run may try.
			done.State, done.Started, done.Reason = "none", false, result.Reason
		}
	default:
		done.URL, broke = dispatch(in).Send(ctx)
		done.State = "dispatched"
		if broke != nil {
			// Where it surely never began, the next run may try.
			done.State, done.Started, done.Reason = "failed", errors.Is(broke, drift.ErrUnknown), broke.Error()
		}
		result.Reason = strings.TrimSpace("dispatched " + done.URL)
	}
	_, err := ledger.Change(context.WithoutCancel(ctx), func(h *drift.History) {
		for i := range h.Entries {
			if h.Entries[i].Time.Equal(checked.Found.Entry.Time) && h.Entries[i].Current == checked.Found.Entry.Current {
				h.Entries[i].Retraining = &done
			}
		}
	})
	return done, result, errors.Join(broke, err)
}

// driftReport writes what was found, for people and programs, among the reports and into the store.
func driftReport(ctx context.Context, in DriftInputs, ledger drift.Ledger, checked DriftCheck, outcome drift.Retraining, aside string) (step.Result, error) {
	found := checked.Found
	found.Retraining = &outcome
	found.Entry.Retraining = nil
	history := checked.History
	history.Entries = slices.Clone(history.Entries)
	for i, e := range history.Entries {
		if e.Retraining != nil && e.Time.Equal(found.Entry.Time) && e.Current == found.Entry.Current {
			history.Entries[i].Retraining = &outcome // it was written down before it began
		}
	}
	var notes []string
	if aside != "" {
		notes = append(notes, "Note: "+aside+".")
	}
	if checked.Lost != "" {
		notes = append(notes, "This run is not in the history: "+checked.Lost+".")
	}
	if in.Store == nil {
		notes = append(notes, "Without a store there is no history: only severe drift alerts. Name one with --state.")
	}
	var page bytes.Buffer
	if err := drift.WriteHTML(&page, ledger.Name, found, history, notes...); err != nil {
		return step.Result{}, err
	}
	data, err := found.Encode()
	if err != nil {
		return step.Result{}, err
	}
	result := step.Result{Verdict: graph.Passed, Reports: in.Client.Directory().WithNewFile("drift.html", page.String()).WithNewFile("drift.json", string(data))}
	for _, name := range slices.Sorted(maps.Keys(found.Tables)) {
		if t := found.Tables[name]; t.SHA256 != "" {
			result.Artifacts = append(result.Artifacts, report.Artifact{Name: name, Digest: "sha256:" + t.SHA256})
		}
	}
	if in.Store == nil {
		return result, nil
	}
	folder := "drift/" + ledger.Name + "/runs/" + ledger.Now.Format("20060102T150405Z")
	if current := found.Tables["current"].SHA256; current != "" {
		folder += "-" + current[:12] // two runs at the same second are of two tables
	}
	for file, content := range map[string][]byte{"drift.html": page.Bytes(), "drift.json": data} {
		err := in.Store.Write(ctx, folder+"/"+file, content, "")
		if err != nil && !errors.Is(err, store.ErrChanged) {
			return result, fmt.Errorf("store the report %s/%s: %w", folder, file, err)
		}
		result.Artifacts = append(result.Artifacts, report.Artifact{Name: file, Reference: folder + "/" + file})
	}
	return result, nil
}

// driftVerdict judges the run: critical drift fails it, unless a model that passed its gates has been trained since.
func driftVerdict(found drift.Result, outcome drift.Retraining) step.Result {
	result := step.Result{Verdict: graph.Passed}
	if len(found.Alerts) == 0 {
		return result
	}
	said := strings.TrimSuffix(drift.Headline(found), ".")
	switch {
	case found.Severity != drift.Critical:
		result.Reason = "warning: " + said
	case outcome.Mode == drift.Inline && outcome.State == string(graph.Passed):
		result.Reason = "critical drift, and a model trained anew that passed its gates: " + said
	default:
		result.Verdict = graph.Failed
		result.Reason = "critical drift, " + said + "; first: " + drift.Sentence(found.Alerts[0])
		if outcome.State == "none" {
			result.Reason += "; not retrained: " + outcome.Reason
		}
	}
	return result
}
