package drift_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
)

var update = flag.Bool("update", false, "write the expected files anew")

// example is what the detector said of the telco table of which a half was changed, and a history that ends with it.
func example(t *testing.T) (drift.Result, drift.History) {
	t.Helper()
	data, err := os.ReadFile("testdata/drift.json")
	require.NoError(t, err)
	found, err := drift.DecodeResult(data)
	require.NoError(t, err)
	data, err = os.ReadFile("testdata/history.json")
	require.NoError(t, err)
	var history drift.History
	require.NoError(t, json.Unmarshal(data, &history))
	return found, history
}

func TestPageIsAsExpected(t *testing.T) {
	t.Parallel()
	found, history := example(t)
	found.Retraining = history.Entries[len(history.Entries)-1].Retraining
	found.Retraining.URL = "https://github.com/acme/scores/actions/workflows/training.yml"
	var page bytes.Buffer
	require.NoError(t, drift.WriteHTML(&page, "churn", found, history))
	golden := filepath.Join("testdata", "page.html")
	if *update {
		require.NoError(t, os.WriteFile(golden, page.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), page.String(), "the page has changed: look at it, and run go test ./pipelines/drift -update")
}

// validate checks a result by the published schema.
func validate(t *testing.T, data []byte) {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(drift.JSONSchema()))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("drift.schema.json", document))
	schema, err := compiler.Compile("drift.schema.json")
	require.NoError(t, err)
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(instance))
}

func TestResultKeepsItsSchema(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/drift.json")
	require.NoError(t, err)
	validate(t, data)
	// What is read and written again is the same to a reader.
	found, history := example(t)
	found.Retraining = history.Entries[len(history.Entries)-1].Retraining
	again, err := found.Encode()
	require.NoError(t, err)
	validate(t, again)
	decoded, err := drift.DecodeResult(again)
	require.NoError(t, err)
	third, err := decoded.Encode()
	require.NoError(t, err)
	require.Equal(t, string(again), string(third))
	_, err = drift.DecodeResult([]byte(`{"schema": "millrace/drift/v2"}`))
	require.ErrorContains(t, err, `its schema is "millrace/drift/v2"`)
}

// Names come from tables, and whoever fills these may not put markup into the page.
func TestPageEscapes(t *testing.T) {
	t.Parallel()
	found, history := example(t)
	hostile := `<script>alert(1)</script>`
	found.Alerts[0].Said, found.Columns[0].Name, found.Columns[0].Plot.Labels[0] = hostile, hostile, hostile
	found.Problems = append(found.Problems, drift.Problem{Name: "x", Column: hostile, Said: hostile})
	found.Retraining = &drift.Retraining{State: "dispatched", URL: "javascript:alert(1)"}
	var page bytes.Buffer
	require.NoError(t, drift.WriteHTML(&page, hostile, found, history, hostile))
	require.NotContains(t, page.String(), "<script")
	require.NotContains(t, page.String(), "javascript:")
	require.NotContains(t, page.String(), "http://")
	require.NotContains(t, page.String(), "src=")
}

func TestPageOfWhatCouldNotBeMeasured(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	found := drift.Result{Schema: drift.ResultSchema, Status: "unusable", Reason: "the current table has no rows"}
	require.NoError(t, drift.WriteHTML(&page, "churn", found, drift.History{}))
	require.Contains(t, page.String(), "Nothing can be told: the current table has no rows.")
}

func TestFindings(t *testing.T) {
	t.Parallel()
	found, _ := example(t)
	var said []string
	for _, f := range drift.Findings(found) {
		said = append(said, string(f.Severity)+" "+f.Message)
	}
	require.Equal(t, []string{
		"critical Contract: 1 new: 'Three year', 15.5% of the rows; by chance: less than 1 in a thousand million",
		"critical MonthlyCharges: middle half of the values 44.81 to 112.1, was 35.38 to 90.1; by chance: less than 1 in a thousand million; since 2026-02-24; ask billing",
		"medium gender: 'Male' 30.6%, was 50.7%; by chance: less than 1 in a thousand million; it hardly matters to the model",
		"low TotalCharges has moved, seen in too few runs yet for an alert: 12.1% missing, was 0.1%",
	}, said)
}

func TestChance(t *testing.T) {
	t.Parallel()
	for q, want := range map[float64]string{
		0: "less than 1 in a thousand million", 1e-8: "less than 1 in a million", 0.00025: "1 in 4000", 0.0042: "0.42 %", 1: "100 %",
	} {
		require.Equal(t, want, drift.Chance(q))
	}
}
