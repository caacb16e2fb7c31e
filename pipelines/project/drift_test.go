package project_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDriftSection(t *testing.T) {
	t.Parallel()
	p, err := configured(t, `drift:
  name: churn
  reference: data/reference.csv
  target: Churn
  columns:
    id: {ignore: true}
    age: {weight: 0, owner: crm, kind: number}
  effects: {missing: [0.1, 0.3]}
  needed: 1
  runs: 1
  retrain: {mode: dispatch, cooldown: 48h, budget: 1, dispatch: {to: gitlab, repository: acme/scores, inputs: {MODEL: churn}}}
`)
	require.NoError(t, err)
	d := p.Drift
	require.Equal(t, "churn", d.Name)
	require.True(t, d.Columns["id"].Ignore)
	require.Nil(t, d.Columns["id"].Weight)
	require.Zero(t, *d.Columns["age"].Weight, "a weight of 0 is one")
	require.Equal(t, []float64{0.1, 0.3}, d.Effects["missing"])
	require.Equal(t, 48*time.Hour, d.Retrain.Cooldown)
	require.Equal(t, "churn", d.Retrain.Dispatch.Inputs["MODEL"])

	text, err := p.YAML()
	require.NoError(t, err)
	require.NoError(t, validate(t, compiledSchema(t), text))
}

func TestDriftMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"drift: {name: My Model}\n":                       `drift.name: "My Model" is no name`,
		"drift: {correction: bonferroni}\n":               `drift.correction: unknown correction "bonferroni": use one of bh, holm, none`,
		"drift: {alpha: 5}\n":                             "drift.alpha: 5 is out of range: use a number from 0 to 1",
		"drift: {needed: 4}\n":                            "drift.needed: a change can't be seen in 4 of 3 runs",
		"drift: {runs: 1}\n":                              "drift.needed: a change can't be seen in 2 of 1 runs",
		"drift: {min_rows: 1}\n":                          "drift.min_rows: 1 is too few",
		"drift: {sample: 10}\n":                           "drift.sample: 10 is too few",
		"drift: {importances: none.json}\n":               "drift.importances: none.json does not exist in the source tree",
		"drift: {effects: {mising: [0.1, 0.2]}}\n":        `drift.effects.mising: unknown test "mising": did you mean "missing"?`,
		"drift: {effects: {missing: [0.3, 0.1]}}\n":       "drift.effects.missing: [0.3 0.1]: give two sizes",
		"drift: {columns: {age: {weight: 2}}}\n":          "drift.columns.age.weight: 2 is out of range",
		"drift: {columns: {age: {kind: numbr}}}\n":        `drift.columns.age.kind: unknown kind "numbr": did you mean "number"?`,
		"drift: {columns: {age: {wieght: 1}}}\n":          `unknown key "wieght" in drift.columns.age: did you mean "weight"?`,
		"drift: {retrain: {mode: yes please}}\n":          `drift.retrain.mode: unknown mode "yes please": use one of no, inline, dispatch`,
		"drift: {retrain: {cooldown: -1h}}\n":             "drift.retrain.cooldown: -1h0m0s is no time to wait",
		"drift: {retrain: {dispatch: {to: githib}}}\n":    `drift.retrain.dispatch.to: unknown receiver "githib": did you mean "github"?`,
		"drift: {retrain: {dispatch: {token: secret}}}\n": `unknown key "token" in drift.retrain.dispatch`,
	} {
		_, err := configured(t, text)
		require.ErrorContains(t, err, want)
	}
}
