package state_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/state"
	"github.com/millrace-ci/millrace/pipelines/drift"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	f := state.Folder(filepath.Join(t.TempDir(), "new"))
	data, version, err := f.Read(t.Context(), "a/b.json")
	require.NoError(t, err)
	require.Empty(t, data)
	require.Empty(t, version)

	require.NoError(t, f.Write(t.Context(), "a/b.json", []byte("one"), ""))
	require.ErrorIs(t, f.Write(t.Context(), "a/b.json", []byte("two"), ""), drift.ErrChanged)
	data, version, err = f.Read(t.Context(), "a/b.json")
	require.NoError(t, err)
	require.Equal(t, "one", string(data))
	require.NoError(t, f.Write(t.Context(), "a/b.json", []byte("two"), version))
	require.ErrorIs(t, f.Write(t.Context(), "a/b.json", []byte("three"), version), drift.ErrChanged)

	_, _, err = f.Read(t.Context(), "../outside")
	require.ErrorContains(t, err, "lies outside of")
	require.ErrorContains(t, f.Write(t.Context(), "/etc/x", nil, ""), "lies outside of")

	left, err := filepath.Glob(filepath.Join(string(f), "a", "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(string(f), "a", "b.json")}, left)
}

// writer is set in the processes that TestRunsAtOnce starts.
const writer = "STATE_TEST_WRITER"

// Several processes, each with several runs at once, lose no entry.
func TestRunsAtOnce(t *testing.T) {
	const processes, runs = 3, 4
	if who := os.Getenv(writer); who != "" {
		var g sync.WaitGroup
		for i := range runs {
			g.Go(func() {
				ledger := drift.Ledger{Store: state.Folder(os.Getenv("STATE_TEST_FOLDER")), Name: "churn", Now: time.Now()}
				_, err := ledger.Change(t.Context(), func(h *drift.History) {
					h.Entries = append(h.Entries, drift.Entry{Time: time.Now(), Severity: drift.OK, Current: fmt.Sprint(who, "-", i)})
				})
				assert.NoError(t, err)
			})
		}
		g.Wait()
		return
	}
	folder := t.TempDir()
	var g sync.WaitGroup
	for i := range processes {
		g.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestRunsAtOnce$")
			cmd.Env = append(os.Environ(), fmt.Sprint(writer, "=", i), "STATE_TEST_FOLDER="+folder)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, string(out))
		})
	}
	g.Wait()
	h, aside, err := drift.Ledger{Store: state.Folder(folder), Name: "churn", Now: time.Now()}.Load(t.Context())
	require.NoError(t, err)
	require.Empty(t, aside)
	seen := map[string]bool{}
	for _, e := range h.Entries {
		seen[e.Current] = true
	}
	require.Len(t, seen, processes*runs)
	names, err := os.ReadDir(filepath.Join(folder, "drift", "churn"))
	require.NoError(t, err)
	for _, n := range names {
		require.False(t, strings.HasPrefix(n.Name(), "."), "%s was left behind", n.Name())
	}
}
