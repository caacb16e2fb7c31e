package enginetest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// Critical drift ends in a model that was trained anew, held against its gates and registered, and those who are to know are told.
func TestDriftTrainsInTheSameRun(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	var mu sync.Mutex
	var told []string
	slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		told = append(told, string(body))
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(slack.Close)

	tables, kept, state := t.TempDir(), t.TempDir(), t.TempDir()
	table := func(name string, shift float64) string {
		path := filepath.Join(tables, name)
		require.NoError(t, os.WriteFile(path, []byte(people(uint64(len(name)), 1000, shift)), 0o644))
		return path
	}
	drifted := "drift:\n  name: good\n  columns: {id: {ignore: true}}\n"
	source := lessons(t, edits{"millrace.yaml": lesson("good", "0.2") + drifted})
	args := []string{
		"drift", "--reference", table("then.csv", 0), "--current", table("today.csv", 0.6),
		"--state", state, "--store", kept, "--retrain", "inline",
	}
	got := ci(t, source, args, withEnv("SLACK_WEBHOOK_URL="+slack.URL+"/services/T0/B0/secret"))
	require.Equal(t, 0, got.code)
	got.requireVerdicts(t, map[string]graph.Verdict{"detect": graph.Passed, "retrain": graph.Passed, "report": graph.Passed, "alerts": graph.Passed, "notify": graph.Passed})
	require.Contains(t, got.node(t, "alerts").Reason, "a model trained anew that passed its gates")
	version := champion(t, kept, "good").Version
	require.NotEmpty(t, version)
	require.Contains(t, got.node(t, "retrain").Reason, version)
	require.Equal(t, "passed", got.drift(t).Retraining.State)
	require.Len(t, told, 2, "one message of the training, one of the drift")
	require.Contains(t, told[0], "training")
	require.Contains(t, told[1], "drift")
	require.Contains(t, told[1], got.drift(t).Tables["current"].SHA256, "which data it was")

	// What would be trained is the champion already: the drift stays, and no cooldown begins.
	args[4], args[6] = table("today again.csv", 0.7), t.TempDir()
	same := ci(t, source, args)
	require.Equal(t, 1, same.code)
	require.Equal(t, graph.Skipped, same.node(t, "retrain").Verdict)
	require.Contains(t, same.node(t, "alerts").Reason, "not retrained: nothing new came of it, newer tables are named by --data: good: it is the champion already")
	require.False(t, same.drift(t).Retraining.Started)
	require.Equal(t, version, champion(t, kept, "good").Version)

	// A model that fails its gates leaves the drift as it is, and the champion too.
	edit(t, source, edits{"millrace.yaml": lesson("good", "0.9") + drifted})
	args[4], args[6] = table("again.csv", 0.8), t.TempDir()
	worse := ci(t, source, args)
	require.Equal(t, 1, worse.code)
	require.Equal(t, graph.Failed, worse.node(t, "retrain").Verdict)
	require.Contains(t, worse.node(t, "retrain").Reason, "gate-good failed")
	require.Equal(t, version, champion(t, kept, "good").Version)
}
