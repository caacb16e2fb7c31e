package enginetest

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ran tells when each tool ran that a run reports on: the time in its container at which it began to print.
// An engine that takes a result from its cache hands out the files of the time when that was made.
func (o outcome) ran(t *testing.T) map[string]time.Time {
	t.Helper()
	times := map[string]time.Time{}
	root := filepath.Join(o.out, "reports")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".stdout.txt") {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		times[strings.TrimSuffix(filepath.ToSlash(name), ".stdout.txt")] = info.ModTime()
		return err
	}))
	return times
}

// requireRanAgain checks that exactly the tools named ran again since the run before.
func (o outcome) requireRanAgain(t *testing.T, before outcome, tools ...string) {
	t.Helper()
	then, now := before.ran(t), o.ran(t)
	require.Equal(t, slices.Sorted(maps.Keys(then)), slices.Sorted(maps.Keys(now)))
	again := []string{}
	for tool, when := range now {
		if !when.Equal(then[tool]) {
			again = append(again, tool)
		}
	}
	require.ElementsMatch(t, tools, again, "these tools ran again")
}

// What has not changed is not done again. Nothing here goes by how long a run takes.
func TestCaching(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	d := newDepot().open(t)
	// Of this source the engine has seen nothing yet.
	source := scores(t, edits{
		"scores/fresh.py": fmt.Sprintf("\"\"\"Made for one run of a test.\"\"\"\n\nMADE = %d\n", time.Now().UnixNano()),
		"batch/fresh.txt": time.Now().String(),
	})
	run := func(t *testing.T) outcome {
		t.Helper()
		got := ci(t, source, append([]string{"ci-cd", "--registry", d.address + "/team"}, push...))
		require.Equal(t, 0, got.code)
		return got
	}
	began := time.Now().Add(-time.Second)
	// A first run without reports has all the work done that a run with reports needs.
	code, _ := pasted(t, strings.Join(append([]string{program, "ci-cd", "--engine", "embedded", "--source", source, "--registry", d.address + "/team"}, push...), " "))
	require.Zero(t, code)
	ended := time.Now().Add(time.Second)
	first := run(t)
	linters := []string{"lint/black/black", "lint/flake8/flake8", "lint/isort/isort", "lint/mypy/mypy", "lint/pylint/pylint"}
	tests := []string{"test/pytest-1", "test/coverage"}
	require.Subset(t, slices.Collect(maps.Keys(first.ran(t))), slices.Concat(linters, tests, []string{"security/bandit/bandit", "security/safety/safety"}))
	for _, tool := range slices.Concat(linters, tests, []string{"security/bandit/bandit"}) {
		require.True(t, first.ran(t)[tool].After(began), "%s did not run on a source that is new", tool)
		require.True(t, first.ran(t)[tool].Before(ended), "%s ran once more for its reports", tool)
	}

	t.Run("nothing changed", func(t *testing.T) {
		got := run(t)
		got.requireRanAgain(t, first)
		require.Equal(t, first.digests(t), got.digests(t))
	})
	t.Run("a README changed", func(t *testing.T) {
		edit(t, source, edits{"README.md": "# scores, newly described\n"})
		got := run(t)
		got.requireRanAgain(t, first)
		require.Equal(t, first.digests(t), got.digests(t))
	})
	whole := t
	t.Run("a test changed", func(t *testing.T) {
		edit(t, source, edits{"tests/test_fresh.py": fmt.Sprintf(
			"\"\"\"Tests of what is fresh.\"\"\"\n\nfrom scores import fresh\n\n\ndef test_made() -> None:\n    \"\"\"It was made before %d.\"\"\"\n    assert fresh.MADE > 0\n", time.Now().Unix())})
		got := run(whole) // its files are compared with below, after this part is over
		// bandit reads Python code too.
		got.requireRanAgain(t, first, slices.Concat(linters, tests, []string{"security/bandit/bandit"})...)
		require.Equal(t, first.digests(t), got.digests(t))
		first = got
	})
	t.Run("one service changed", func(t *testing.T) {
		edit(t, source, edits{"batch/fresh.txt": time.Now().String()})
		got, before := run(t), first.digests(t)
		require.Equal(t, before["api"], got.digests(t)["api"], "the image of another service was built again")
		require.NotEqual(t, before["batch"], got.digests(t)["batch"])
		// A test may read any file of the source; and a folder at the root counts as a whole for the tools that read code.
		got.requireRanAgain(t, first, slices.Concat(linters, tests, []string{"security/bandit/bandit"})...)
	})
}
