package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/embedded"
)

func lookup(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

func TestChoose(t *testing.T) {
	// No container runtime is on this path.
	t.Setenv("PATH", t.TempDir())
	home := map[string]string{"HOME": t.TempDir()}
	with := func(more ...string) map[string]string {
		env := map[string]string{"HOME": home["HOME"]}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	const runner, session = "_EXPERIMENTAL_DAGGER_RUNNER_HOST", "DAGGER_SESSION_PORT"
	for name, test := range map[string]struct {
		asked Kind
		env   map[string]string
		want  Kind
		fails string
	}{
		"a session comes first":             {Auto, with(session, "1234", runner, "tcp://engine:1"), Session, ""},
		"then a runner":                     {Auto, with(runner, "tcp://engine:1"), Runner, ""},
		"then, without a runtime, our own":  {Auto, with(), EmbeddedKind, ""},
		"what is asked for wins":            {EmbeddedKind, with(session, "1234"), EmbeddedKind, ""},
		"a session that is not there":       {Session, with(), "", "run it by dagger run"},
		"a runner that is not named":        {Runner, with(), "", runner + " is not set"},
		"a runtime that is not there":       {Runtime, with(), "", "no container runtime answers"},
		"no place for a cache":              {Auto, map[string]string{}, "", "neither XDG_CACHE_HOME nor HOME is set"},
		"a runner may be asked for by name": {Runner, with(runner, "tcp://engine:1", session, "1"), Runner, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Choose(t.Context(), test.asked, lookup(test.env), Lines(&bytes.Buffer{}))
			if test.fails != "" {
				require.ErrorContains(t, err, test.fails)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, e.Kind)
			require.NotEmpty(t, e.Why)
			require.Equal(t, embedded.EngineVersion, e.Version)
		})
	}
}

// A runtime is one that answers: a client whose server is gone is passed over, and so is one that hangs.
func TestChooseARuntime(t *testing.T) {
	path := t.TempDir()
	t.Setenv("PATH", path)
	program := func(name, script string) {
		require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\n"+script), 0o755))
	}
	choose := func(asked Kind, env ...string) (*Engine, error) {
		all := map[string]string{"HOME": path}
		for i := 0; i < len(env); i += 2 {
			all[env[i]] = env[i+1]
		}
		return Choose(t.Context(), asked, lookup(all), Lines(io.Discard))
	}
	program("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1\n")
	e, err := choose(Auto)
	require.NoError(t, err)
	require.Equal(t, EmbeddedKind, e.Kind)
	_, err = choose(Runtime)
	require.ErrorContains(t, err, "no container runtime answers")

	program("podman", "[ \"$1\" = ps ]\n")
	e, err = choose(Auto)
	require.NoError(t, err)
	require.Equal(t, Runtime, e.Kind)
	require.Equal(t, "podman works on this machine", e.Why)
	require.Empty(t, e.Environment(path), "the dagger command finds it by itself")

	e, err = choose(Auto, runnerHostVariable, "tcp://engine:1")
	require.NoError(t, err)
	require.Equal(t, Runner, e.Kind)
	e, err = choose(EmbeddedKind)
	require.NoError(t, err)
	require.Equal(t, EmbeddedKind, e.Kind)

	program("podman", "exec /bin/sleep 60\n")
	e, err = choose(Auto)
	require.NoError(t, err)
	require.Equal(t, EmbeddedKind, e.Kind)
}

func TestFoldersFollowTheEnvironment(t *testing.T) {
	t.Parallel()
	a, err := NewEmbedded(lookup(map[string]string{"HOME": "/home/ada"}), nil)
	require.NoError(t, err)
	require.Equal(t, "/home/ada/.cache/millrace", a.Cache)
	require.Equal(t, "/run/millrace", filepath.Dir(a.Runtime))
	b, err := NewEmbedded(lookup(map[string]string{"HOME": "/home/ada", "XDG_CACHE_HOME": "/var/cache/ada", "XDG_RUNTIME_DIR": "/run/user/7"}), nil)
	require.NoError(t, err)
	require.Equal(t, "/var/cache/ada/millrace", b.Cache)
	require.Equal(t, "/run/user/7/millrace", filepath.Dir(b.Runtime))
	require.NotEqual(t, filepath.Base(a.Runtime), filepath.Base(b.Runtime), "two caches are two engines")
}

func TestAStaleRecordIsNoEngine(t *testing.T) {
	t.Parallel()
	e := &Embedded{Cache: t.TempDir(), Runtime: t.TempDir(), Progress: Lines(&bytes.Buffer{})}
	r, err := e.Status()
	require.NoError(t, err)
	require.Nil(t, r)

	require.NoError(t, writeJSON(e.statePath(), Running{PID: os.Getpid(), Socket: e.socketPath()}))
	r, err = e.Status()
	require.NoError(t, err)
	require.Nil(t, r, "nobody holds the lock, so the record's process is not the engine, though it lives")

	lock := e.aliveLock()
	held, err := lock.TryLock()
	require.NoError(t, err)
	require.True(t, held)
	r, err = e.Status()
	require.NoError(t, err)
	require.NotNil(t, r)
	require.Error(t, r.healthy(t.Context()), "it does not answer")

	require.NoError(t, os.WriteFile(e.statePath(), []byte("{"), 0o644))
	_, err = e.Status()
	require.ErrorContains(t, err, e.statePath())
	require.NoError(t, lock.Unlock())
}

func TestSetUpIsLocked(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	e := &Embedded{Cache: t.TempDir(), Progress: Lines(&said)}
	unlock, err := e.lockSetup(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	_, err = e.lockSetup(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Contains(t, said.String(), "another command")
	unlock()
	unlock, err = e.lockSetup(t.Context())
	require.NoError(t, err)
	unlock()
}

func TestLines(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	p := Lines(&said)
	p.Start("blink").End(nil)
	require.Empty(t, said.String(), "what is over at once is not worth a line")
	p.Start("break").End(errors.New("x"))
	require.Contains(t, said.String(), "break: failed after")
	p.Note("installing %s", "runc")
	require.Contains(t, said.String(), "engine: installing runc\n")
}

// The mirror makes stand-ins for those who pull from Docker Hub through it, and is a plain registry to everybody else.
func TestMirror(t *testing.T) {
	t.Parallel()
	var asked []string
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Path) }))
	defer backend.Close()
	at, err := url.Parse(backend.URL)
	require.NoError(t, err)
	slim, _ := embedded.FindRecipe("library/python:3.11-slim")
	digest, err := slim.Digest()
	require.NoError(t, err)
	m := &mirror{
		backend: httputil.NewSingleHostReverseProxy(at),
		made:    map[string]string{"library/python:3.11-slim": digest},
		making:  map[string]*making{},
	}
	front := httptest.NewServer(m)
	defer front.Close()
	for _, path := range []string{
		"/v2/library/python/manifests/3.11-slim?ns=docker.io",
		"/v2/library/python/blobs/sha256:00?ns=docker.io",
		"/v2/acme/thing/manifests/1?ns=docker.io",
		"/v2/library/python/manifests/3.11-slim",
		"/v2/",
		statusPath,
	} {
		resp, err := front.Client().Get(front.URL + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
	}
	require.Equal(t, []string{
		"/v2/stand-ins/library/python/manifests/3.11-slim",
		"/v2/stand-ins/library/python/blobs/sha256:00",
		"/v2/stand-ins/acme/thing/manifests/1",
		"/v2/library/python/manifests/3.11-slim",
		"/v2/",
	}, asked)
}

func TestAStandInThatCantBeMadeSaysWhy(t *testing.T) {
	t.Parallel()
	m := &mirror{made: map[string]string{}, making: map[string]*making{}, engine: &Embedded{Cache: filepath.Join(t.TempDir(), "missing"), Progress: Lines(&bytes.Buffer{})}}
	front := httptest.NewServer(m)
	defer front.Close()
	resp, err := front.Client().Get(front.URL + "/v2/library/debian/manifests/12?ns=docker.io")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	all, err := StandIns(t.Context(), front.Listener.Addr().String())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "library/debian:12", all[0].Reference)
	require.Contains(t, all[0].Error, "make the stand-in for library/debian:12")
}

func TestListenRemembersItsAddress(t *testing.T) {
	t.Parallel()
	memory := filepath.Join(t.TempDir(), "address")
	first, err := listen(memory)
	require.NoError(t, err)
	again, err := listen(memory)
	require.NoError(t, err, "the remembered address is taken: another one is")
	require.NotEqual(t, first.Addr().String(), again.Addr().String())
	require.NoError(t, again.Close())
	last, err := listen(memory)
	require.NoError(t, err)
	require.Equal(t, again.Addr().String(), last.Addr().String())
	require.NoError(t, errors.Join(first.Close(), last.Close()))
}

// Where packages can't be installed, the error says how to do it where they can.
func TestPackagesThatAreMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	own, err := NewEmbedded(lookup(map[string]string{"HOME": t.TempDir()}), Lines(io.Discard))
	require.NoError(t, err)
	err = own.installPackages(t.Context())
	require.ErrorContains(t, err, "this system has no apt-get: install a container runtime such as Docker, or name an engine with "+runnerHostVariable)
	require.ErrorContains(t, err, "apt-get install --yes --no-install-recommends ")
	require.ErrorContains(t, err, " mmdebstrap git")
}

// A runner that nobody started is said to be missing within seconds, and one that is starting is waited for.
func TestRunnerThatIsNotThere(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "engine.sock")
	e, err := Choose(t.Context(), Runner, lookup(map[string]string{"HOME": t.TempDir(), runnerHostVariable: "unix://" + socket}), Lines(io.Discard))
	require.NoError(t, err)
	began := time.Now()
	require.ErrorContains(t, e.Ready(t.Context()), "no engine listens at unix://"+socket+", where "+runnerHostVariable+" says that there is one")
	require.Less(t, time.Since(began), 2*reachPatience)

	time.AfterFunc(time.Second, func() {
		l, err := net.Listen("unix", socket)
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
	})
	require.NoError(t, e.Ready(t.Context()))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, os.RemoveAll(socket))
	require.ErrorIs(t, e.Ready(ctx), context.Canceled)
}
