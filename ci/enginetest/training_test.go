package enginetest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/notify/notifytest"
)

// champion reads a model's champion from a folder that models are kept in.
func champion(t *testing.T, kept, name string) model.Champion {
	t.Helper()
	var c model.Champion
	data, err := os.ReadFile(filepath.Join(kept, "models", name, "champion.json"))
	if os.IsNotExist(err) {
		return c
	}
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &c))
	return c
}

// kept returns a file of a version.
func keptFile(t *testing.T, kept, name, version, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(kept, "models", name, "versions", strings.Replace(version, ":", "-", 1), file))
	require.NoError(t, err)
	return data
}

// The example's three models, on real tables with published answers.
func TestTraining(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := filepath.Join(t.TempDir(), "customer-intelligence")
	require.NoError(t, os.CopyFS(source, os.DirFS(repository+"/examples/customer-intelligence")))
	commit := committed(t, source, "https://github.com/acme/customer-intelligence.git")
	kept := t.TempDir()
	first := ci(t, source, []string{"training", "--store", kept})
	require.Equal(t, 0, first.code)
	summary := first
	summary.stderr = "" // sixteen nodes' progress and their summary are two screens
	summary.requireOneScreen(t)

	versions := map[string]string{}
	for _, name := range []string{"churn", "clv", "segmentation"} {
		c := champion(t, kept, name)
		require.Regexp(t, `^sha256:[0-9a-f]{64}$`, c.Version)
		versions[name] = c.Version
		var m model.Manifest
		require.NoError(t, json.Unmarshal(keptFile(t, kept, name, c.Version, "manifest.json"), &m))
		require.Equal(t, commit, m.Commit)
		require.Contains(t, m.Image, "sha256:")
		require.Contains(t, m.Data, "sha256:")
		require.Equal(t, "2.4.6", m.Libraries["numpy"])
		for _, file := range []string{"outputs/model.json", "outputs/metrics.json", "outputs/holdout.csv", "evaluation/card.md", "evaluation/card.html"} {
			require.Contains(t, m.Files, file)
		}
	}
	var churn struct {
		Metrics map[string]any
	}
	require.NoError(t, json.Unmarshal(keptFile(t, kept, "churn", versions["churn"], "outputs/metrics.json"), &churn))
	require.InDelta(t, 0.84, churn.Metrics["roc_auc"], 0.01, "the published answer")
	require.Contains(t, string(keptFile(t, kept, "churn", versions["churn"], "evaluation/card.html")), "data:image/svg+xml")

	t.Run("CLV has the published parameters", func(t *testing.T) {
		var clv map[string]any
		require.NoError(t, json.Unmarshal(keptFile(t, kept, "clv", versions["clv"], "outputs/model.json"), &clv))
		text := string(keptFile(t, kept, "clv", versions["clv"], "outputs/model.json"))
		found := numbers(clv)
		for name, want := range map[string]float64{"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426} {
			require.InDelta(t, want, found[name], 0.005, "%s in %s", name, text)
		}
	})
	t.Run("nothing changed", func(t *testing.T) {
		again := ci(t, source, []string{"training", "--store", kept})
		require.Equal(t, 0, again.code)
		for name, version := range versions {
			require.Contains(t, again.node(t, "register-"+name).Reason, "it is the champion already")
			require.Len(t, champion(t, kept, name).History, 1)
			require.Equal(t, version, champion(t, kept, name).Version)
			// The log is of the time when the training ran.
			require.Equal(t, modified(t, first, "reports/train-"+name+"/log.txt"), modified(t, again, "reports/train-"+name+"/log.txt"), "%s was trained again", name)
		}
	})
	t.Run("trained anew, the metrics are the same to the byte", func(t *testing.T) {
		// A comment in a file that all trainings read: the image is another one, and nothing comes from the cache.
		file := filepath.Join(source, "backend", "training", "__init__.py")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, fmt.Appendf(text, "# %d\n", time.Now().UnixNano()), 0o644))
		other := t.TempDir()
		again := ci(t, source, []string{"training", "--store", other})
		require.Equal(t, 0, again.code)
		for name, version := range versions {
			require.NotEqual(t, modified(t, first, "reports/train-"+name+"/log.txt"), modified(t, again, "reports/train-"+name+"/log.txt"), "%s was not trained again", name)
			for _, output := range []string{"metrics.json", "model.json", "holdout.csv"} {
				require.Equal(t, string(keptFile(t, kept, name, version, "outputs/"+output)),
					string(keptFile(t, other, name, champion(t, other, name).Version, "outputs/"+output)), "%s of %s", output, name)
			}
		}
	})
}

// numbers returns the numbers of nested names by their last part.
func numbers(value any) map[string]float64 {
	all := map[string]float64{}
	object, _ := value.(map[string]any)
	for name, inner := range object {
		if n, ok := inner.(float64); ok {
			all[name] = n
		}
		for below, n := range numbers(inner) {
			all[below] = n
		}
	}
	return all
}

func modified(t *testing.T, o outcome, name string) time.Time {
	t.Helper()
	info, err := os.Stat(filepath.Join(o.out, filepath.FromSlash(name)))
	require.NoError(t, err)
	return info.ModTime()
}

// trainProgram trains, or fails to.
const trainProgram = `"""Train, or fail to."""

import json
import pathlib
import random
import sys
import time

how, data, out, seed, noise = sys.argv[1], *map(pathlib.Path, sys.argv[2:4]), int(sys.argv[4]), float(sys.argv[5])
print("training", how, flush=True)
if how == "crash":
    raise SystemExit("the optimiser found nothing")
if how == "hang":
    time.sleep(3600)
if how == "memory":
    held = []
    while True:
        held.append(bytearray(1 << 20))
random.seed(seed)
rows = [line.split(",") for line in data.read_text().splitlines()[1:]]
scored = [(i, int(y), min(1, max(0, 0.5 + (int(y) - 0.5) * 0.4 + random.gauss(0, noise)))) for i, x, y in rows]
(out / "holdout.csv").write_text("id,label,score\n" + "".join(f"{i},{y},{s:.6f}\n" for i, y, s in scored))
(out / "model.json").write_text(json.dumps({"how": how, "noise": noise}))
brier = sum((s - y) ** 2 for _, y, s in scored) / len(scored)
if how == "diverge":
    brier = float("nan")
if how != "silent":
    (out / "metrics.json").write_text(json.dumps({"brier": round(brier, 6)}))
`

// lessons is a source with a model for each way in which a training can end. How good its scores are, NOISE says.
func lessons(t *testing.T, changes edits) string {
	t.Helper()
	dir := t.TempDir()
	files := edits{
		"Dockerfile":    "FROM python:3.11-slim\nCOPY train.py /app/train.py\nWORKDIR /app\n",
		"train.py":      trainProgram,
		"data/rows.csv": table(600),
		"millrace.yaml": lesson("good", "0.2"),
	}
	for name, text := range changes {
		files[name] = text
	}
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

func table(rows int) string {
	var b strings.Builder
	b.WriteString("id,x,y\n")
	for i := range rows {
		fmt.Fprintf(&b, "%d,%d,%d\n", i, i%7, i%2)
	}
	return b.String()
}

// lesson is the configuration of models that end in the ways named, each with a noise.
func lesson(pairs ...string) string {
	text := `data:
  - name: rows
    rows: {min: 100}
    columns: [{name: id, unique: true}, {name: x, type: integer, min: 0, max: 6}, {name: y, type: integer, min: 0, max: 1}]
models:
`
	for i := 0; i < len(pairs); i += 2 {
		text += fmt.Sprintf(`  - name: %s
    dockerfile: Dockerfile
    command: [python, train.py, %[1]s, "{data.rows}", "{out}", "{seed}", "%[2]s"]
    inputs: [rows]
    memory_mib: 200
    timeout: 20s
    gates: [{metric: brier, max: 0.25, margin: 0.01}]
`, pairs[i], pairs[i+1])
	}
	return text
}

func TestTrainingsThatEndBadly(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	kept := t.TempDir()
	source := lessons(t, edits{"millrace.yaml": lesson("good", "0.2", "crash", "0.2", "hang", "0.2", "memory", "0.2", "diverge", "0.2", "silent", "0.2")})
	slack := &notifytest.Slack{Path: "/services/T0/B0/training"}
	server := httptest.NewServer(slack)
	t.Cleanup(server.Close)
	got := ci(t, source, []string{"training", "--store", kept}, withEnv("SLACK_WEBHOOK_URL="+server.URL+slack.Path))
	require.Equal(t, 1, got.code)
	require.Empty(t, slack.Problems())
	require.Len(t, slack.Accepted(), 1)
	message := string(slack.Accepted()[0])
	require.Contains(t, message, "training failed")
	require.Equal(t, 3, strings.Count(message, "failed:*"), "a message explains the first three")
	for name, want := range map[string]string{
		"crash":   "it ended with exit code 1: the optimiser found nothing",
		"hang":    "timed out after 20 s",
		"memory":  "out of memory",
		"diverge": "it diverged: the metric brier is nan",
		"silent":  "it wrote no metrics: metrics.json is not among its outputs",
	} {
		node := got.node(t, "train-"+name)
		require.Equal(t, graph.Failed, node.Verdict, name)
		require.Contains(t, node.Reason, want)
		require.Contains(t, message, "train-"+name+" failed", "and names all")
		require.Equal(t, graph.Skipped, got.node(t, "register-"+name).Verdict)
		require.Empty(t, champion(t, kept, name).Version)
	}
	// One model's failure does not stop the others.
	require.Equal(t, graph.Passed, got.node(t, "register-good").Verdict)
	require.NotEmpty(t, champion(t, kept, "good").Version)
}

func TestGatesKeepTheChampion(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	kept := t.TempDir()
	source := lessons(t, nil)
	require.Equal(t, 0, ci(t, source, []string{"training", "--store", kept}).code)
	before := champion(t, kept, "good")
	require.NotEmpty(t, before.Version)

	t.Run("certainly worse", func(t *testing.T) {
		edit(t, source, edits{"millrace.yaml": lesson("good", "0.3")})
		got := ci(t, source, []string{"training", "--store", kept})
		require.Equal(t, 1, got.code)
		require.Equal(t, graph.Failed, got.node(t, "gate-good").Verdict)
		require.Contains(t, got.node(t, "gate-good").Reason, "worse beyond the margin")
		require.Equal(t, before, champion(t, kept, "good"))
	})
	t.Run("beyond a bound", func(t *testing.T) {
		edit(t, source, edits{"millrace.yaml": lesson("good", "0.9")})
		got := ci(t, source, []string{"training", "--store", kept})
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "gate-good").Reason, "must be at most 0.25")
		require.Equal(t, before, champion(t, kept, "good"))
	})
	t.Run("better", func(t *testing.T) {
		edit(t, source, edits{"millrace.yaml": lesson("good", "0.1")})
		got := ci(t, source, []string{"training", "--store", kept})
		require.Equal(t, 0, got.code)
		require.NotEqual(t, before.Version, champion(t, kept, "good").Version)
		require.Equal(t, before.Version, champion(t, kept, "good").History[1].Previous)
	})
	t.Run("the same files in another environment are another image", func(t *testing.T) {
		last := champion(t, kept, "good")
		edit(t, source, edits{"Dockerfile": "FROM python:3.11-slim\nCOPY train.py /app/train.py\nWORKDIR /app\nENV THREADS=1\n"})
		got := ci(t, source, []string{"training", "--store", kept})
		require.Equal(t, 0, got.code)
		require.NotContains(t, got.node(t, "register-good").Reason, "it is the champion already")
		require.NotEqual(t, last.Version, champion(t, kept, "good").Version)
	})
	t.Run("scores that are no numbers", func(t *testing.T) {
		last := champion(t, kept, "good")
		edit(t, source, edits{"train.py": strings.Replace(trainProgram, "{s:.6f}", "{s if i != '7' else 'nan'}", 1)})
		got := ci(t, source, []string{"training", "--store", kept})
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "gate-good").Reason, "1 of 600 held-out rows have no finite number as their score")
		require.Equal(t, last, champion(t, kept, "good"))
	})
	t.Run("too few rows to tell", func(t *testing.T) {
		last := champion(t, kept, "good")
		edit(t, source, edits{"train.py": trainProgram, "data/rows.csv": table(100), "millrace.yaml": strings.Replace(lesson("good", "0.2"), "max: 0.25, margin: 0.01", "max: 0.135", 1)})
		got := ci(t, source, []string{"training", "--store", kept})
		require.Equal(t, 4, got.code)
		require.Equal(t, graph.Inconclusive, got.node(t, "gate-good").Verdict)
		require.Contains(t, got.node(t, "gate-good").Reason, "too few held-out rows to tell whether it is at most 0.135")
		require.Equal(t, last, champion(t, kept, "good"))
	})
}

// The best of a grid is registered, by the stated metric.
func TestBestOfAGrid(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	kept := t.TempDir()
	text := strings.NewReplacer(
		`, "0.2"]`, `]`,
		"    gates:", "    grid: {noise: [\"0.3\", \"0.1\", \"0.2\"]}\n    choose: {metric: brier, lower: true}\n    gates:",
	).Replace(lesson("good", "0.2"))
	source := lessons(t, edits{"millrace.yaml": text, "train.py": strings.Replace(trainProgram, "float(sys.argv[5])", "float(sys.argv[5].partition('=')[2])", 1)})
	got := ci(t, source, []string{"training", "--store", kept})
	require.Equal(t, 0, got.code)
	for _, node := range []string{"train-good-1", "train-good-2", "train-good-3"} {
		require.Equal(t, graph.Passed, got.node(t, node).Verdict)
	}
	version := champion(t, kept, "good").Version
	require.JSONEq(t, `{"how": "good", "noise": 0.1}`, string(keptFile(t, kept, "good", version, "outputs/model.json")))
	var m model.Manifest
	require.NoError(t, json.Unmarshal(keptFile(t, kept, "good", version, "manifest.json"), &m))
	require.Equal(t, map[string]string{"noise": "0.1"}, m.Parameters)
}

func TestDataThatBreaksItsContract(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	// dated has a column of dates besides, all of them the same.
	dated := func(date string) string {
		return strings.NewReplacer("id,x,y\n", "id,x,y,d\n", ",0\n", ",0,"+date+"\n", ",1\n", ",1,"+date+"\n").Replace(table(600))
	}
	withDates := strings.Replace(lesson("good", "0.2"), "{name: id, unique: true}", "{name: id, unique: true}, {name: d, type: date, optional: true}", 1)
	for name, test := range map[string]struct{ text, want string }{
		"the future":      {dated("2199-12-31"), `d: is not in the future: broken by 600 rows, such as "2199-12-31" on line 2`},
		"nulls only":      {regexp.MustCompile(`,\d,`).ReplaceAllString(table(600), ",,"), "x: is not null: broken by 600 rows"},
		"values":          {strings.Replace(table(600), "\n1,1,1\n", "\n1,99,nan\n", 1), `"99" on line 3`},
		"a row twice":     {table(600) + "0,0,0\n", "id: is unique: broken by 1 row"},
		"no column":       {strings.ReplaceAll(table(600), "id,x,y", "id,x,z"), "y: the column is missing"},
		"a null":          {strings.Replace(table(600), "\n1,1,1\n", "\n1,,1\n", 1), "x: is not null: broken by 1 row"},
		"infinite":        {strings.Replace(table(600), "\n1,1,1\n", "\n1,inf,1\n", 1), `"inf" on line 3`},
		"empty":           {"", "it has 0 rows"},
		"one row":         {"id,x,y\n1,1,1\n", "it has 1 rows, and 100 are the least"},
		"not UTF-8":       {"id,x,y\n\xff\xfe,1,1\n", "it can't be read"},
		"too many fields": {table(600) + "1000,1,1,1\n", "it can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			kept := t.TempDir()
			got := ci(t, lessons(t, edits{"data/rows.csv": test.text, "millrace.yaml": withDates}), []string{"training", "--store", kept})
			require.Equal(t, 1, got.code)
			require.Equal(t, graph.Failed, got.node(t, "validate").Verdict)
			require.Contains(t, got.node(t, "validate").Reason+got.text(t, "findings.sarif"), test.want)
			require.Equal(t, graph.Skipped, got.node(t, "train-good").Verdict)
			require.Empty(t, champion(t, kept, "good").Version)
		})
	}
}

// What cannot be written moves no champion.
func TestAStoreThatFails(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	kept := t.TempDir()
	source := lessons(t, nil)
	require.NoError(t, os.MkdirAll(filepath.Join(kept, "models", "good"), 0o755))
	// A file stands where the versions would lie.
	require.NoError(t, os.WriteFile(filepath.Join(kept, "models", "good", "versions"), nil, 0o644))
	got := ci(t, source, []string{"training", "--store", kept})
	require.Equal(t, 3, got.code)
	require.Equal(t, graph.Errored, got.node(t, "register-good").Verdict)
	require.Contains(t, got.node(t, "register-good").Reason, "whose champion stays as it was")
	require.Empty(t, champion(t, kept, "good").Version)
}

// Two trainings at once end with one champion, and neither's entry is lost.
func TestTwoTrainingsAtOnce(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	kept := t.TempDir()
	one, two := lessons(t, edits{"millrace.yaml": lesson("good", "0.11")}), lessons(t, edits{"millrace.yaml": lesson("good", "0.12")})
	args := []string{"training", "--store", kept}
	for _, run := range []*invocation{start(t, one, args), start(t, two, args)} {
		// Who comes second is inconclusive, unless it began after the first had ended; then it is held against it.
		require.Contains(t, []int{0, 4}, run.wait(t, longest).code)
	}
	entries, err := os.ReadDir(filepath.Join(kept, "models", "good", "versions"))
	require.NoError(t, err)
	require.Len(t, entries, 2, "both versions are kept")
	require.NotEmpty(t, champion(t, kept, "good").Version)
}

func TestTablesFromTheWeb(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	// A table of several parts, so that one can break off.
	source := lessons(t, edits{"data/rows.csv": table(1_200_000)})
	var downloads, broken atomic.Int32
	var silent atomic.Bool // whether checksums can't be looked at
	files := http.FileServer(http.Dir(filepath.Join(source, "data")))
	url := reachable(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if silent.Load() && strings.HasSuffix(r.URL.Path, ".sha256") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, ".csv") {
			if downloads.Add(1) == 2 {
				broken.Add(1)
				// Half of a part, and then nothing.
				w.Header().Set("Content-Length", "8388608")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(make([]byte, 4<<20))
				panic(http.ErrAbortHandler)
			}
		}
		files.ServeHTTP(w, r)
	}))
	got := ci(t, source, []string{"training", "--data", url})
	require.Equal(t, int32(1), broken.Load())
	require.Equal(t, graph.Passed, got.node(t, "download").Verdict, got.node(t, "download").Reason)
	data, err := os.ReadFile(filepath.Join(source, "data", "rows.csv"))
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	require.Equal(t, "sha256:"+hex.EncodeToString(sum[:]), got.node(t, "download").Artifacts[0].Digest)

	t.Run("the same content is not downloaded twice", func(t *testing.T) {
		before := downloads.Load()
		again := ci(t, source, []string{"training", "--data", url})
		require.Equal(t, graph.Passed, again.node(t, "download").Verdict)
		require.Equal(t, before, downloads.Load())
	})
	t.Run("a checksum that is another", func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(source, "data", "rows.csv"), []byte(table(200)), 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(source, "data", "rows.csv.sha256"), []byte(strings.Repeat("0", 64)+"  rows.csv\n"), 0o644))
		got := ci(t, source, []string{"training", "--data", url})
		require.Equal(t, 3, got.code)
		require.Contains(t, got.node(t, "download").Reason, "has the SHA-256")
	})
	t.Run("a checksum that can't be looked at is not one that is missing", func(t *testing.T) {
		silent.Store(true)
		defer silent.Store(false)
		got := ci(t, source, []string{"training", "--data", url})
		require.Equal(t, 3, got.code)
		require.Equal(t, graph.Errored, got.node(t, "download").Verdict)
	})
	t.Run("once it is right, the failure is forgotten", func(t *testing.T) {
		sum := sha256.Sum256([]byte(table(200)))
		require.NoError(t, os.WriteFile(filepath.Join(source, "data", "rows.csv.sha256"), []byte(hex.EncodeToString(sum[:])+"  rows.csv\n"), 0o644))
		require.Equal(t, graph.Passed, ci(t, source, []string{"training", "--data", url}).node(t, "download").Verdict)
		before := downloads.Load()
		require.Equal(t, graph.Passed, ci(t, source, []string{"training", "--data", url}).node(t, "download").Verdict)
		require.Equal(t, before, downloads.Load())
	})
	t.Run("nothing there", func(t *testing.T) {
		require.NoError(t, os.Remove(filepath.Join(source, "data", "rows.csv")))
		got := ci(t, source, []string{"training", "--data", url})
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "download").Reason, "has no rows.csv")
	})
}
