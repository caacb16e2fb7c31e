package enginetest

import (
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

// down has the server refuse everything from the first request on that would write.
func (b *bucketServer) down(t *testing.T) (up func()) {
	t.Helper()
	var written atomic.Bool
	refuse := func(r *http.Request) bool {
		if r.Method == http.MethodPut || r.Method == http.MethodPost {
			written.Store(true)
		}
		return written.Load()
	}
	b.refuse.Store(&refuse)
	return func() {
		require.True(t, written.Load(), "nothing was written, so nothing was refused")
		b.refuse.Store(nil)
	}
}

// A store that goes down before the run's end loses nothing: what is there stays, what was found or trained lies among the
// reports, and the next run does what this one could not.
func TestAStoreThatGoesDown(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := lessons(t, edits{"millrace.yaml": lesson("good", "0.2") + "drift: {name: people, columns: {id: {ignore: true}}}\n"})
	require.Equal(t, 0, ci(t, source, []string{"training"}).code) // the engine's network is there from here on
	b := newBucketServer(t, "models")

	t.Run("at the end of a training", func(t *testing.T) {
		train := []string{"training", "--store", "s3://models/team"}
		up := b.down(t)
		got := ci(t, source, train, b.environment())
		up()
		require.Equal(t, 3, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"train-good": graph.Passed, "evaluate-good": graph.Passed, "register-good": graph.Errored})
		require.Contains(t, got.node(t, "register-good").Reason, "s3://models/team at "+b.url+" can't be used")
		require.Contains(t, got.node(t, "register-good").Reason, "whose champion stays as it was")
		require.Empty(t, b.champion(t).Version)
		require.Contains(t, got.text(t, "reports/train-good/outputs/model.json"), "good")

		again := ci(t, source, train, b.environment())
		require.Equal(t, 0, again.code)
		require.NotEmpty(t, b.champion(t).Version)
		require.Equal(t, modified(t, got, "reports/train-good/log.txt"), modified(t, again, "reports/train-good/log.txt"), "it was trained again")
	})

	t.Run("at the end of a drift run", func(t *testing.T) {
		tables := t.TempDir()
		edit(t, tables, edits{"then.csv": people(1, 1000, 0), "day 1.csv": people(2, 1000, 0), "day 2.csv": people(3, 1000, 0.6)})
		day := func(name string) outcome {
			return ci(t, source, []string{
				"drift", "--reference", filepath.Join(tables, "then.csv"), "--current", filepath.Join(tables, name), "--state", "s3://models/team",
			}, b.environment())
		}
		history := func() string {
			data, err := os.ReadFile(filepath.Join(b.folder, "models/team/drift/people/history.json"))
			require.NoError(t, err)
			return string(data)
		}
		require.Equal(t, 0, day("day 1.csv").code)
		before := history()

		up := b.down(t)
		got := day("day 2.csv")
		up()
		require.Equal(t, 3, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"detect": graph.Passed, "check": graph.Errored, "retrain": graph.Skipped, "report": graph.Errored, "alerts": graph.Skipped})
		require.Contains(t, got.node(t, "check").Reason, "critical drift was found, 1 alert: age, and nothing was decided: ")
		require.Contains(t, got.node(t, "check").Reason, "s3://models/team at "+b.url+" can't be used")
		require.Equal(t, before, history())
		require.Equal(t, drift.Critical, got.drift(t).Severity)
		require.Contains(t, got.text(t, "reports/report/drift.html"), "This run is not in the history")

		require.Equal(t, 1, day("day 2.csv").code)
		require.NotEqual(t, before, history())
	})
}
