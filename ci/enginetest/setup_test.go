package enginetest

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
)

// machine is a cache folder of its own, as on another machine, that has some of what the engine of the tests has made.
type machine struct {
	t     *testing.T
	cache string
	env   []string
}

func newMachine(t *testing.T, parts ...string) machine {
	t.Helper()
	own, err := embedded()
	require.NoError(t, err)
	folder := t.TempDir()
	m := machine{t: t, cache: filepath.Join(folder, "cache", "millrace")}
	require.NoError(t, os.MkdirAll(m.cache, 0o755))
	for _, part := range parts {
		found, err := filepath.Glob(filepath.Join(own.Cache, part))
		require.NoError(t, err)
		require.NotEmpty(t, found, part)
		for _, from := range found {
			to := filepath.Join(m.cache, filepath.Dir(part), filepath.Base(from))
			require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
			out, err := exec.Command("cp", "--archive", "--reflink=auto", from, to).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
	m.env = append(m.env, environment...)
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		m.env = append(m.env, name+"="+strings.TrimSpace(string(value)))
	}
	m.env = append(m.env, "XDG_CACHE_HOME="+filepath.Dir(m.cache), "XDG_RUNTIME_DIR="+filepath.Join(folder, "run"))
	return m
}

// startMachine starts an engine on a machine of its own, which has all that the tests' engine has made but its state.
func startMachine(t *testing.T) machine {
	t.Helper()
	m := newMachine(t, "stand-ins.json")
	m.borrow("bin", "sdk", "registry")
	t.Cleanup(func() { m.engine(program, "engine", "down") })
	code, said := m.engine(program, "engine", "up", "--engine", "embedded")
	require.Zero(t, code, said)
	return m
}

// borrow lends the machine more of what the engine of the tests has made. It may only be read.
func (m machine) borrow(parts ...string) {
	m.t.Helper()
	own, err := embedded()
	require.NoError(m.t, err)
	for _, part := range parts {
		require.NoError(m.t, os.Symlink(filepath.Join(own.Cache, part), filepath.Join(m.cache, part)))
	}
}

// engine runs a command of the engine's, and returns what it said.
func (m machine) engine(argv ...string) (code int, said string) {
	m.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	m.t.Logf("%s: %v\n%s", strings.Join(argv[1:], " "), err, out)
	require.NotNil(m.t, cmd.ProcessState, err)
	return cmd.ProcessState.ExitCode(), string(out)
}

// getenv reads the machine's environment.
func (m machine) getenv(name string) string {
	for _, variable := range slices.Backward(m.env) {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}

// running returns the process of the engine.
func (m machine) running() engine.Running {
	m.t.Helper()
	own, err := engine.NewEmbedded(m.getenv, engine.Lines(io.Discard))
	require.NoError(m.t, err)
	r, err := own.Status()
	require.NoError(m.t, err)
	require.NotNil(m.t, r, "no engine is running")
	return *r
}

func (m machine) programs(pattern string) []string {
	m.t.Helper()
	found, err := filepath.Glob(filepath.Join(m.cache, "bin", pattern))
	require.NoError(m.t, err)
	return found
}

func TestSetUpIsKilled(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	m := newMachine(t, "bin/engine-*", "sdk")
	t.Cleanup(func() { m.engine(program, "engine", "down") })

	// Killed in the middle of a build, which does not go on without it.
	said := newRecord()
	cmd := exec.Command(program, "engine", "up", "--engine", "embedded")
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = m.env, said, said, time.Second
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	begun := func() bool { return strings.Contains(said.String(), "build the registry") }
	eventually(t, longest, func() bool { return begun() || len(ended) > 0 }, "it builds nothing")
	require.True(t, begun(), "%s", said)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, <-ended)
	require.Empty(t, m.programs("registry-*"), "half a program is taken for a whole one")
	eventually(t, 10*time.Second, func() bool { return len(processes(t, m.cache)) == 0 }, "a build outlives its command")

	// What a build that was killed has left, and a process number that somebody else has by now.
	half := filepath.Join(m.cache, "tmp", "registry-bin", "registry")
	require.NoError(t, os.MkdirAll(filepath.Dir(half), 0o755))
	require.NoError(t, os.WriteFile(half, []byte("\x7fELF, and no more"), 0o755))
	code, text := m.engine(program, "engine", "up", "--engine", "embedded")
	require.Zero(t, code, text)
	_, text = m.engine(program, "engine", "status")
	require.Contains(t, text, "running since")
	code, _ = m.engine(program, "engine", "down")
	require.Zero(t, code)

	// A program that the disk has lost a part of, as after a power cut.
	damaged := filepath.Join(m.programs("registry-*")[0], "registry")
	require.NoError(t, os.Truncate(damaged, 4096))
	code, text = m.engine(program, "engine", "up", "--engine", "embedded")
	require.Equal(t, 3, code, text)
	require.Contains(t, text, "remove "+filepath.Dir(damaged)+", and it is built again")
	require.Less(t, strings.Count(text, "\n"), screenLines)
	require.NoError(t, os.RemoveAll(filepath.Dir(damaged)))
	code, text = m.engine(program, "engine", "up", "--engine", "embedded")
	require.Zero(t, code, text)
}

func TestFullDisk(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	m := newMachine(t)
	// A file system of its own, and a mount namespace of its own, so that it is gone with the command.
	small := []string{"unshare", "--mount", "--propagation=unchanged", "sh", "-c", `mount -t tmpfs -o size=64m none "$XDG_CACHE_HOME" && exec "$0" "$@"`, program, "engine", "up", "--engine", "embedded"}
	code, said := m.engine(small...)
	require.Equal(t, 3, code, said)
	require.Contains(t, said, "GiB free, and the first set-up needs up to 8")
	require.Contains(t, said, "point XDG_CACHE_HOME elsewhere")
	left, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	require.False(t, bytes.Contains(left, []byte(filepath.Dir(m.cache))))
	require.NoError(t, syscall.Access(m.cache, 2), "the folder is as it was")
}

// A fresh root is entered by chroot, which leaves the root a folder of some mount and not one itself.
func TestEngineInAChroot(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	m := newMachine(t, "stand-ins.json")
	m.borrow("bin", "sdk", "registry")
	t.Cleanup(func() { m.engine(program, "engine", "down") })
	// The folders of this machine, in a folder of a file system that is gone with the engine.
	const enter = `
mount -t tmpfs none "$1"
mkdir "$1/root"
for path in /*; do
	if [ -L "$path" ]; then cp -P "$path" "$1/root$path"; elif [ -d "$path" ]; then mkdir "$1/root$path"; mount --rbind "$path" "$1/root$path"; fi
done
exec chroot "$1/root" "$2" engine up --engine embedded`
	code, said := m.engine("unshare", "--mount", "--propagation=unchanged", "sh", "-euc", enter, "sh", t.TempDir(), program)
	require.Zero(t, code, said)

	chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, m.getenv, engine.Lines(io.Discard))
	require.NoError(t, err)
	c, err := chosen.Connect(t.Context(), io.Discard)
	require.NoError(t, err)
	defer c.Close()
	out, err := c.Container().From("debian:bookworm-slim").WithExec([]string{"ls", "/"}).Stdout(t.Context())
	require.NoError(t, err)
	require.Contains(t, out, "etc\n")
}

// An engine that answers no signal is killed, when whoever stops it has waited long enough, and not when he gives up.
func TestAnEngineThatHangsIsKilled(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	m := startMachine(t)
	r := m.running()
	require.NoError(t, syscall.Kill(r.PID, syscall.SIGSTOP))

	code, said := m.engine("timeout", "--signal", "INT", "--preserve-status", "3", program, "engine", "down")
	require.Equal(t, 130, code)
	require.Contains(t, said, "ci: interrupted")
	require.Equal(t, r.PID, m.running().PID)

	code, said = m.engine(program, "engine", "down")
	require.Zero(t, code, said)
	eventually(t, 10*time.Second, func() bool { return len(processes(t, m.cache)) == 0 }, "something of the engine goes on")
}

// The engine's databases don't wait for the disk: after a power cut the one may be older than the other.
func TestAPowerCut(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	m := startMachine(t)
	echo := func(what string) {
		chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, m.getenv, engine.Lines(io.Discard))
		require.NoError(t, err)
		c, err := chosen.Connect(t.Context(), io.Discard)
		require.NoError(t, err)
		defer c.Close()
		text, err := c.Container().From("debian:bookworm-slim").WithExec([]string{"echo", what}).Stdout(t.Context())
		require.NoError(t, err)
		require.Equal(t, what+"\n", text)
	}
	echo("before")
	code, said := m.engine(program, "engine", "down")
	require.Zero(t, code, said)
	// That a layer was finished, this database does not know, and the other does. Neither is broken by itself.
	database := filepath.Join(m.cache, "state", "worker", "metadata_v2.db")
	text, err := os.ReadFile(database)
	require.NoError(t, err)
	older := bytes.ReplaceAll(text, []byte("snapshot.committed"), []byte("snapshot.committee"))
	require.NotEqual(t, text, older)
	require.NoError(t, os.WriteFile(database, older, 0o600))

	code, said = m.engine(program, "engine", "up", "--engine", "embedded")
	require.Zero(t, code, said)
	require.Contains(t, said, "the engine's cache is damaged, as after a power cut: it is made anew")
	echo("after")
	eventually(t, longest, func() bool {
		found, err := filepath.Glob(filepath.Join(m.cache, "damaged-*"))
		require.NoError(t, err)
		return len(found) == 0
	}, "the damaged cache is kept")
}
