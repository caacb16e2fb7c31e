package project

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// Drift says how the drift graph compares a table with its reference, and what it does about it. What is left out has the
// detector's default.
type Drift struct {
	// Name of the model or table, under which history and reports are kept; drift by default.
	Name string `yaml:"name,omitempty" jsonschema:"pattern=^[a-z0-9]+([._-][a-z0-9]+)*$"`
	// Reference is the table that the model was trained on: a file or folder of the source, or a web address.
	Reference string `yaml:"reference,omitempty"`
	// Current is the table of today, in the same forms.
	Current string `yaml:"current,omitempty"`
	// Contract is the table under data whose contract both tables must keep; by default the one whose file is called as the reference.
	Contract string `yaml:"contract,omitempty"`
	// Prediction is the column with the model's prediction.
	Prediction string `yaml:"prediction,omitempty"`
	// Target is the column with what came true; rows whose label has not arrived have none in it.
	Target string `yaml:"target,omitempty"`
	// Positive is the value of the target that a prediction is the probability of.
	Positive string `yaml:"positive,omitempty"`
	// Columns says more of single columns, by name.
	Columns map[string]DriftColumn `yaml:"columns,omitempty"`
	// Importances is a JSON file of the source with the importance of each column to the model, as numbers by name.
	Importances string `yaml:"importances,omitempty"`
	// Alpha is the corrected p-value below which a change is no chance; 0.01 by default.
	Alpha float64 `yaml:"alpha,omitempty" jsonschema:"minimum=0,maximum=1"`
	// Severe is the corrected p-value below which a critical change alerts at once; 0.0001 by default.
	Severe float64 `yaml:"severe,omitempty" jsonschema:"minimum=0,maximum=1"`
	// Correction of p-values for the number of tests: bh (Benjamini and Hochberg, the default), holm or none.
	Correction string `yaml:"correction,omitempty" jsonschema:"enum=bh,enum=holm,enum=none"`
	// Effects are the sizes of a change from which it is a warning, and critical, by test: distribution, shape, missing, invalid, new-categories, roc_auc, accuracy, brier, mae.
	Effects map[string][]float64 `yaml:"effects,omitempty"`
	// Needed is in how many of the last runs a change must have been seen for an alert; 2 by default.
	Needed int `yaml:"needed,omitempty" jsonschema:"minimum=1"`
	// Runs is how many of the last runs count for that; 3 by default.
	Runs int `yaml:"runs,omitempty" jsonschema:"minimum=1"`
	// Minor is the weight below which a column's drift is a warning at most; 0.1 by default.
	Minor float64 `yaml:"minor,omitempty" jsonschema:"minimum=0,maximum=1"`
	// MinRows is how many rows a table must have; 50 by default.
	MinRows int `yaml:"min_rows,omitempty" jsonschema:"minimum=2"`
	// Sample is on how many rows statistics are computed at most; 200000 by default.
	Sample int `yaml:"sample,omitempty" jsonschema:"minimum=1000"`
	// Retrain says what is done about critical drift.
	Retrain Retrain `yaml:"retrain,omitempty"`
}

// DriftColumn says more of one column.
type DriftColumn struct {
	// Weight is how much the column matters, from 0 to 1; by the importances where it is left out.
	Weight *float64 `yaml:"weight,omitempty" jsonschema:"minimum=0,maximum=1"`
	// Owner is who is asked about it.
	Owner string `yaml:"owner,omitempty"`
	// Ignore leaves the column out.
	Ignore bool `yaml:"ignore,omitempty"`
	// Kind is number, category, text or time, where the guess is wrong.
	Kind string `yaml:"kind,omitempty" jsonschema:"enum=number,enum=category,enum=text,enum=time"`
}

// Retrain says what is done about critical drift.
type Retrain struct {
	// Mode is no (the default), inline (train in the same run) or dispatch (ask another system to train).
	Mode string `yaml:"mode,omitempty" jsonschema:"enum=no,enum=inline,enum=dispatch"`
	// Cooldown is the time after a retraining in which there is no other one; 24h by default.
	Cooldown time.Duration `yaml:"cooldown,omitempty"`
	// Budget is how many retrainings there are in any seven days at most; 2 by default.
	Budget int `yaml:"budget,omitempty" jsonschema:"minimum=1"`
	// Dispatch says whom to ask.
	Dispatch Dispatch `yaml:"dispatch,omitempty"`
}

// Dispatch says whom to ask for a retraining. The token is a secret and no part of the configuration.
type Dispatch struct {
	// To is github (workflow_dispatch), gitlab (a pipeline trigger) or webhook; the CI host of the run by default.
	To string `yaml:"to,omitempty" jsonschema:"enum=github,enum=gitlab,enum=webhook"`
	// URL is the webhook's address, or that of the API of a GitHub or GitLab of one's own.
	URL string `yaml:"url,omitempty" jsonschema:"format=uri"`
	// Repository is owner/name at GitHub, and the project's path or number at GitLab; the run's own by default.
	Repository string `yaml:"repository,omitempty"`
	// Workflow is the file of the workflow at GitHub; training.yml by default.
	Workflow string `yaml:"workflow,omitempty"`
	// Ref is the branch to train on; the repository's default branch where it is known, else main.
	Ref string `yaml:"ref,omitempty"`
	// Inputs go along as the workflow's inputs or the pipeline's variables.
	Inputs map[string]string `yaml:"inputs,omitempty"`
}

// DriftTests are the names that drift.effects may have.
var DriftTests = []string{"distribution", "shape", "missing", "invalid", "new-categories", "roc_auc", "accuracy", "brier", "mae"}

var driftName = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*$`)

// validateDrift checks what types alone can't.
func (c *config) validateDrift(d Drift, tables []Table, l *listing) error {
	if d.Name != "" && !driftName.MatchString(d.Name) {
		return c.atPath("drift.name", "%q is no name: use lower-case letters, digits and single . _ - between them", d.Name)
	}
	if d.Contract != "" {
		names := make([]string, 0, len(tables))
		for _, t := range tables {
			names = append(names, t.Name)
		}
		if err := c.mustBeOf("drift.contract", "table", d.Contract, names); err != nil {
			return err
		}
	}
	if d.Importances != "" {
		if err := c.mustExist(l, "drift.importances", clean(d.Importances)); err != nil {
			return err
		}
	}
	for _, choice := range []struct {
		at, what, value string
		allowed         []string
	}{
		{"drift.correction", "correction", d.Correction, []string{"bh", "holm", "none"}},
		{"drift.retrain.mode", "mode", d.Retrain.Mode, []string{"no", "inline", "dispatch"}},
		{"drift.retrain.dispatch.to", "receiver", d.Retrain.Dispatch.To, []string{"github", "gitlab", "webhook"}},
	} {
		if choice.value != "" {
			if err := c.mustBeOf(choice.at, choice.what, choice.value, choice.allowed); err != nil {
				return err
			}
		}
	}
	for _, share := range []struct {
		at    string
		value float64
	}{{"drift.alpha", d.Alpha}, {"drift.severe", d.Severe}, {"drift.minor", d.Minor}} {
		if !(share.value >= 0 && share.value <= 1) {
			return c.atPath(share.at, "%v is out of range: use a number from 0 to 1", share.value)
		}
	}
	switch {
	case d.Needed < 0 || d.Runs < 0:
		return c.atPath("drift.runs", "needed and runs count runs, from 1 on")
	case cmp.Or(d.Needed, 2) > cmp.Or(d.Runs, 3):
		return c.atPath("drift.needed", "a change can't be seen in %d of %d runs: make needed (2 by default) no more than runs (3 by default)", cmp.Or(d.Needed, 2), cmp.Or(d.Runs, 3))
	case d.MinRows < 0 || d.MinRows == 1:
		return c.atPath("drift.min_rows", "%d is too few: use 2 or more", d.MinRows)
	case d.Sample != 0 && d.Sample < 1000:
		return c.atPath("drift.sample", "%d is too few: use 1000 or more", d.Sample)
	case d.Retrain.Cooldown < 0:
		return c.atPath("drift.retrain.cooldown", "%v is no time to wait: use a duration such as 24h", d.Retrain.Cooldown)
	case d.Retrain.Budget < 0:
		return c.atPath("drift.retrain.budget", "%d is out of range: use 1 or more", d.Retrain.Budget)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Columns)) {
		column, at := d.Columns[name], "drift.columns."+name
		if column.Kind != "" {
			if err := c.mustBeOf(at+".kind", "kind", column.Kind, []string{"number", "category", "text", "time"}); err != nil {
				return err
			}
		}
		if w := column.Weight; w != nil && !(*w >= 0 && *w <= 1) {
			return c.atPath(at+".weight", "%v is out of range: use a number from 0 to 1", *w)
		}
	}
	for _, test := range slices.Sorted(maps.Keys(d.Effects)) {
		at := "drift.effects." + test
		if err := c.mustBeOf(at, "test", test, DriftTests); err != nil {
			return err
		}
		if pair := d.Effects[test]; len(pair) != 2 || !(pair[0] >= 0 && pair[0] <= pair[1]) {
			return c.atPath(at, "%s: give two sizes, that of a warning and that of what is critical, such as [0.1, 0.2]", fmt.Sprint(pair))
		}
	}
	return nil
}
