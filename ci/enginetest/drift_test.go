package enginetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dagger.io/dagger"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/python"
)

// The detector passes its own tests, with Evidently beside it, and the linters of this project.
func TestDriftDetector(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	c := client(t)
	folder, err := filepath.Abs(repository + "/pipelines/drift/detector")
	require.NoError(t, err)
	data, err := filepath.Abs(repository + "/examples/customer-intelligence/data")
	require.NoError(t, err)
	src := c.Host().Directory(folder, dagger.HostDirectoryOpts{Exclude: []string{"**/__pycache__", "**/.*_cache"}})

	t.Run("lint", func(t *testing.T) {
		got, err := python.Lint{Requirements: []string{"requirements.txt"}}.Run(t.Context(), c, src)
		require.NoError(t, err)
		requirePassed(t, got)
	})
	t.Run("test", func(t *testing.T) {
		lock, err := os.ReadFile(filepath.Join(folder, "requirements-test.txt"))
		require.NoError(t, err)
		out := requireRuns(t, c, string(lock), func(ctr *dagger.Container) *dagger.Container {
			return ctr.
				WithDirectory("/opt/detector", src).
				WithDirectory("/opt/detector/data", c.Host().Directory(data)).
				WithWorkdir("/opt/detector")
		}, "-m", "pytest", "-q")
		require.Regexp(t, `\d{2,} passed`, out)
	})
}

// people is a table with a few columns. Two with different seeds are of one distribution; shift moves the ages by so many
// standard deviations.
func people(seed uint64, rows int, shift float64) string {
	random := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	b.WriteString("id,age,amount,plan\n")
	for i := range rows {
		plan := "basic"
		if random.Float64() < 0.3 {
			plan = "pro"
		}
		fmt.Fprintf(&b, "%d,%.2f,%.3f,%s\n", i, 40+10*(random.NormFloat64()+shift), random.ExpFloat64(), plan)
	}
	return b.String()
}

// result reads and checks drift.json of the reports.
func (o outcome) drift(t *testing.T) drift.Result {
	t.Helper()
	text := o.text(t, "reports/report/drift.json")
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(drift.JSONSchema()))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("drift.schema.json", document))
	schema, err := compiler.Compile("drift.schema.json")
	require.NoError(t, err)
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(instance))
	found, err := drift.DecodeResult([]byte(text))
	require.NoError(t, err)
	return found
}

func TestDrift(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	var lost atomic.Bool // whether the host's answer gets lost
	// The host of the workflow that trains, and of a table.
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/tables/clean.csv" {
			_, _ = io.WriteString(w, people(7, 1000, 0))
			return
		}
		if r.Method != http.MethodPost || r.URL.Path != "/repos/acme/scores/actions/workflows/training.yml/dispatches" {
			http.NotFound(w, r)
			return
		}
		if r.Header.Get("Authorization") != "Bearer the-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		asked = append(asked, string(body))
		mu.Unlock()
		if lost.Load() {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(host.Close)

	source, tables, state := t.TempDir(), t.TempDir(), t.TempDir()
	edit(t, source, edits{"millrace.yaml": `drift:
  name: people
  columns: {id: {ignore: true}, age: {owner: crm}}
  retrain: {mode: dispatch, dispatch: {to: github, url: '` + host.URL + `', repository: acme/scores}}
`})
	table := func(name, content string) string {
		path := filepath.Join(tables, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		return path
	}
	reference := table("reference.csv", people(1, 1000, 0))
	run := func(t *testing.T, current string, more ...string) outcome {
		t.Helper()
		args := append([]string{"drift", "--reference", reference, "--current", current, "--state", state}, more...)
		return ci(t, source, args, withEnv("RETRAIN_TOKEN=the-token"))
	}
	history := func(t *testing.T) drift.History {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(state, "drift", "people", "history.json"))
		require.NoError(t, err)
		var h drift.History
		require.NoError(t, json.Unmarshal(data, &h))
		return h
	}

	t.Run("a table like the reference", func(t *testing.T) {
		got := run(t, table("clean.csv", people(2, 1000, 0)))
		require.Equal(t, 0, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"detect": graph.Passed, "check": graph.Passed, "retrain": graph.Skipped, "report": graph.Passed, "alerts": graph.Passed})
		require.Equal(t, drift.OK, got.drift(t).Severity)
		require.Contains(t, got.text(t, "reports/report/drift.html"), "No alert.")
		require.Len(t, history(t).Entries, 1)
		got.requireOneScreen(t)
	})

	t.Run("from the web", func(t *testing.T) {
		got := run(t, host.URL+"/tables/clean.csv")
		require.Equal(t, 0, got.code)
		require.Equal(t, 1000, got.drift(t).Tables["current"].Rows)
		got = run(t, host.URL+"/tables/gone.csv")
		require.Equal(t, 3, got.code)
		require.Contains(t, got.node(t, "data").Reason, "the current table: download "+host.URL+"/tables/gone.csv")
	})

	moved := table("moved.csv", people(3, 1000, 0.6))
	t.Run("critical drift fails, and has the model trained again", func(t *testing.T) {
		got := run(t, moved)
		require.Equal(t, 1, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"detect": graph.Passed, "retrain": graph.Passed, "report": graph.Passed, "alerts": graph.Failed})
		require.Contains(t, got.node(t, "alerts").Reason, "critical drift, 1 alert: age")
		require.Contains(t, got.node(t, "alerts").Reason, "ask crm")
		require.Equal(t, []string{`{"inputs":{},"ref":"main"}`}, asked)
		require.Equal(t, "dispatched", got.drift(t).Retraining.State)
		entries := history(t).Entries
		require.Equal(t, "dispatched", entries[len(entries)-1].Retraining.State)
		require.Contains(t, got.text(t, "reports/report/drift.html"), "Retraining (dispatch): dispatched")
		got.requireOneScreen(t)
	})

	t.Run("but once in the cooldown", func(t *testing.T) {
		got := run(t, table("again.csv", people(4, 1000, 0.6)))
		require.Equal(t, 1, got.code)
		require.Equal(t, graph.Skipped, got.node(t, "retrain").Verdict)
		require.Contains(t, got.node(t, "retrain").Reason, "cooldown")
		require.Len(t, asked, 1)
		require.NotEmpty(t, got.drift(t).Alerts[0].Since)
	})

	t.Run("a warning passes", func(t *testing.T) {
		// The runs before saw age move as well, so it alerts, and now by less than what is critical.
		got := run(t, table("weak.csv", people(5, 4000, 0.31)), "--retrain", "no")
		require.Equal(t, 0, got.code)
		require.Equal(t, drift.Warn, got.drift(t).Severity)
		require.Contains(t, got.node(t, "alerts").Reason, "warning: 1 alert: age")
	})

	t.Run("tables that are none", func(t *testing.T) {
		for _, bad := range []struct {
			name, content, reason string
			code                  int
		}{
			{"empty.csv", "", "the current table: empty.csv is empty", 1},
			{"header.csv", "id,age,amount,plan\n", "the current table has no rows", 1},
			{"one.csv", people(6, 1, 0), "the current table has 1 row; 50 are needed to tell", 4},
		} {
			got := run(t, table(bad.name, bad.content))
			require.Equal(t, bad.code, got.code, bad.name)
			require.Contains(t, got.node(t, "detect").Reason, bad.reason)
			require.Contains(t, got.text(t, "reports/detect/drift.html"), "Nothing can be told")
			got.requireOneScreen(t)
		}
	})

	t.Run("a column that is gone is no reason to train", func(t *testing.T) {
		got := run(t, table("narrow.csv", strings.ReplaceAll(people(6, 1000, 0), "plan\n", "tariff\n")))
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "alerts").Reason, "plan (the column is missing)")
		require.Contains(t, got.node(t, "retrain").Reason, "repair the data")
	})

	t.Run("a history that can't be read", func(t *testing.T) {
		path := filepath.Join(state, "drift", "people", "history.json")
		require.NoError(t, os.WriteFile(path, []byte("{broken"), 0o644))
		got := run(t, moved)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "retrain").Reason, "cooldown")
		kept, err := filepath.Glob(filepath.Join(state, "drift", "people", "history.corrupt-*.json"))
		require.NoError(t, err)
		require.Len(t, kept, 1)
		require.Len(t, history(t).Entries, 1)
	})

	t.Run("a dispatch whose answer gets lost may have been one", func(t *testing.T) {
		elsewhere := []string{"--state", t.TempDir()}
		before := len(asked)
		lost.Store(true)
		got := run(t, moved, elsewhere...)
		lost.Store(false)
		require.Equal(t, 3, got.code)
		require.Equal(t, graph.Errored, got.node(t, "retrain").Verdict)
		require.Contains(t, got.node(t, "retrain").Reason, "whether the training has begun is not known")
		got = run(t, moved, elsewhere...)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "retrain").Reason, "cooldown")
		require.Len(t, asked, before+1)
	})

	t.Run("usage", func(t *testing.T) {
		got := run(t, filepath.Join(tables, "none.csv"))
		require.Equal(t, 2, got.code)
		require.Contains(t, got.stderr, "none.csv\" does not exist")
		got = run(t, moved, "--retrain", "inline")
		require.Equal(t, 2, got.code)
		require.Contains(t, got.stderr, "there is no training to run inline")
	})
}

// A table from the web that breaks off is taken up where it did, and a checksum beside it is checked.
func TestDriftFromTheWeb(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	client(t) // the engine's network is there from here on
	folder, source := t.TempDir(), t.TempDir()
	edit(t, source, edits{"millrace.yaml": "drift: {name: people, columns: {id: {ignore: true}}}\n"})
	rows := people(2, 400_000, 0) // of several parts
	require.NoError(t, os.WriteFile(filepath.Join(folder, "today.csv"), []byte(rows), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "reference.csv"), []byte(people(1, 1000, 0)), 0o644))
	var parts, sent atomic.Int64
	files := http.FileServer(http.Dir(folder))
	host := reachable(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/today.csv") {
			if parts.Add(1) == 2 {
				w.Header().Set("Content-Length", "8388608")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(make([]byte, 1<<20))
				panic(http.ErrAbortHandler)
			}
			counted := httptest.NewRecorder()
			files.ServeHTTP(counted, r)
			sent.Add(int64(counted.Body.Len()))
			for key, values := range counted.Header() {
				w.Header()[key] = values
			}
			w.WriteHeader(counted.Code)
			_, _ = w.Write(counted.Body.Bytes())
			return
		}
		files.ServeHTTP(w, r)
	}))
	args := []string{"drift", "--reference", filepath.Join(folder, "reference.csv"), "--current", host + "/today.csv"}
	got := ci(t, source, args)
	require.Equal(t, 0, got.code)
	require.Equal(t, 400_000, got.drift(t).Tables["current"].Rows)
	require.Greater(t, parts.Load(), int64(2))
	require.Equal(t, int64(len(rows)), sent.Load(), "what had arrived was downloaded again")

	require.NoError(t, os.WriteFile(filepath.Join(folder, "today.csv"), []byte(people(3, 1000, 0)), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "today.csv.sha256"), []byte(strings.Repeat("0", 64)+"\n"), 0o644))
	got = ci(t, source, args)
	require.Equal(t, 3, got.code)
	require.Contains(t, got.node(t, "data").Reason, "has the SHA-256")
}
