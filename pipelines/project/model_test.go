package project_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

const aModel = `
data: [{name: customers, columns: [{name: age, type: integer, min: 0}]}]
models:
  - name: churn
    image: train
    command: [python, train.py, "{data.customers}", "{out}", "{seed}"]
    inputs: [customers]
    gates: [{metric: auc, min: 0.7, margin: 0.01}]
`

func TestModelsAreCompleted(t *testing.T) {
	t.Parallel()
	p, err := configured(t, aModel)
	require.NoError(t, err)
	m := p.Models[0]
	require.Equal(t, "metrics.json", m.Metrics)
	require.Equal(t, "holdout.csv", m.Holdout)
	require.Equal(t, 30*time.Minute, m.Timeout)
	require.Equal(t, 2048, m.MemoryMiB)
	require.InDelta(t, 0.7, *m.Gates[0].Min, 0)
	require.Nil(t, m.Gates[0].Max)
	require.Equal(t, "customers.csv", p.Data[0].Path)
	require.Zero(t, *p.Data[0].Columns[0].Min)
	require.NoError(t, validate(t, compiledSchema(t), []byte(aModel)))
}

func TestMistakesInModels(t *testing.T) {
	t.Parallel()
	const table = "data: [{name: a}]\n"
	for text, want := range map[string]string{
		"data: [{path: x.csv}]":                                                                    "name is missing",
		"data: [{name: A}]":                                                                        "is no name",
		"data: [{name: a, path: ../x}]":                                                            "lies outside of the data",
		"data: [{name: a, sha256: beef}]":                                                          "is no SHA-256",
		"data: [{name: a, separator: ab}]":                                                         "is no separator",
		"data: [{name: a, no_header: true}]":                                                       "name the columns in their order",
		"data: [{name: a}, {name: a}]":                                                             "a second table",
		"data: [{name: a, columns: [{name: x, type: integr}]}]":                                    `did you mean "integer"`,
		"data: [{name: a, columns: [{name: x, min: old}]}]":                                        "want a number",
		"data: [{name: a, columns: [{name: x, min: 2, max: 1}]}]":                                  "max is less than min",
		"data: [{name: a, columns: [{name: x, pattern: '('}]}]":                                    "missing closing",
		"data: [{name: a, fresh: {column: x, within: 24h}}]":                                       "not among the columns of type date",
		table + "models: [{name: m, command: [x], inputs: [a]}]":                                   "either image or dockerfile",
		table + "models: [{name: m, image: i, inputs: [a]}]":                                       "command is missing",
		table + "models: [{name: m, image: i, command: [x]}]":                                      "inputs is missing",
		table + "models: [{name: m, image: i, command: [x], inputs: [b]}]":                         `unknown table "b"`,
		table + "models: [{name: m, image: i, command: ['{data.b}'], inputs: [a]}]":                `unknown placeholder "data.b"`,
		table + "models: [{name: m, image: i, command: [x], inputs: [a], gates: [{metric: auc}]}]": "give min, max or margin",
		table + "models: [{name: m, image: i, command: [x], inputs: [a], grid: {c: ['1']}}]":       "by which metric",
		table + "models: [{name: m, dockerfile: nope, command: [x], inputs: [a]}]":                 "does not exist",
	} {
		_, err := configured(t, text)
		require.ErrorContains(t, err, want, text)
	}
}

// An endpoint is not another cloud's.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	const endpoint = "https://storage.example.com"
	for kept, kind := range map[string]string{"": "s3", "models": "s3", "oci://host/models": "s3", "s3://a": "s3", "gs://a/b": "gs", "az://a/b": "az"} {
		for _, asked := range []string{"s3", "gs", "az", "https"} {
			want := ""
			if asked == kind {
				want = endpoint
			}
			require.Equal(t, want, project.Artifacts{Store: kept, Endpoint: endpoint}.EndpointOf(asked+"://bucket/path"), "%s with the store %q", asked, kept)
		}
	}
}
