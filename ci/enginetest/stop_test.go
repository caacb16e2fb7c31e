package enginetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// The tests of this file stop things: those that stop the engine run beside no other.

// processes lists the processes of this machine, those in containers included, whose command line has a text.
func processes(t *testing.T, text string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, file := range files {
		line, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && bytes.Contains(line, []byte(text)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// group lists the processes of a process group; those that have ended and only wait to be collected don't count.
func group(t *testing.T, id int) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// The program's name is in brackets, and may hold anything.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if string(fields[0]) != "Z" && string(fields[2]) == strconv.Itoa(id) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually waits until a condition holds.
func eventually(t *testing.T, patience time.Duration, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, patience, 100*time.Millisecond, what)
}

// startSleeper starts a run whose test starts a process that would go on for a day, and waits until it is there.
// marker is on that process's command line.
func startSleeper(t *testing.T) (run *invocation, source, marker string) {
	t.Helper()
	marker = fmt.Sprintf("86399.%d", time.Now().UnixNano())
	source = scores(t, edits{"tests/test_sleep.py": fmt.Sprintf("import subprocess\n\n\ndef test_sleep():\n    subprocess.run([\"sleep\", %q], check=True)\n", marker)})
	run = start(t, source, []string{"test"})
	eventually(t, longest, func() bool { return len(processes(t, marker)) > 0 }, "the test does not start")
	return run, source, marker
}

func TestInterrupted(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	run, _, marker := startSleeper(t)
	leader := run.cmd.Process.Pid
	require.NoError(t, syscall.Kill(-leader, syscall.SIGINT))
	got := run.wait(t, time.Minute)
	require.Equal(t, 130, got.code)
	require.Equal(t, graph.Cancelled, got.node(t, "test").Verdict)
	require.Contains(t, got.stderr, "interrupted")
	got.requireOneScreen(t)
	eventually(t, 30*time.Second, func() bool { return len(group(t, leader)) == 0 }, "processes of the run are left")
	eventually(t, time.Minute, func() bool { return len(processes(t, marker)) == 0 }, "the test goes on in its container")
}

func TestEngineKilled(t *testing.T) {
	needsEngine(t)
	closeClient()
	before := running(t)
	run, source, marker := startSleeper(t)
	require.NoError(t, syscall.Kill(before.PID, syscall.SIGKILL))
	got := run.wait(t, time.Minute)
	require.Equal(t, 3, got.code)
	node := got.node(t, "test")
	require.Equal(t, graph.Errored, node.Verdict)
	require.Contains(t, node.Reason, "engine")
	got.requireOneScreen(t)
	eventually(t, 10*time.Second, func() bool { return len(processes(t, marker)) == 0 }, "a container outlives its engine")

	edit(t, source, edits{"tests/test_sleep.py": gone})
	again := ci(t, source, []string{"test"})
	require.Equal(t, 0, again.code)
	require.NotEqual(t, before.PID, running(t).PID)
}

func TestTwoStartsShareOneEngine(t *testing.T) {
	needsEngine(t)
	closeClient()
	require.NoError(t, visibly(program, "engine", "down"))
	var both sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		both.Go(func() {
			cmd := exec.Command(program, "engine", "up", "--engine", "embedded")
			cmd.Env = environment
			if out, err := cmd.CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("%w\n%s", err, out)
			}
		})
	}
	both.Wait()
	require.NoError(t, errs[0])
	require.NoError(t, errs[1])
	now := running(t)
	daemons := 0
	for _, pid := range processes(t, "engine\x00daemon") {
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil {
			own, err := embedded()
			require.NoError(t, err)
			if cwd == own.Cache {
				daemons++
				require.Equal(t, now.PID, pid)
			}
		}
	}
	require.Equal(t, 1, daemons)
}
