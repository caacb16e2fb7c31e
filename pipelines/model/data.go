package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// Source is where tables come from.
type Source = store.Source

// Folder is a source whose tables the engine has already.
type Folder struct {
	Directory *dagger.Directory
	// Name for people.
	Name string
}

func (f Folder) String() string { return f.Name }

// Fetch returns the folder.
func (f Folder) Fetch(context.Context, *dagger.Client, []string) (*dagger.Directory, error) {
	return f.Directory, nil
}

// Table is a table that was downloaded.
type Table struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	// Rows is known once the table was checked.
	Rows int `json:"rows"`
}

// Data are the tables of a run.
type Data struct {
	step.Result
	// Directory has the tables under their paths.
	Directory *dagger.Directory
	Tables    []Table
	// Source is where they came from, by its digest if it is an artifact; empty if it is none.
	Source string
}

// Version is the digest of the named tables' content: the data version that models and reports carry.
func (d Data) Version(names ...string) string {
	h := sha256.New()
	for _, t := range d.Tables {
		if len(names) == 0 || slices.Contains(names, t.Name) {
			fmt.Fprintf(h, "%s %s\n", t.Name, t.SHA256)
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Download fetches tables and names their content. What was downloaded is known by its content: what uses it runs again
// when that changes, and not when time passes.
type Download struct {
	Tables []project.Table
	Source Source
}

// Run fetches the tables. One that is missing is a failure.
func (d Download) Run(ctx context.Context, c *dagger.Client) (Data, error) {
	paths := make([]string, 0, len(d.Tables))
	for _, t := range d.Tables {
		paths = append(paths, t.Path)
	}
	source, pinned := d.Source, ""
	if movable, ok := source.(store.Pinner); ok {
		fixed, err := movable.Pin(ctx)
		if err != nil {
			return Data{}, fmt.Errorf("download from %s: %w", source, err)
		}
		source, pinned = fixed, fixed.String()
	}
	fetched, err := source.Fetch(ctx, c, paths)
	if err != nil {
		return Data{}, fmt.Errorf("download from %s: %w", source, err)
	}
	narrow := fetched.Filter(dagger.DirectoryFilterOpts{Include: paths})
	ctr, err := container(ctx, c, "digest.py")
	if err != nil {
		return Data{}, err
	}
	list := make([]map[string]string, 0, len(d.Tables))
	for _, t := range d.Tables {
		list = append(list, map[string]string{"name": t.Name, "path": t.Path})
	}
	if ctr, err = withSettings(ctr, list); err != nil {
		return Data{}, err
	}
	done, err := run(ctx, ctr.WithMountedDirectory(dataFolder, narrow), "digest", settingsFile, dataFolder)
	if err != nil {
		return Data{}, err
	}
	text, err := done.Stdout(ctx)
	if err != nil {
		return Data{}, err
	}
	data := Data{Directory: narrow, Source: pinned, Result: step.Result{Verdict: graph.Passed, Metrics: map[string]float64{}}}
	if err := json.Unmarshal([]byte(text), &data.Tables); err != nil {
		return Data{}, fmt.Errorf("read the tables' digests: %w", err)
	}
	var missing []string
	for _, t := range data.Tables {
		data.Metrics["tables"]++
		data.Metrics["bytes"] += float64(t.Bytes)
		data.Artifacts = append(data.Artifacts, report.Artifact{Name: t.Name, Reference: source.String() + "/" + t.Path, Digest: "sha256:" + t.SHA256})
		if t.SHA256 == "" {
			missing = append(missing, t.Path)
		}
	}
	if len(missing) > 0 {
		data.Verdict, data.Artifacts = graph.Failed, nil
		data.Reason = fmt.Sprintf("%s has no %s: correct data.path in the configuration, or the address", d.Source, strings.Join(missing, ", "))
	}
	return data, nil
}

// Validate checks tables against their contracts.
type Validate struct {
	Tables []project.Table
	Now    time.Time
}

// breach is a rule that a table breaks.
type breach struct {
	Column  string
	Rule    string
	Rows    int
	Samples []struct {
		File  string
		Line  int
		Value string
	}
}

func (b breach) String() string {
	text := strings.TrimPrefix(b.Column+": "+b.Rule, ": ")
	if b.Rows == 0 {
		return text
	}
	text += fmt.Sprintf(": broken by %d rows", b.Rows)
	if b.Rows == 1 {
		text = strings.TrimSuffix(text, "s")
	}
	var samples []string
	for _, s := range b.Samples {
		sample := fmt.Sprintf("%q on line %d", s.Value, s.Line)
		if s.File != "" {
			sample += " of " + s.File
		}
		samples = append(samples, sample)
	}
	if len(samples) > 0 {
		text += ", such as " + strings.Join(samples[:min(len(samples), 3)], ", ")
	}
	return text
}

// Run checks the tables; a breach is failed, and reports has all of them.
func (v Validate) Run(ctx context.Context, c *dagger.Client, data Data) (Data, error) {
	ctr, err := container(ctx, c, "contract.py")
	if err != nil {
		return Data{}, err
	}
	type settings struct {
		Name      string           `json:"name"`
		Path      string           `json:"path"`
		SHA256    string           `json:"sha256"`
		Digest    string           `json:"digest"`
		Separator string           `json:"separator"`
		NoHeader  bool             `json:"no_header"`
		Rows      map[string]int   `json:"rows"`
		Fresh     map[string]any   `json:"fresh"`
		Columns   []map[string]any `json:"columns"`
	}
	var tables []settings
	for _, t := range v.Tables {
		s := settings{Name: t.Name, Path: t.Path, SHA256: t.SHA256, Separator: t.Separator, NoHeader: t.NoHeader, Rows: map[string]int{"min": t.Rows.Min, "max": t.Rows.Max}}
		for _, found := range data.Tables {
			if found.Name == t.Name {
				s.Digest = found.SHA256
			}
		}
		if t.Fresh.Column != "" {
			s.Fresh = map[string]any{"column": t.Fresh.Column, "seconds": t.Fresh.Within.Seconds()}
		}
		for _, col := range t.Columns {
			s.Columns = append(s.Columns, map[string]any{
				"name": col.Name, "type": col.Type, "format": col.Format, "nullable": col.Nullable, "optional": col.Optional, "unique": col.Unique,
				"min": col.Min, "max": col.Max, "values": col.Values, "pattern": col.Pattern,
			})
		}
		tables = append(tables, s)
	}
	// By the day, so that a table that has not changed is not checked again the same day.
	now := v.Now.UTC().Truncate(24 * time.Hour).Add(24*time.Hour - time.Second)
	if ctr, err = withSettings(ctr, map[string]any{"now": now.Format(time.RFC3339), "tables": tables}); err != nil {
		return Data{}, err
	}
	done, err := run(ctx, ctr.WithMountedDirectory(dataFolder, data.Directory), "contract", settingsFile, dataFolder, reportsFolder+"/contract.json")
	if err != nil {
		return Data{}, err
	}
	text, err := done.File(ctx, reportsFolder+"/contract.json")
	if err != nil {
		return Data{}, err
	}
	var found []struct {
		Name     string
		Rows     int
		Breaches []breach
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return Data{}, fmt.Errorf("read what the contracts' check found: %w", err)
	}
	out := Data{Directory: data.Directory, Source: data.Source, Tables: slices.Clone(data.Tables), Result: step.Result{
		Verdict: graph.Passed, Metrics: map[string]float64{"tables": float64(len(found)), "rows": 0, "breaches": 0},
		Tools: image.Pinned(lock, "pandera", "pandas"), Reports: done.Container.Directory(reportsFolder).Filter(dagger.DirectoryFilterOpts{Include: []string{"*.json"}}),
	}}
	var reasons []string
	for i, table := range found {
		out.Tables[i].Rows = table.Rows
		out.Metrics["rows"] += float64(table.Rows)
		for _, b := range table.Breaches {
			out.Metrics["breaches"]++
			reasons = append(reasons, table.Name+": "+b.String())
			out.Findings = append(out.Findings, report.Finding{
				Tool: "contract", Rule: table.Name, Severity: report.High, File: out.Tables[i].Path, Message: b.String(),
			})
		}
	}
	if len(reasons) > 0 {
		out.Verdict = graph.Failed
		out.Reason = "the data breaks its contract: " + reasons[0]
		if len(reasons) > 1 {
			out.Reason += fmt.Sprintf(" (and %d more)", len(reasons)-1)
		}
		report.SortFindings(out.Findings)
	}
	return out, nil
}
