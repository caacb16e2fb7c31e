package enginetest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// lastLine is the last line of what a run printed to its standard output.
func (o outcome) lastLine() string {
	lines := strings.Split(strings.TrimRight(o.stdout, "\n"), "\n")
	return lines[len(lines)-1]
}

// pasted runs a command line as a shell reads it, and returns its exit status and what it printed.
func pasted(t *testing.T, line string) (code int, stdout string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = environment
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	t.Logf("%s\nended with %d and said:\n%s%s", line, cmd.ProcessState.ExitCode(), out, stderr.String())
	return cmd.ProcessState.ExitCode(), string(out)
}

// oneFails has a test that fails.
var oneFails = edits{"tests/test_sum.py": "def test_sum():\n    assert 1 + 1 == 3\n", "made here.txt": "by the test\n"}

// A failed run ends with the command that leads on, and that command does.
func TestLookInside(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	t.Run("the tests", func(t *testing.T) {
		source := scores(t, oneFails)
		got := ci(t, source, []string{"test"})
		require.Equal(t, 1, got.code)
		line, found := strings.CutPrefix(got.lastLine(), "look inside: ")
		require.True(t, found, got.lastLine())
		require.Equal(t, program+" shell test --source "+source+" --engine embedded", line)
		code, out := pasted(t, line+" -- sh -c 'cat \"made here.txt\"; python -m pytest -q tests/test_sum.py; exit 7'")
		require.Equal(t, 7, code)
		require.Contains(t, out, "by the test")
		require.Contains(t, out, "assert (1 + 1) == 3", "the tests run there as they did in the step")
	})
	t.Run("an image, before the instruction at fault", func(t *testing.T) {
		source := scores(t, edits{"docker/batch.Dockerfile": "FROM python:3.11-slim\nWORKDIR /made\nRUN echo by hand > here.txt\nRUN grep foot here.txt\nRUN rm here.txt\n"})
		got := ci(t, source, []string{"build"})
		require.Equal(t, 1, got.code)
		line, found := strings.CutPrefix(got.lastLine(), "look inside: ")
		require.True(t, found, got.lastLine())
		require.Equal(t, program+" shell build batch --before 4 --source "+source+" --engine embedded", line)
		code, out := pasted(t, line+" -- cat here.txt")
		require.Zero(t, code)
		require.Equal(t, "by hand\n", out)
		code, _ = pasted(t, strings.Replace(line, " --before 4", "", 1)+" -- true")
		require.Equal(t, 2, code, "there is no image")
	})
	t.Run("a training", func(t *testing.T) {
		source := lessons(t, edits{"millrace.yaml": lesson("crash", "0.2")})
		data := filepath.Join(source, "data")
		got := ci(t, source, []string{"training", "--data", data})
		require.Equal(t, 1, got.code)
		line, found := strings.CutPrefix(got.lastLine(), "look inside: ")
		require.True(t, found, got.lastLine())
		require.Equal(t, program+" shell train-crash --data "+data+" --source "+source+" --engine embedded", line)
		code, out := pasted(t, line+" -- sh -c 'wc -l < /data/rows.csv; python train.py crash /data/rows.csv /training/out 1 0.2 2>&1'")
		require.Equal(t, 1, code)
		require.Equal(t, "601\ntraining crash\nthe optimiser found nothing\n", out)
	})
	t.Run("what has no container is run again", func(t *testing.T) {
		source := scores(t, edits{"docker/api.Dockerfile": "FROM python:3.11-slim\nCOPPY scores /app\n"})
		got := ci(t, source, append([]string{"build"}, push...))
		require.Equal(t, 1, got.code)
		require.Equal(t, "run it again: "+program+" run build --source "+source+" --engine embedded "+strings.Join(push, " ")+" --out "+got.out, got.lastLine())
		edit(t, source, edits{"docker/api.Dockerfile": gone})
		line, _ := strings.CutPrefix(got.lastLine(), "run it again: ")
		code, _ := pasted(t, line)
		require.Zero(t, code)
	})
}

// terminal runs the program on a terminal of its own.
func terminal(t *testing.T, args ...string) (*os.File, *record, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(append([]string{}, environment...), "TERM=xterm")
	keyboard, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: screenLines, Cols: screenColumns})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = keyboard.Close()
	})
	screen := newRecord()
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buffer)
			if n > 0 {
				_, _ = screen.Write(buffer[:n])
			}
			if err != nil {
				return // the program has ended
			}
		}
	}()
	return keyboard, screen, cmd
}

// left waits for the end of a program on a terminal and returns its exit status.
func left(t *testing.T, cmd *exec.Cmd, screen *record) int {
	t.Helper()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ended is in ProcessState
	select {
	case <-ended:
	case <-time.After(longest):
		require.FailNow(t, "the program does not end", "%s", screen)
	}
	return cmd.ProcessState.ExitCode()
}

func TestInteractive(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := scores(t, oneFails)
	keyboard, screen, cmd := terminal(t, "test", "--interactive", "--source", source, "--engine", "embedded")
	screen.await(t, "This is the container of test.")
	require.Contains(t, screen.String(), "1 test failed")
	_, err := keyboard.WriteString("cat 'made here.txt'; echo $((6 * 7)) is the answer\n")
	require.NoError(t, err)
	screen.await(t, "by the test")
	screen.await(t, "42 is the answer")
	_, err = keyboard.WriteString("exit\n")
	require.NoError(t, err)
	require.Equal(t, graph.Failed.ExitCode(), left(t, cmd, screen), "the exit status is the run's")
	require.Contains(t, screen.String(), "look inside: "+program+" shell test --source "+source+" --engine embedded")
}

func TestShell(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := scores(t, nil)
	keyboard, screen, cmd := terminal(t, "shell", "build", "batch", "--source", source, "--engine", "embedded")
	screen.await(t, "This is the image batch.")
	_, err := keyboard.WriteString("ls /app/batch; exit 3\n")
	require.NoError(t, err)
	screen.await(t, "plan.txt")
	require.Zero(t, left(t, cmd, screen), "what happened in the shell is no failure of it")
}
