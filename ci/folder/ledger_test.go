package folder_test

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

	"github.com/millrace-ci/millrace/ci/folder"
	"github.com/millrace-ci/millrace/pipelines/drift"
)

// writer is set in the processes that TestRunsAtOnce starts.
const writer = "FOLDER_TEST_WRITER"

// Several processes, each with several runs at once, lose no entry.
func TestRunsAtOnce(t *testing.T) {
	const processes, runs = 3, 4
	if who := os.Getenv(writer); who != "" {
		var g sync.WaitGroup
		for i := range runs {
			g.Go(func() {
				ledger := drift.Ledger{Store: folder.Store{Path: os.Getenv("FOLDER_TEST_FOLDER")}, Name: "churn", Now: time.Now()}
				_, err := ledger.Change(t.Context(), func(h *drift.History) {
					h.Entries = append(h.Entries, drift.Entry{Time: time.Now(), Severity: drift.OK, Current: fmt.Sprint(who, "-", i)})
				})
				assert.NoError(t, err)
			})
		}
		g.Wait()
		return
	}
	dir := t.TempDir()
	var g sync.WaitGroup
	for i := range processes {
		g.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestRunsAtOnce$")
			cmd.Env = append(os.Environ(), fmt.Sprint(writer, "=", i), "FOLDER_TEST_FOLDER="+dir)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, string(out))
		})
	}
	g.Wait()
	h, aside, err := drift.Ledger{Store: folder.Store{Path: dir}, Name: "churn", Now: time.Now()}.Load(t.Context())
	require.NoError(t, err)
	require.Empty(t, aside)
	seen := map[string]bool{}
	for _, e := range h.Entries {
		seen[e.Current] = true
	}
	require.Len(t, seen, processes*runs)
	names, err := os.ReadDir(filepath.Join(dir, "drift", "churn"))
	require.NoError(t, err)
	for _, n := range names {
		require.False(t, strings.HasPrefix(n.Name(), "."), "%s was left behind", n.Name())
	}
}
