package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// ChampionSchema names the format of a model's champion.json, and ManifestSchema that of a version's manifest.json.
const (
	ChampionSchema = "millrace/champion/v1"
	ManifestSchema = "millrace/model/v1"
)

// Registry keeps models in a store: every version below models/NAME/versions, and which one is the champion in
// models/NAME/champion.json.
type Registry struct {
	// Store may be nil: then there is no champion, and nothing can be registered.
	Store store.Store
}

// Champion says which version of a model is in use.
type Champion struct {
	Schema string `json:"schema"`
	Model  string `json:"model"`
	// Version is the digest of the champion's manifest; empty where there is none.
	Version string `json:"champion"`
	// History has what became champion, the newest last.
	History []Succession `json:"history"`
}

// Reasons of a succession.
const (
	trained    = "trained"
	rolledBack = "rolled back"
)

// Succession is a change of the champion.
type Succession struct {
	Version  string    `json:"version"`
	Previous string    `json:"previous,omitempty"`
	Time     time.Time `json:"time"`
	// Reason is trained, promoted or rolled back.
	Reason string `json:"reason"`
}

// Manifest tells what a version is made of.
type Manifest struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Data   string `json:"data"`
	// Source is the artifact that the tables came from, by its digest; empty if they came from elsewhere.
	Source     string             `json:"source,omitempty"`
	Tables     []Table            `json:"tables"`
	Commit     string             `json:"commit"`
	Image      string             `json:"image"`
	Command    []string           `json:"command"`
	Seed       int                `json:"seed"`
	Parameters map[string]string  `json:"parameters"`
	Libraries  map[string]string  `json:"libraries"`
	Metrics    map[string]float64 `json:"metrics"`
	// MetricsFile and Holdout are the files of that kind among the outputs.
	MetricsFile string `json:"metricsFile"`
	Holdout     string `json:"holdout"`
	Files       map[string]struct {
		SHA256 string `json:"sha256"`
		Bytes  int64  `json:"bytes"`
	} `json:"files"`
}

// Short returns the part of a version by which people know it.
func Short(version string) string {
	digits := strings.TrimPrefix(version, "sha256:")
	return digits[:min(12, len(digits))]
}

func (r Registry) folder(model, version string) string {
	return "models/" + model + "/versions/" + strings.Replace(version, ":", "-", 1)
}

func (r Registry) championFile(model string) string { return "models/" + model + "/champion.json" }

// tag makes the champion known by a tag, where the store has tags.
func (r Registry) tag(ctx context.Context, model, version string) error {
	tagger, ok := r.Store.(store.Tagger)
	if !ok {
		return nil
	}
	// Two runs at once may come here in another order than they wrote the file, which is what counts.
	for {
		if err := tagger.Tag(ctx, r.folder(model, version), "models/"+model+"/champion"); err != nil {
			return fmt.Errorf("%s is the champion of %s in %s, but its tag could not be moved: run it again: %w", Short(version), model, r.Store, err)
		}
		now, _, err := r.Champion(ctx, model)
		if err != nil || now.Version == version {
			return err
		}
		version = now.Version
	}
}

// Champion returns a model's champion, and the version of the file that says so, for [Registry.crown].
func (r Registry) Champion(ctx context.Context, model string) (Champion, string, error) {
	none := Champion{Schema: ChampionSchema, Model: model}
	if r.Store == nil {
		return none, "", nil
	}
	data, at, err := r.Store.Read(ctx, r.championFile(model))
	if err != nil {
		return none, "", fmt.Errorf("read the champion of %s in %s: %w", model, r.Store, err)
	}
	if data == nil {
		return none, "", nil
	}
	var c Champion
	if err := json.Unmarshal(data, &c); err != nil || c.Schema != ChampionSchema || !strings.HasPrefix(c.Version, "sha256:") {
		return none, "", fmt.Errorf("%s in %s can't be read: put a good copy in its place, or remove it to begin without a champion", r.championFile(model), r.Store)
	}
	return c, at, nil
}

// errRolledBack says that people have taken a version out of use, and no training may bring it back.
var errRolledBack = errors.New("the version was rolled back")

// wasRolledBack reports whether the last that became of a version was that it was rolled back.
func (c Champion) wasRolledBack(version string) bool {
	for _, s := range slices.Backward(c.History) {
		switch version {
		case s.Version:
			return false
		case s.Previous:
			return s.Reason == rolledBack
		}
	}
	return false
}

// errOvertaken says that another run made a champion meanwhile.
var errOvertaken = errors.New("another version became the champion meanwhile")

// crown makes a version the champion if the champion still is the one expected.
func (r Registry) crown(ctx context.Context, model, version, expected, reason string, now time.Time) error {
	c, at, err := r.Champion(ctx, model)
	if err != nil {
		return err
	}
	switch c.Version {
	case version:
		return r.tag(ctx, model, version)
	case expected:
	default:
		return errOvertaken
	}
	if reason == trained && c.wasRolledBack(version) {
		return errRolledBack
	}
	c.History = append(c.History, Succession{Version: version, Previous: c.Version, Time: now.UTC().Truncate(time.Second), Reason: reason})
	c.Version = version
	data, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	err = r.Store.Write(ctx, r.championFile(model), append(data, '\n'), at)
	if errors.Is(err, store.ErrChanged) {
		return errOvertaken
	}
	if err != nil {
		return fmt.Errorf("make %s the champion of %s in %s: %w", Short(version), model, r.Store, err)
	}
	return r.tag(ctx, model, version)
}

// Register puts a model that has passed its gates into the registry, with all that tells where it comes from, and makes
// it the champion once everything is there and was read back.
type Register struct {
	Registry Registry
	Model    project.Model
	Commit   string
	Now      time.Time
}

// Registered is a model in the registry.
type Registered struct {
	step.Result
	Version string
	// Unchanged says that the champion stayed who it was: this one already, or another since this one was rolled back.
	Unchanged bool
}

// Run registers. A version that was rolled back is kept, and does not become the champion again. The verdict is inconclusive when another run made a champion since the gates were passed: the model is kept then,
// and not promoted, because it was held against the one before.
func (r Register) Run(ctx context.Context, c *dagger.Client, e Evaluated) (Registered, error) {
	t, name := e.Trained, r.Model.Name
	if e.Same {
		out := r.registered(e.Champion.Version)
		out.Unchanged = true
		out.Reason = name + ": it is the champion already: data, code and image are the same"
		return out, r.Registry.tag(ctx, name, out.Version)
	}
	manifest := Manifest{
		Schema: ManifestSchema, Name: name, Data: t.Data.Version(r.Model.Inputs...), Source: t.Data.Source, Commit: r.Commit, Image: t.Image.Digest,
		Command: t.Command, Seed: r.Model.Seed, Parameters: t.Parameters, Libraries: t.Libraries, Metrics: e.Evaluation.Metrics,
		MetricsFile: r.Model.Metrics, Holdout: r.Model.Holdout,
	}
	for _, table := range t.Data.Tables {
		if slices.Contains(r.Model.Inputs, table.Name) {
			manifest.Tables = append(manifest.Tables, table)
		}
	}
	ctr, err := container(ctx, c, "manifest.py")
	if err != nil {
		return Registered{}, err
	}
	if ctr, err = withSettings(ctr, manifest); err != nil {
		return Registered{}, err
	}
	const folder = "/version"
	done, err := run(ctx, ctr.WithDirectory(folder, c.Directory().WithDirectory("outputs", t.Outputs).WithDirectory("evaluation", e.Files)), "manifest", settingsFile, folder)
	if err != nil {
		return Registered{}, err
	}
	text, err := done.Stdout(ctx)
	if err != nil {
		return Registered{}, err
	}
	var digests map[string]string
	if err := json.Unmarshal([]byte(text), &digests); err != nil {
		return Registered{}, fmt.Errorf("read the digests of %s: %w", name, err)
	}
	version := "sha256:" + digests["manifest.json"]
	files := done.Container.Directory(folder)
	if err := r.Registry.Store.Put(ctx, r.Registry.folder(name, version), files, digests); err != nil {
		return Registered{}, fmt.Errorf("upload %s to %s, whose champion stays as it was: %w", name, r.Registry.Store, err)
	}
	out := r.registered(version)
	out.Reports, out.Metrics = files, map[string]float64{"files": float64(len(digests))}
	switch err := r.Registry.crown(ctx, name, version, e.Champion.Version, trained, r.Now); {
	case errors.Is(err, errOvertaken):
		out.Verdict = graph.Inconclusive
		out.Reason = fmt.Sprintf("%s: another run made a champion meanwhile: %s is kept, and was not held against it; train again, or promote it", name, Short(version))
	case errors.Is(err, errRolledBack):
		out.Unchanged = true
		out.Reason = fmt.Sprintf("%s: %s was rolled back, and no training makes it the champion again; people do, by model promote %s %s", name, Short(version), name, Short(version))
	case err != nil:
		return out, err
	}
	return out, nil
}

// registered is the result for a version that lies in the registry.
func (r Register) registered(version string) Registered {
	return Registered{Version: version, Result: step.Result{
		Verdict:   graph.Passed,
		Artifacts: []report.Artifact{{Name: r.Model.Name, Reference: r.Registry.Store.String() + "/models/" + r.Model.Name, Digest: version}},
	}}
}

// Models lists the models.
func (r Registry) Models(ctx context.Context) ([]string, error) { return r.Store.List(ctx, "models") }

// Versions lists the versions of a model.
func (r Registry) Versions(ctx context.Context, model string) ([]string, error) {
	names, err := r.Store.List(ctx, "models/"+model+"/versions")
	for i, name := range names {
		names[i] = strings.Replace(name, "-", ":", 1)
	}
	return names, err
}

// Find returns the one version of a model that begins with the digits given.
func (r Registry) Find(ctx context.Context, model, digits string) (string, error) {
	all, err := r.Versions(ctx, model)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", fmt.Errorf("%s has no model %q", r.Store, model)
	}
	digits = strings.TrimPrefix(digits, "sha256:")
	found := slices.DeleteFunc(all, func(v string) bool { return !strings.HasPrefix(v, "sha256:"+digits) })
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%s has no version %s of %s: see model list", r.Store, digits, model)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%s has %d versions of %s that begin with %s: give more digits", r.Store, len(found), model, digits)
}

// Manifest returns what a version is made of.
func (r Registry) Manifest(ctx context.Context, model, version string) (Manifest, error) {
	var m Manifest
	name := r.folder(model, version) + "/manifest.json"
	data, _, err := r.Store.Read(ctx, name)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Schema != ManifestSchema {
		return m, fmt.Errorf("%s in %s can't be read: the version is damaged", name, r.Store)
	}
	return m, nil
}

// Promote makes a version the champion.
func (r Registry) Promote(ctx context.Context, model, version, reason string, now time.Time) error {
	if _, err := r.Manifest(ctx, model, version); err != nil {
		return err
	}
	c, _, err := r.Champion(ctx, model)
	if err != nil {
		return err
	}
	return r.crown(ctx, model, version, c.Version, reason, now)
}

// Rollback makes the version the champion that was it before, and returns it.
func (r Registry) Rollback(ctx context.Context, model string, now time.Time) (string, error) {
	c, _, err := r.Champion(ctx, model)
	if err != nil {
		return "", err
	}
	previous := ""
	for _, s := range slices.Backward(c.History) {
		// What was itself rolled back to has a predecessor of its own: a second rollback goes further back, and not forth.
		if s.Version == c.Version && s.Reason != rolledBack {
			previous = s.Previous
			break
		}
	}
	if previous == "" {
		return "", fmt.Errorf("%s had no champion before this one", model)
	}
	return previous, r.Promote(ctx, model, previous, rolledBack, now)
}
