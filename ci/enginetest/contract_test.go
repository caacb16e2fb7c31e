package enginetest

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// A table that breaks its contract is not compared: the rows are counted and shown, nothing is trained, and the history
// knows nothing of it.
func TestContractBeforeDrift(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source, tables, state := t.TempDir(), t.TempDir(), t.TempDir()
	edit(t, source, edits{"millrace.yaml": `data:
  - name: people
    path: reference.csv
    rows: {min: 1000}
    columns:
      - {name: id, unique: true}
      - {name: age, type: number, min: -40, max: 130}
      - {name: plan, values: [basic, pro]}
      - {name: left, values: ["yes", "no"]}
drift: {name: people, target: left, columns: {id: {ignore: true}}}
`})
	// labelled has a column with what came true, where that is known.
	labelled := func(text, label string) string {
		lines := strings.SplitAfter(text, "\n")
		for i, line := range lines {
			if line != "" {
				end := ",no\n"
				switch {
				case i == 0:
					end = ",left\n"
				case label != "":
					end = label
				}
				lines[i] = strings.TrimSuffix(line, "\n") + end
			}
		}
		return strings.Join(lines, "")
	}
	save := func(name, content string) string {
		path := filepath.Join(tables, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		return path
	}
	reference := save("reference.csv", labelled(people(1, 1000, 0), ""))
	run := func(t *testing.T, reference, current string) outcome {
		t.Helper()
		return ci(t, source, []string{"drift", "--reference", reference, "--current", current, "--store", state})
	}
	entries := func(t *testing.T) int {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(state, "drift", "people", "history.json"))
		require.NoError(t, err)
		return strings.Count(string(data), `"severity"`)
	}

	t.Run("what a day's table need not have", func(t *testing.T) {
		// Fewer rows than a table to train on, and labels that have not arrived.
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write([]byte(people(2, 200, 0)))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		for name, content := range map[string]string{
			"no column.csv.gz": packed.String(), "empty.csv": labelled(people(3, 200, 0), ",\n"),
		} {
			got := run(t, reference, save(name, content))
			require.Equal(t, 0, got.code, name)
			got.requireVerdicts(t, map[string]graph.Verdict{"contract": graph.Passed, "detect": graph.Passed, "check": graph.Passed})
		}
		require.Equal(t, 2, entries(t))
	})

	header := labelled("id,age,amount,plan\n", "")
	require.NoError(t, os.Mkdir(filepath.Join(tables, "other"), 0o755))
	for name, test := range map[string]struct{ reference, current, want string }{
		"today's values": {reference, save("values.csv", strings.ReplaceAll(people(4, 1000, 0.6), ",pro\n", ",prp\n")),
			`the data breaks its contract: current: plan: is one of basic, pro: broken by`},
		"today's rows":    {reference, save("twice.csv", strings.Replace(people(4, 1000, 0.6), "\n7,", "\n6,", 1)), "current: id: is unique: broken by 1 row"},
		"today's columns": {reference, save("columns.csv", strings.ReplaceAll(people(4, 1000, 0), "plan\n", "tariff\n")), "current: plan: the column is missing"},
		"the reference":   {save("other/reference.csv", header), save("clean.csv", people(5, 1000, 0)), "reference: it has 0 rows, and 1000 are the least"},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, test.reference, test.current)
			require.Equal(t, 1, got.code)
			got.requireVerdicts(t, map[string]graph.Verdict{"contract": graph.Failed, "detect": graph.Skipped, "retrain": graph.Skipped, "alerts": graph.Skipped})
			require.Contains(t, got.node(t, "contract").Reason, test.want)
			require.Equal(t, 2, entries(t))
			got.requireOneScreen(t)
		})
	}
	text := labelled(people(4, 1000, 0.6), "")
	t.Run("an offending row is shown", func(t *testing.T) {
		got := run(t, reference, save("line.csv", strings.Replace(text, "\n7,", "\n7,1000,1,basic,no\n2000,", 1)))
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "contract").Reason, `current: age: is at most 130: broken by 1 row, such as "1000" on line 9`)
	})
}
