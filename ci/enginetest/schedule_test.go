package enginetest

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

// The scheduled workflows of examples/github-actions run as they are: the daily one finds that a table has drifted and
// starts the weekly one by what it may, which trains what it was asked for.
func TestGitHubSchedules(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	const token = "the-token-of-the-job"
	type asked struct {
		Ref    string
		Inputs map[string]string
	}
	var mu sync.Mutex
	var dispatched []asked
	// GitHub's API, as far as the token of a job reaches that may write actions.
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodPost || r.URL.Path != "/repos/Acme/Scores/actions/workflows/training.yml/dispatches":
			http.NotFound(w, r)
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			var a asked
			if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
				w.WriteHeader(http.StatusUnprocessableEntity)
				return
			}
			mu.Lock()
			dispatched = append(dispatched, a)
			mu.Unlock()
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(api.Close)
	// The platform of the examples, and a table of today whose monthly charges are half as high again.
	platform := repository + "/examples/customer-intelligence"
	config, err := os.ReadFile(platform + "/millrace.yaml")
	require.NoError(t, err)
	retrain := "\ndrift:\n  retrain: {dispatch: {url: '" + api.URL + "', inputs: {model: churn}}}\n"
	today := dearer(t, platform+"/data/telco-customer-churn.csv")
	kept := t.TempDir()
	play := func(t *testing.T, file, event string, inputs map[string]string) hosted {
		t.Helper()
		source := filepath.Join(t.TempDir(), "customer-intelligence")
		require.NoError(t, os.CopyFS(source, os.DirFS(platform)))
		edit(t, source, edits{"millrace.yaml": strings.Replace(string(config), "\ndrift:\n", retrain, 1), "data/today.csv": today})
		payload := map[string]any{"ref": "refs/heads/main", "repository": map[string]any{"default_branch": "main"}}
		if inputs != nil {
			payload["inputs"] = inputs
		}
		return workflow{
			example: "github-actions", file: file, source: source, event: event, payload: payload,
			vars: map[string]string{"STORE": kept, "CURRENT": filepath.Join("data", "today.csv")}, secrets: map[string]string{"GITHUB_TOKEN": token},
		}.run(t)
	}

	t.Run("critical drift starts the training", func(t *testing.T) {
		got := play(t, "drift.yml", "schedule", nil)
		require.NotZero(t, got.code)
		require.Equal(t, "schedule", got.run.Ref.Event)
		got.requireVerdicts(t, map[string]graph.Verdict{"detect": graph.Passed, "retrain": graph.Passed, "alerts": graph.Failed})
		require.Equal(t, []asked{{Ref: "main", Inputs: map[string]string{"model": "churn"}}}, dispatched)
		require.Equal(t, drift.Critical, got.drift(t).Severity)
		require.Contains(t, got.node(t, "alerts").Reason, "MonthlyCharges")
		require.Contains(t, got.stdout, "## ✗ drift failed", "the job has no summary")
	})
	t.Run("but once in the cooldown, of which the store knows", func(t *testing.T) {
		got := play(t, "drift.yml", "schedule", nil)
		require.NotZero(t, got.code)
		require.Contains(t, got.node(t, "retrain").Reason, "cooldown")
		require.Len(t, dispatched, 1)
	})
	t.Run("a table named by hand", func(t *testing.T) {
		got := play(t, "drift.yml", "workflow_dispatch", map[string]string{"current": filepath.Join("data", "telco-customer-churn.csv")})
		require.Zero(t, got.code)
		require.Equal(t, drift.OK, got.drift(t).Severity)
	})
	t.Run("what was dispatched trains that model", func(t *testing.T) {
		require.NotEmpty(t, dispatched)
		got := play(t, "training.yml", "workflow_dispatch", dispatched[0].Inputs)
		require.Zero(t, got.code)
		require.Equal(t, "manual", got.run.Ref.Event)
		require.Equal(t, graph.Passed, got.node(t, "register-churn").Verdict)
		require.NotEmpty(t, champion(t, kept, "churn").Version)
		require.Empty(t, champion(t, kept, "clv").Version, "it was not asked for")
	})
	t.Run("the weekly one trains all", func(t *testing.T) {
		got := play(t, "training.yml", "schedule", nil)
		require.Zero(t, got.code)
		require.Equal(t, "schedule", got.run.Ref.Event)
		for _, name := range []string{"churn", "clv", "segmentation"} {
			require.NotEmpty(t, champion(t, kept, name).Version, name)
		}
		require.Contains(t, got.stdout, "## ✓ training passed")
	})
}

// dearer returns the telco table with monthly charges that are half as high again.
func dearer(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	at := slices.Index(rows[0], "MonthlyCharges")
	require.Positive(t, at)
	for _, row := range rows[1:] {
		charge, err := strconv.ParseFloat(row[at], 64)
		require.NoError(t, err)
		row[at] = strconv.FormatFloat(charge*1.5, 'f', 2, 64)
	}
	var b strings.Builder
	require.NoError(t, csv.NewWriter(&b).WriteAll(rows))
	return b.String()
}
