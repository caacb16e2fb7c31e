package drift_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

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
