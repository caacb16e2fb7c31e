package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/millrace-ci/millrace/ci/embedded"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second

	// CacheBound bounds, in bytes, the engine's cache; least recently used entries go first. The images in the registry come on top.
	// It is no larger because the engine reads the books of all entries when it starts, and for each one that it removes; and no
	// smaller because one run of this project's tests fills 20 GiB.
	CacheBound = 30 << 30
)

//go:embed daemon_linux.go stage_linux.go network_linux.go mirror.go
var ownSources embed.FS

// supervisor identifies the code of the engine's process, as 12 hexadecimal digits:
// an engine that was started by an older one is replaced.
func supervisor() (string, error) {
	h := sha256.New()
	for _, name := range []string{"daemon_linux.go", "stage_linux.go", "network_linux.go", "mirror.go"} {
		data, err := ownSources.ReadFile(name)
		if err != nil {
			return "", err
		}
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// DaemonCommand and StageCommand are the hidden commands by which this program starts itself again:
// as the process that looks after the engine, and as the engine's first process in its own namespaces.
const (
	DaemonCommand = "daemon"
	StageCommand  = "stage"
)

// start runs the daemon and waits until the engine takes connections.
func (e *Embedded) start(ctx context.Context) (*Running, error) {
	task := e.Progress.Start("start the engine")
	r, err := e.spawn(ctx)
	if err != nil && ctx.Err() == nil {
		// An engine that has just been stopped may take its network devices away under the eyes of the new one.
		task.Update("once more")
		r, err = e.spawn(ctx)
	}
	if err != nil && ctx.Err() == nil && damaged.MatchString(err.Error()) {
		e.Progress.Note("the engine's cache is damaged, as after a power cut: it is made anew")
		task.Update("with an empty cache")
		if err = e.dropState(); err == nil {
			r, err = e.spawn(ctx)
		}
	}
	task.End(err)
	return r, err
}

// damaged is what an engine says that can't make sense of its own cache. It writes without waiting for the disk, so after a
// power cut some of its databases may be older than others. Those that it can't open it makes anew by itself; what contradicts
// another makes it end. Other reasons to end here, such as a full disk, are none to give the cache up.
var damaged = regexp.MustCompile(`failed to create engine: failed to create base worker: .*(failed precondition|not found|already exists)`)

// dropState puts the engine's cache aside. The daemon removes it beside its work, as that takes minutes.
func (e *Embedded) dropState() error {
	if err := os.Rename(e.path("state"), e.path(fmt.Sprintf("%s%d", damagedState, time.Now().UnixNano()))); err != nil {
		return fmt.Errorf("put the engine's damaged cache aside: %w", err)
	}
	return nil
}

// damagedState begins the names of caches that are put aside.
const damagedState = "damaged-state-"

// removeDamaged removes what was put aside. Where that is cut off, the rest goes when the next engine runs.
func (e *Embedded) removeDamaged() error {
	found, err := filepath.Glob(e.path(damagedState + "*"))
	for _, dir := range found {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

func (e *Embedded) spawn(ctx context.Context) (*Running, error) {
	self, err := e.keepSelf()
	if err != nil {
		return nil, fmt.Errorf("keep a copy of this program for the engine's process: %w", err)
	}
	logPath := e.path("log", "daemon.log")
	if err := os.MkdirAll(filepath.Dir(logPath), 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(self, "engine", DaemonCommand)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, e.Cache
	// Its own session: the engine outlives the terminal and the command that started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if r, err := e.Status(); err == nil && r != nil && r.healthy(ctx) == nil {
			return r, nil
		}
		select {
		case <-ended:
			said, _ := os.ReadFile(logPath)
			return nil, fmt.Errorf("the embedded engine did not start:\n%s\nits logs are in %s", lastLines(said, 15), e.path("log"))
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			return nil, fmt.Errorf("the embedded engine did not answer within %s: its logs are in %s", startTimeout, e.path("log"))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keepSelf copies this program into the cache: "go run" removes its own when the command ends.
func (e *Embedded) keepSelf() (string, error) {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer in.Close()
	target := e.path("bin", "millrace")
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", err
	}
	out, err := os.CreateTemp(filepath.Dir(target), "millrace-*")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		_ = os.Remove(out.Name())
		return "", err
	}
	return target, os.Rename(out.Name(), target)
}

// Daemon looks after the embedded engine, its registry and its mirror until it is told to stop, or one of them ends.
// It is what [Embedded.Up] starts, and not meant to be called by people.
func (e *Embedded) Daemon() error {
	// The children end with the thread that started them.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// What it calls lies there on many systems, and not every root looks there.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	if err := os.MkdirAll(e.Runtime, 0o755); err != nil {
		return err
	}
	lock := e.aliveLock()
	if free, err := lock.TryLock(); err != nil || !free {
		return errors.Join(errors.New("the embedded engine is running already"), err)
	}
	defer func() { _ = lock.Unlock() }()

	if err := restoreNetwork(e.Runtime); err != nil {
		return err
	}
	network, err := recordNetwork(e.Runtime)
	if err != nil {
		return err
	}
	registry, registryAddress, err := e.startRegistry()
	if err != nil {
		return err
	}
	defer endChild(registry, 5*time.Second)
	mirror, err := e.startMirror(registryAddress)
	if err != nil {
		return err
	}
	defer mirror.Close()
	defer func() { _ = restoreNetwork(e.Runtime) }()
	if err := network.open(); err != nil {
		return err
	}
	engine, err := e.startEngine(network, mirror.address)
	if err != nil {
		return err
	}
	defer endChild(engine, stopTimeout)
	if err := e.awaitSocket(ctx, engine); err != nil {
		return err
	}
	build, err := e.build()
	if err != nil {
		return err
	}
	if err := writeJSON(e.statePath(), Running{
		PID: os.Getpid(), Version: embedded.EngineVersion, Build: build, Socket: e.socketPath(),
		Registry: mirror.address, Network: network.Name, Started: time.Now().UTC(),
	}); err != nil {
		return err
	}
	defer os.Remove(e.statePath())
	go func() {
		if err := e.removeDamaged(); err != nil {
			fmt.Fprintln(os.Stderr, "remove a damaged cache:", err) // into daemon.log
		}
	}()

	select {
	case <-ctx.Done():
		return nil
	case <-engine.done:
		return e.ended("engine", embedded.EngineModule, engine)
	case <-registry.done:
		return e.ended("registry", embedded.RegistryModule, registry)
	}
}

// ended says that a program ended which should not have.
func (e *Embedded) ended(name string, m embedded.Module, c *child) error {
	bin, err := e.programs(m)
	if err != nil {
		return err
	}
	return fmt.Errorf("the %s ended by itself (%v): see %s; if the disk may have damaged its program, remove %s, and it is built again",
		name, c.cmd.ProcessState, e.path("log", name+".log"), bin)
}

// child is a process of the daemon's.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (e *Embedded) startChild(name string, cmd *exec.Cmd) (*child, error) {
	// The log of the engine that ended is what says why it did.
	path := e.path("log", name+".log")
	_ = os.Rename(path, path+".1")
	log, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// However the daemon ends, nothing of it goes on.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(c.done) }()
	return c, nil
}

func endChild(c *child, patience time.Duration) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

func (e *Embedded) startRegistry() (*child, string, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	bin, err := e.programs(embedded.RegistryModule)
	if err != nil {
		return nil, "", err
	}
	config := e.path("registry.json")
	// The configuration is YAML, of which JSON is a part.
	if err := writeJSON(config, map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "warn", "accesslog": map[string]any{"disabled": true}},
		"storage": map[string]any{
			"filesystem": map[string]any{"rootdirectory": e.path("registry")},
			"delete":     map[string]any{"enabled": true},
		},
		"http": map[string]any{"addr": address},
	}); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(filepath.Join(bin, "registry"), "serve", config)
	// It would look for somebody who collects traces, and complain of having found none, for as long as it runs.
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER="+cmp.Or(os.Getenv("OTEL_TRACES_EXPORTER"), "none"))
	c, err := e.startChild("registry", cmd)
	return c, address, err
}

// freeAddress returns an address on loopback that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (e *Embedded) startEngine(network Network, mirror string) (*child, error) {
	cli, err := e.CLI()
	if err != nil {
		return nil, err
	}
	bin := filepath.Dir(cli)
	cni, err := e.linkCNI(bin)
	if err != nil {
		return nil, err
	}
	shims, err := e.writeShims()
	if err != nil {
		return nil, err
	}
	plugins, err := network.plugins()
	if err != nil {
		return nil, err
	}
	networkConfig := e.path("network.conflist")
	if err := os.WriteFile(networkConfig, plugins, 0o644); err != nil {
		return nil, err
	}
	config := e.path("engine.toml")
	if err := os.WriteFile(config, []byte(engineConfig(mirror, networkConfig, cni)), 0o644); err != nil {
		return nil, err
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return nil, err
	}
	content, err := e.sdkDir()
	if err != nil {
		return nil, err
	}
	manifest, err := e.sdkManifest()
	if err != nil {
		return nil, fmt.Errorf("find the image that Dagger modules are built in: %w", err)
	}
	// What an engine that was killed has left there goes with the next set-up.
	temporary := e.path("tmp", "engine")
	if err := os.MkdirAll(temporary, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", "engine", StageCommand, e.Runtime, e.path("scratch"), "--", filepath.Join(bin, "engine"),
		"--config", config, "--root", e.path("state"), "--addr", "unix://"+e.socketPath(),
		"--network-name", network.Name, "--network-cidr", network.CIDR)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(),
		"MILLRACE_ENGINE_RUNC="+runc,
		"MILLRACE_ENGINE_INIT="+filepath.Join(bin, "init"),
		"MILLRACE_ENGINE_STATE="+e.path("state"),
		"MILLRACE_ENGINE_CONTENT="+content,
		"DAGGER_GO_SDK_MANIFEST_DIGEST="+manifest,
		// With Go's default a fifth of the engine's processor time goes into collecting garbage.
		"GOGC="+cmp.Or(os.Getenv("GOGC"), "200"),
		"TMPDIR="+temporary,
		"PATH="+shims+":"+bin+":"+os.Getenv("PATH"),
	)
	// With a PID namespace of its own, nothing of the engine can outlive it: no container, no name server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	return e.startChild("engine", cmd)
}

// engineConfig sends every pull from Docker Hub through the mirror, says how containers get their network, and bounds the cache.
// The pool of networks is as small as can be: it is for containers without a host name, of which the engine has none.
func engineConfig(mirror, network, plugins string) string {
	return fmt.Sprintf(`[registry."docker.io"]
  mirrors = [%[1]q]
[registry.%[1]q]
  http = true
[worker.oci]
  gc = true
  maxUsedSpace = %[2]d
  reservedSpace = %[3]d
  minFreeSpace = %[4]d
  cniConfigPath = %[5]q
  cniBinaryPath = %[6]q
  cniPoolSize = 1
`, mirror, int64(CacheBound), int64(CacheBound/4), int64(2<<30), network, plugins)
}

// linkCNI gathers the network plugins in one folder, where the engine looks for them.
func (e *Embedded) linkCNI(bin string) (string, error) {
	dir := e.path("cni")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"bridge", "loopback", "host-local"} {
		if err := os.Symlink("/usr/lib/cni/"+name, filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	return dir, os.Symlink(filepath.Join(bin, "dnsname"), filepath.Join(dir, "dnsname"))
}

// writeShims puts a dnsmasq on the engine's path that binds the addresses of the engine's network alone:
// as the engine calls it, it would take port 53 of the whole host, which may have a name server of its own.
func (e *Embedded) writeShims() (string, error) {
	dnsmasq, err := exec.LookPath("dnsmasq")
	if err != nil {
		return "", err
	}
	dir := e.path("shims")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "dnsmasq"), []byte("#!/bin/sh\nexec "+dnsmasq+" --bind-dynamic \"$@\"\n"), 0o755)
}

func (e *Embedded) awaitSocket(ctx context.Context, engine *child) error {
	deadline := time.Now().Add(startTimeout)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("unix", e.socketPath()); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-engine.done:
			said, _ := os.ReadFile(e.path("log", "engine.log"))
			return fmt.Errorf("the engine ended as it started (%v):\n%s", engine.cmd.ProcessState, lastLines(said, 8))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.New("the engine does not listen")
}

// endWithParent has the kernel end the command when this process ends, however that happens.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM }
