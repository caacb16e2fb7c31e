package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/millrace-ci/millrace/ci/embedded"
)

// Embedded is the engine that millrace builds and runs itself. All that it keeps lies in two folders.
type Embedded struct {
	// Cache is the folder of what is kept: programs, images, the engine's state.
	Cache string
	// Runtime is the folder of what lives as long as the engine: its socket, its locks, its process.
	Runtime string
	// Progress is told what goes on.
	Progress Progress
}

// NewEmbedded returns the embedded engine of the user whose environment lookup describes.
// The cache folder is millrace below XDG_CACHE_HOME (default: ~/.cache); the runtime folder lies below
// XDG_RUNTIME_DIR (default: /run), and is named after the cache folder, so that two caches mean two engines.
func NewEmbedded(lookup func(string) string, progress Progress) (*Embedded, error) {
	cache := lookup("XDG_CACHE_HOME")
	if cache == "" {
		home := lookup("HOME")
		if home == "" {
			return nil, errors.New("neither XDG_CACHE_HOME nor HOME is set: set one, so that the engine has a folder for its cache")
		}
		cache = filepath.Join(home, ".cache")
	}
	cache = filepath.Join(cache, "millrace")
	run := lookup("XDG_RUNTIME_DIR")
	if run == "" {
		run = "/run"
	}
	sum := sha256.Sum256([]byte(cache))
	return &Embedded{
		Cache:    cache,
		Runtime:  filepath.Join(run, "millrace", hex.EncodeToString(sum[:3])),
		Progress: progress,
	}, nil
}

// Running describes the embedded engine's process.
type Running struct {
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Build    string    `json:"build"`
	Socket   string    `json:"socket"`
	Registry string    `json:"registry"`
	Network  string    `json:"network"`
	Started  time.Time `json:"started"`
}

// RunnerHost returns the address by which Dagger's clients find the engine.
func (r Running) RunnerHost() string { return "unix://" + r.Socket }

func (e *Embedded) path(parts ...string) string {
	return filepath.Join(append([]string{e.Cache}, parts...)...)
}

func (e *Embedded) statePath() string  { return filepath.Join(e.Runtime, "engine.json") }
func (e *Embedded) socketPath() string { return filepath.Join(e.Runtime, "engine.sock") }

// aliveLock is held by the engine's process for as long as it lives, so that no stale pid is ever believed.
func (e *Embedded) aliveLock() *flock.Flock { return flock.New(filepath.Join(e.Runtime, "alive.lock")) }

// CLI returns the path of the Dagger CLI that belongs to the engine.
func (e *Embedded) CLI() (string, error) {
	bin, err := e.programs(embedded.EngineModule)
	return filepath.Join(bin, "dagger"), err
}

// programs returns the folder that holds, or will hold, the programs of m.
func (e *Embedded) programs(m embedded.Module) (string, error) {
	digest, err := m.Digest()
	if err != nil {
		return "", err
	}
	return e.path("bin", string(m)+"-"+digest), nil
}

// State returns the folder of the engine's own state, which is a part of the cache.
func (e *Embedded) State() string { return e.path("state") }

// Booked returns what the running engine's cache takes by its own books, in bytes.
func (e *Embedded) Booked(ctx context.Context, r Running) (int64, error) {
	cli, err := e.CLI()
	if err != nil {
		return 0, err
	}
	c, err := (&Engine{Kind: EmbeddedKind, embedded: e, runnerHost: r.RunnerHost(), cli: cli}).Connect(ctx, io.Discard)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	size, err := c.Engine().LocalCache().EntrySet().DiskSpaceBytes(ctx)
	return int64(size), err
}

// build names all that a running engine depends on, so that an engine of an older build is replaced.
func (e *Embedded) build() (string, error) {
	a, err := embedded.EngineModule.Digest()
	if err != nil {
		return "", err
	}
	b, err := embedded.RegistryModule.Digest()
	if err != nil {
		return "", err
	}
	recipes, err := embedded.RecipesDigest()
	if err != nil {
		return "", err
	}
	own, err := supervisor()
	return strings.Join([]string{a, b, recipes, own}, "-"), err
}

// Status returns the running engine, or nil when none is running.
func (e *Embedded) Status() (*Running, error) {
	if _, err := os.Stat(e.Runtime); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	lock := e.aliveLock()
	free, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("look for the embedded engine: %w", err)
	}
	if free {
		return nil, lock.Unlock()
	}
	data, err := os.ReadFile(e.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it is starting, or stopping
	}
	if err != nil {
		return nil, err
	}
	var r Running
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read %s: %w", e.statePath(), err)
	}
	return &r, nil
}

// Up makes sure that the engine of this build is running, and returns it.
// Whatever is missing is installed or built first. Commands that call Up at the same time share one build and one engine.
func (e *Embedded) Up(ctx context.Context) (*Running, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	build, err := e.build()
	if err != nil {
		return nil, err
	}
	if r, err := e.Status(); err == nil && r != nil && r.Build == build && r.healthy(ctx) == nil {
		return r, nil
	}
	for _, dir := range []string{e.Cache, e.Runtime} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the embedded engine's folder: %w", err)
		}
	}
	unlock, err := e.lockSetup(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()

	r, err := e.Status()
	if err != nil {
		return nil, err
	}
	if r != nil {
		unhealthy := r.healthy(ctx)
		if r.Build == build && unhealthy == nil {
			return r, nil
		}
		why := "another build of it is running"
		if unhealthy != nil {
			why = unhealthy.Error()
		}
		e.Progress.Note("restarting the embedded engine: %s", why)
		if err := e.stop(ctx, r); err != nil {
			return nil, err
		}
	}
	if err := e.setUp(ctx); err != nil {
		return nil, err
	}
	return e.start(ctx)
}

// lockSetup waits until no other command sets the engine up.
func (e *Embedded) lockSetup(ctx context.Context) (unlock func(), err error) {
	lock := flock.New(e.path("setup.lock"))
	free, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	if !free {
		task := e.Progress.Start("wait for another command that is setting the engine up")
		_, err = lock.TryLockContext(ctx, 200*time.Millisecond)
		task.End(err)
		if err != nil {
			return nil, fmt.Errorf("wait for another command that is setting the engine up: %w", err)
		}
	}
	return func() { _ = lock.Unlock() }, nil
}

// healthy reports why the engine can't be used.
func (r *Running) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", r.Socket)
	if err != nil {
		return fmt.Errorf("the engine does not answer: %w", err)
	}
	_ = conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Registry+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the engine's registry does not answer: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the engine's registry answers %s", resp.Status)
	}
	return nil
}

// Down stops the engine and puts back what it changed of the host's network. The cache stays.
// It returns false when no engine was running.
func (e *Embedded) Down(ctx context.Context) (bool, error) {
	if err := supported(); err != nil {
		return false, err
	}
	if _, err := os.Stat(e.Cache); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	unlock, err := e.lockSetup(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	r, err := e.Status()
	if err != nil {
		return false, err
	}
	if r != nil {
		if err := e.stop(ctx, r); err != nil {
			return false, err
		}
	}
	// An engine that was killed had no chance to clean up behind itself.
	if err := restoreNetwork(e.Runtime); err != nil {
		return false, err
	}
	return r != nil, os.RemoveAll(e.Runtime)
}

// stop ends a running engine and waits until it is gone.
func (e *Embedded) stop(ctx context.Context, r *Running) error {
	task := e.Progress.Start("stop the embedded engine")
	err := func() error {
		if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the embedded engine (pid %d): %w", r.PID, err)
		}
		lock := e.aliveLock()
		gone := func(patience time.Duration) bool {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			free, err := lock.TryLockContext(ctx, 50*time.Millisecond)
			return free && err == nil
		}
		if !gone(stopTimeout + 10*time.Second) {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("the embedded engine (pid %d) was told to stop, and was not waited for: %w", r.PID, err)
			}
			// It hangs. What it started ends with it.
			if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill the embedded engine (pid %d): %w", r.PID, err)
			}
			if !gone(10 * time.Second) {
				return fmt.Errorf("the embedded engine (pid %d) did not stop, not even by SIGKILL: see %s", r.PID, e.path("log", "daemon.log"))
			}
		}
		return lock.Unlock()
	}()
	task.End(err)
	return err
}

// supported says why the embedded engine can't run on this machine.
func supported() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the embedded engine runs on linux/amd64, and this is %s/%s: install a container runtime such as Docker, or name an engine with _EXPERIMENTAL_DAGGER_RUNNER_HOST", runtime.GOOS, runtime.GOARCH)
	}
	if os.Geteuid() != 0 {
		text := "the embedded engine needs root, because it makes namespaces and a network bridge: run the command with sudo, install a container runtime such as Docker, or name an engine with " + runnerHostVariable
		_, foreign := exec.LookPath("apt-get")
		if missing := missingPackages(); len(missing) > 0 && foreign == nil {
			text += "; as root it installs what it lacks: sudo " + strings.Join(installCommand(missing), " ")
		}
		return errors.New(text)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
