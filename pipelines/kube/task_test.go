package kube

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// However the watch of a pod goes, its end is seen, and a task that runs longer than a pod may take to start is not given up.
func TestTaskScript(t *testing.T) {
	t.Parallel()
	kubectl, err := os.ReadFile("testdata/kubectl.sh")
	require.NoError(t, err)
	for name, test := range map[string]struct{ watch, end, state, log string }{
		"watched":                        {"allowed", "done", "done", ""},
		"watched, and deleted by others": {"allowed", "deleted", "gone", ""},
		"watched, and taken from a node": {"allowed", "drained", "gone", ""},
		"not allowed to watch":           {"forbidden", "done", "done", ""},
		"not allowed, and deleted":       {"forbidden", "deleted", "gone", ""},
		"a watch that is closed":         {"closed", "done", "done", ""},
		"a watch with an error":          {"broken", "done", "done", ""},
		"a watch that says nothing":      {"dumb", "done", "done", ""},
		"a log that comes late":          {"closed", "done", "done", "late"},
		"a log that breaks off":          {"closed", "done", "done", "cut"},
		"a log that never comes whole":   {"closed", "done", "done", "never"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, out := t.TempDir(), t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "kubectl"), kubectl, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "began"), []byte("0"), 0o600))
			cmd := exec.CommandContext(t.Context(), "sh", "task.sh", "default", "task", "30", "", "what it printed")
			// With a watch that says nothing, asking is what tells that the pod has started.
			ask, patience := "6", "5"
			switch test.watch {
			case "dumb":
				patience = "12"
			case "allowed":
				ask = "60"
			}
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "WATCH="+test.watch, "END="+test.end, "LOG="+test.log, "MILLRACE_OUT="+out, "MILLRACE_ASK="+ask, "MILLRACE_PATIENCE="+patience)
			said, err := cmd.CombinedOutput()
			require.NoError(t, err, string(said))
			require.Empty(t, string(said))
			state, err := os.ReadFile(filepath.Join(out, "state"))
			require.NoError(t, err)
			require.Equal(t, test.state, string(state))
			log, err := os.ReadFile(filepath.Join(out, "log.txt"))
			require.NoError(t, err)
			whole := "first\nwhat it printed\n"
			if test.log == "never" {
				whole = "first\nwhat it "
			}
			require.Equal(t, whole, string(log))
			calls, err := os.ReadFile(filepath.Join(dir, "calls"))
			require.NoError(t, err)
			lines := strings.Split(strings.TrimSpace(string(calls)), "\n")
			require.Contains(t, lines[len(lines)-1], "delete pod task")
			if test.watch == "allowed" {
				require.Equal(t, 6, strings.Count(string(calls), "--namespace default"), string(calls))
			}
		})
	}
}
