package enginetest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/image"
)

// makeTables writes two tables of one distribution, a million rows at a time.
const makeTables = `
import sys
import numpy as np, pyarrow as pa, pyarrow.csv
rows = int(sys.argv[1])
for seed, name in enumerate(["reference", "current"]):
    random = np.random.default_rng(seed)
    kinds = [("id", pa.int64()), ("amount", pa.float64()), ("plan", pa.string())]
    with pyarrow.csv.CSVWriter(f"/tables/{name}.csv", pa.schema(kinds)) as file:
        for first in range(0, rows, 1_000_000):
            n = min(1_000_000, rows - first)
            plans = np.array(["basic", "plus", "pro"])[random.integers(0, 3, n)]
            file.write_table(pa.table({"id": np.arange(first, first + n), "amount": random.lognormal(size=n).round(3), "plan": plans}))
`

// weigh runs programs one after the other, and prints what each took: seconds of processor, and the most memory in MiB.
const weigh = `
import json, os, sys
took = {}
for name, argv in json.loads(sys.argv[1]):
    child = os.posix_spawn(argv[0], argv, os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{name} ended with {status}")
    took[name] = {"seconds": usage.ru_utime + usage.ru_stime, "mib": usage.ru_maxrss >> 10}
json.dump(took, sys.stdout)
`

// Ten million rows take no more memory than the stated bounds, for the contract and for drift.
func TestTenMillionRows(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	c := client(t)
	const rows, mostMiB = "10000000", 1024
	contract := `{"now": "2026-03-01T00:00:00Z", "tables": [{"name": "current", "path": "current.csv", "columns": [
		{"name": "id", "unique": true}, {"name": "amount", "type": "number", "min": 0}]}]}`
	for _, test := range []struct {
		name, lock string
		program    []string
		settings   string
	}{
		{
			"drift", "drift/detector/requirements.txt",
			[]string{
				image.ToolboxPython, "-m", "millrace_drift", "measure", "--reference", "/tables/reference.csv", "--current", "/tables/current.csv",
				"--config", "/settings.json", "--now", "2026-03-01T00:00:00Z", "--out", "/found.json",
			},
			`{}`,
		},
		{
			"contract", "model/locks/model.txt",
			[]string{image.ToolboxPython, "/pipelines/model/tools/contract.py", "/settings.json", "/tables", "/found.json"},
			contract,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			lock, err := os.ReadFile(filepath.Join(repository, "pipelines", test.lock))
			require.NoError(t, err)
			ctr, err := image.Toolbox(t.Context(), c, "", string(lock))
			require.NoError(t, err)
			root, err := filepath.Abs(repository)
			require.NoError(t, err)
			programs := c.Host().Directory(root, dagger.HostDirectoryOpts{Include: []string{"pipelines/model/tools/*.py", "pipelines/drift/detector/millrace_drift/*.py"}})
			argv, err := json.Marshal([]any{
				[]any{"tables", []string{image.ToolboxPython, "/make.py", rows}},
				[]any{test.name, test.program},
				[]any{"clean", []string{"/bin/rm", "-r", "/tables"}}, // not to be kept in the engine's cache
			})
			require.NoError(t, err)
			done := ctr.
				WithDirectory("/pipelines", programs.Directory("pipelines")).
				WithEnvVariable("PYTHONPATH", "/pipelines/drift/detector").
				WithNewFile("/make.py", makeTables).WithNewFile("/weigh.py", weigh).WithNewFile("/settings.json", test.settings).
				WithDirectory("/tables", c.Directory()).
				WithExec([]string{image.ToolboxPython, "/weigh.py", string(argv)})
			text, err := done.Stdout(t.Context())
			require.NoError(t, err)
			var took map[string]struct {
				Seconds float64
				MiB     int
			}
			require.NoError(t, json.Unmarshal([]byte(text), &took), text)
			t.Logf("%s of 10 million rows by 3 columns: %.1f s of processor time, %d MiB at most", test.name, took[test.name].Seconds, took[test.name].MiB)
			require.Less(t, took[test.name].MiB, mostMiB)
			found, err := done.File("/found.json").Contents(t.Context())
			require.NoError(t, err)
			require.Contains(t, found, `"rows": `+rows)
		})
	}
}
