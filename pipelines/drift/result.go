package drift

import (
	"encoding/json"
	"fmt"
	"time"

	_ "embed"
)

// ResultSchema names the format of drift.json. A change that breaks its readers gets a new name.
const ResultSchema = "millrace/drift/v1"

// Level says how grave a change is.
type Level string

// The levels, the least grave first.
const (
	OK       Level = "ok"
	Warn     Level = "warn"
	Critical Level = "critical"
)

//go:embed drift.schema.json
var resultSchema []byte

// JSONSchema returns the JSON schema (draft 2020-12) of drift.json.
func JSONSchema() []byte { return append([]byte(nil), resultSchema...) }

// Result is what a comparison of two tables has found; drift.json is its JSON form.
type Result struct {
	// Schema is [ResultSchema].
	Schema string `json:"schema"`
	// Status is measured; inconclusive where there are too few rows; unusable where a table can't be read or has none.
	Status string `json:"status"`
	// Reason says why the status is not measured.
	Reason string `json:"reason"`
	// Time is when the comparison was made.
	Time time.Time `json:"time"`
	// Severity is the gravest alert's level.
	Severity Level `json:"severity"`
	// Score is the share of the columns that have moved, by weight.
	Score float64 `json:"score"`
	// Tables are the reference and the current table.
	Tables map[string]Table `json:"tables"`
	// Alerts are what somebody must know now, the gravest first.
	Alerts []Alert `json:"alerts"`
	// Problems are what is wrong with a table and is no drift.
	Problems []Problem `json:"problems"`
	// Columns are in the order of the reference.
	Columns []Column `json:"columns"`
	// Performance is nil where no label and prediction are configured.
	Performance *Performance `json:"performance"`
	// Settings are what the judgement went by.
	Settings Settings `json:"settings"`
	// Entry is what the history keeps.
	Entry Entry `json:"entry"`
	// Retraining is what followed.
	Retraining *Retraining `json:"retraining,omitempty"`
}

// Table is one of the two tables.
type Table struct {
	Rows    int `json:"rows"`
	Sampled int `json:"sampled"`
	// KSError is how far the sample's distribution may lie from the table's, with 99 %; 0 without sampling.
	KSError   float64 `json:"ks_error"`
	SHA256    string  `json:"sha256"`
	Malformed int     `json:"malformed_rows"`
}

// Test is one comparison.
type Test struct {
	// Name is distribution, shape, missing, invalid, new-categories, or the performance metric.
	Name   string `json:"name"`
	Method string `json:"method"`
	// P is the p-value, and Q the same corrected for the number of tests.
	P float64 `json:"p"`
	Q float64 `json:"q"`
	// Effect is the size of the change, in the unit of its test.
	Effect float64 `json:"effect"`
	Level  Level   `json:"level"`
	Severe bool    `json:"severe"`
	// Said is the change in words.
	Said string `json:"said"`
}

// Standing is how a column, or the performance, stands in the light of earlier runs.
type Standing struct {
	Subject string `json:"subject"`
	// Level is today's, and Alert the level at which somebody must know.
	Level  Level `json:"level"`
	Alert  Level `json:"alert"`
	Severe bool  `json:"severe"`
	// Minor says that the level was held down because the column hardly matters to the model.
	Minor bool  `json:"minor"`
	Worst *Test `json:"worst"`
	// Since is when the change was first seen, if not today.
	Since string `json:"since"`
}

// Column is one column, then and now.
type Column struct {
	Standing
	Name string `json:"name"`
	// Kind is number, category, text (whose lengths are compared) or time (which only is checked for the future).
	Kind string `json:"kind"`
	// Role is feature, prediction or target.
	Role   string  `json:"role"`
	Weight float64 `json:"weight"`
	Owner  string  `json:"owner"`
	Tests  []Test  `json:"tests"`
	// Statistics are null where they have no value.
	Statistics map[string]*float64 `json:"statistics"`
	Reference  Summary             `json:"reference"`
	Current    Summary             `json:"current"`
	New        []NewCategory       `json:"new_categories,omitempty"`
	Plot       *Plot               `json:"plot,omitempty"`
}

// Summary describes a column of one table.
type Summary struct {
	Rows       int      `json:"rows"`
	Missing    int      `json:"missing"`
	Invalid    int      `json:"invalid"`
	Examples   []string `json:"invalid_examples,omitempty"`
	Categories int      `json:"categories,omitempty"`
	Mean       *float64 `json:"mean,omitempty"`
	SD         *float64 `json:"sd,omitempty"`
	Min        *float64 `json:"min,omitempty"`
	P05        *float64 `json:"p05,omitempty"`
	P25        *float64 `json:"p25,omitempty"`
	Median     *float64 `json:"median,omitempty"`
	P75        *float64 `json:"p75,omitempty"`
	P95        *float64 `json:"p95,omitempty"`
	Max        *float64 `json:"max,omitempty"`
	// Latest is in seconds since 1970.
	Latest *float64 `json:"latest,omitempty"`
	Future int      `json:"in_the_future,omitempty"`
}

// NewCategory is a category that the reference does not have.
type NewCategory struct {
	Name string `json:"name"`
	Rows int    `json:"rows"`
}

// Plot holds the shares of bars: between edges for numbers, by label for categories.
type Plot struct {
	Edges     []float64 `json:"edges,omitempty"`
	Labels    []string  `json:"labels,omitempty"`
	Reference []float64 `json:"reference"`
	Current   []float64 `json:"current"`
}

// Performance is how well the model does on rows whose labels have arrived.
type Performance struct {
	Standing
	// Status is measured, waiting or impossible.
	Status  string   `json:"status"`
	Reason  string   `json:"reason"`
	Metrics []Metric `json:"metrics"`
	Tests   []Test   `json:"tests"`
}

// Metric is one figure, then and now.
type Metric struct {
	Name      string   `json:"name"`
	Reference Interval `json:"reference"`
	Current   Interval `json:"current"`
	Rows      int      `json:"rows"`
}

// Interval is a value with its 95 % interval.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Problem is something wrong with a table that is no drift.
type Problem struct {
	Name   string `json:"name"`
	Column string `json:"column"`
	Said   string `json:"said"`
	// Breach says that the table is unfit for the model.
	Breach bool `json:"breach"`
}

// Alert is what somebody must know now.
type Alert struct {
	// Subject is the column's name, or "(performance)".
	Subject string `json:"subject"`
	// Kind is feature, prediction, target, performance or contract.
	Kind   string  `json:"kind"`
	Level  Level   `json:"level"`
	Severe bool    `json:"severe"`
	Minor  bool    `json:"minor"`
	Test   string  `json:"test"`
	Method string  `json:"method"`
	Effect float64 `json:"effect"`
	Q      float64 `json:"q"`
	Said   string  `json:"said"`
	Since  string  `json:"since"`
	Owner  string  `json:"owner"`
}

// Contract says that a table breaks what the reference promises: no drift, and no cure by training.
func (a Alert) Contract() bool { return a.Kind == "contract" }

// Settings are what a judgement went by.
type Settings struct {
	Alpha      float64              `json:"alpha"`
	Severe     float64              `json:"severe"`
	Correction string               `json:"correction"`
	Runs       int                  `json:"runs"`
	Needed     int                  `json:"needed"`
	Minor      float64              `json:"minor"`
	Effects    map[string][]float64 `json:"effects"`
}

// DecodeResult reads the content of drift.json.
func DecodeResult(data []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(data, &r); err != nil {
		return Result{}, fmt.Errorf("read drift.json: %w", err)
	}
	if r.Schema != ResultSchema {
		return Result{}, fmt.Errorf("read drift.json: its schema is %q, and only %q can be read", r.Schema, ResultSchema)
	}
	return r, nil
}

// Encode returns r as the content of drift.json.
func (r Result) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write drift.json: %w", err)
	}
	return append(data, '\n'), nil
}

// Tests returns how many tests the p-values were corrected for.
func (r Result) Tests() int {
	n := 0
	for _, c := range r.Columns {
		n += len(c.Tests)
	}
	return n
}

// Watched returns the columns that have moved without an alert: seen too few times yet.
func (r Result) Watched() []Column {
	var watched []Column
	for _, c := range r.Columns {
		if c.Level != OK && c.Alert == OK {
			watched = append(watched, c)
		}
	}
	return watched
}
