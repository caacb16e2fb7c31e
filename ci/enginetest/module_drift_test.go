package enginetest

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

// What the module's function keeps in a bucket, its next call knows: how long a change has lasted, and what was retrained.
func TestModuleDrift(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	module(t, scores(t, nil), "plan") // the engine's network is there from here on
	b := newBucketServer(t, "models")
	var asked atomic.Int32
	trainer := reachable(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	source := t.TempDir()
	edit(t, source, edits{"millrace.yaml": `drift:
  name: people
  columns: {id: {ignore: true}}
  retrain: {dispatch: {to: webhook, url: '` + trainer + `'}}
`})
	reference := t.TempDir()
	edit(t, reference, edits{"then.csv": people(1, 4000, 0)})
	root, err := filepath.Abs(repository)
	require.NoError(t, err)
	call := func(t *testing.T, seed uint64, shift float64, more ...string) called {
		t.Helper()
		current := t.TempDir()
		edit(t, current, edits{"today.csv": people(seed, 4000, shift)})
		argv := []string{
			"dagger", "call", "--progress=plain", "--mod", root, "drift", "--source=" + source, "--reference=" + reference, "--current=" + current,
			"--state=s3://models/team", "--endpoint=" + b.url, "--aws-access-key-id=env:KEY", "--aws-secret-access-key=env:SECRET",
		}
		return onEngineWith(t, t.TempDir(), []string{"KEY=" + bucketKey, "SECRET=" + bucketSecret}, append(argv, more...)...)
	}
	history := func(t *testing.T) []drift.Entry {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(b.folder, "models/team/drift/people/history.json"))
		require.NoError(t, err)
		var h drift.History
		require.NoError(t, json.Unmarshal(data, &h))
		return h.Entries
	}

	done := call(t, 5, 0.31)
	require.Zero(t, done.code, "%s", done.stderr)
	require.Contains(t, done.stdout, "drift passed")
	require.NotContains(t, done.stdout, "1 alert")
	require.Len(t, history(t), 1)

	done = call(t, 6, 0.31)
	require.Zero(t, done.code, "%s", done.stderr)
	require.Contains(t, done.stdout, "warning: 1 alert: age", "the second time in a row")
	require.Len(t, history(t), 2)

	for seed, want := range []string{"retrain", "cooldown"} {
		done = call(t, 10+uint64(seed), 0.6, "--retrain=dispatch")
		require.Equal(t, graph.Failed.ExitCode(), done.code, "%s", done.stderr)
		require.Contains(t, done.stderr, "critical drift")
		require.Contains(t, done.stderr, want)
		require.Equal(t, int32(1), asked.Load())
	}
	entries := history(t)
	require.Len(t, entries, 4)
	require.Equal(t, "dispatched", entries[2].Retraining.State)
	reports, err := filepath.Glob(filepath.Join(b.folder, "models/team/drift/people/runs/*/drift.html"))
	require.NoError(t, err)
	require.Len(t, reports, 4)
	require.NotContains(t, done.stdout+done.stderr, bucketSecret)

	// The cooldown is over, and the week's budget is used up.
	edit(t, source, edits{"millrace.yaml": `drift:
  name: people
  columns: {id: {ignore: true}}
  retrain: {cooldown: 1s, budget: 1, dispatch: {to: webhook, url: '` + trainer + `'}}
`})
	done = call(t, 12, 0.6, "--retrain=dispatch")
	require.Equal(t, graph.Failed.ExitCode(), done.code, "%s", done.stderr)
	require.Contains(t, done.stderr, "budget: 1 retrainings in the last seven days are the most")
	require.Equal(t, int32(1), asked.Load())
}
