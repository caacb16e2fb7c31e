// Package engine finds the Dagger engine that a command runs on, or starts the embedded one.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/embedded"
)

// Kind says where an engine comes from.
type Kind string

// The kinds of engine, in the order in which Auto tries them.
const (
	// Auto takes the first kind of the others that is there.
	Auto Kind = "auto"
	// Session is the engine session that this process already runs in.
	Session Kind = "session"
	// Runner is the engine that _EXPERIMENTAL_DAGGER_RUNNER_HOST names.
	Runner Kind = "runner"
	// Runtime is the stock engine's image in a container runtime such as Docker.
	Runtime Kind = "runtime"
	// EmbeddedKind is the engine that millrace builds and runs itself.
	EmbeddedKind Kind = "embedded"
)

const (
	runnerHostVariable = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
	cliVariable        = "_EXPERIMENTAL_DAGGER_CLI_BIN"
	sessionVariable    = "DAGGER_SESSION_PORT"
)

// Engine is the engine that was chosen.
type Engine struct {
	Kind Kind
	// Why says in a line why it was chosen.
	Why string
	// Version is the engine's version. That of a session or a runner is known after [Engine.Connect]; until then it is the one that
	// millrace is made for.
	Version string
	// Registry is the address of the registry that belongs to the embedded engine; empty for the others.
	Registry string

	runnerHost, cli string
	embedded        *Embedded
}

// Choose decides which kind of engine to use, and starts none.
// lookup reads the environment; asked is Auto or the kind that must be used.
func Choose(ctx context.Context, asked Kind, lookup func(string) string, progress Progress) (*Engine, error) {
	own, err := NewEmbedded(lookup, progress)
	if err != nil {
		return nil, err
	}
	e := &Engine{embedded: own, Version: embedded.EngineVersion, cli: lookup(cliVariable)}
	if e.cli == "" {
		e.cli = findCLI(own)
	} else if path, err := exec.LookPath(e.cli); err == nil {
		e.cli = path
	}
	runtime := func() string { return findRuntime(ctx) }
	switch asked {
	case Session:
		if lookup(sessionVariable) == "" {
			return nil, errors.New("--engine session was asked for, and this process is in no session: run it by dagger run")
		}
		return e.is(Session, "asked for by --engine"), nil
	case Runner:
		if lookup(runnerHostVariable) == "" {
			return nil, fmt.Errorf("--engine runner was asked for, and %s is not set", runnerHostVariable)
		}
		e.runnerHost = lookup(runnerHostVariable)
		return e.is(Runner, "asked for by --engine"), nil
	case Runtime:
		if runtime() == "" {
			return nil, errors.New("--engine runtime was asked for, and no container runtime answers: tried docker, podman, nerdctl and finch")
		}
		return e.is(Runtime, "asked for by --engine"), nil
	case EmbeddedKind:
		return e.is(EmbeddedKind, "asked for by --engine"), nil
	}
	if lookup(sessionVariable) != "" {
		return e.is(Session, "this process already runs in a session ("+sessionVariable+" is set)"), nil
	}
	if host := lookup(runnerHostVariable); host != "" {
		e.runnerHost = host
		return e.is(Runner, runnerHostVariable+" is set"), nil
	}
	if name := runtime(); name != "" {
		return e.is(Runtime, name+" works on this machine"), nil
	}
	return e.is(EmbeddedKind, "there is no session, no "+runnerHostVariable+", and no container runtime that answers"), nil
}

func (e *Engine) is(kind Kind, why string) *Engine {
	e.Kind, e.Why = kind, why
	return e
}

// findRuntime returns the name of a container runtime that works here, of those that Dagger knows.
func findRuntime(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, name := range []string{"docker", "podman", "nerdctl", "finch"} {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		// A client without its server answers too, but not this.
		cmd := exec.CommandContext(ctx, name, "ps", "--quiet")
		cmd.WaitDelay = time.Second
		if cmd.Run() == nil {
			return name
		}
	}
	return ""
}

// findCLI returns a Dagger CLI of the pinned version: the one on PATH, or the one built for the embedded engine.
// Without one, the SDK downloads it.
func findCLI(own *Embedded) string {
	if path, err := exec.LookPath("dagger"); err == nil {
		if out, err := exec.Command(path, "version").Output(); err == nil && strings.Contains(string(out), embedded.EngineVersion) {
			return path
		}
	}
	if path, err := own.CLI(); err == nil && exists(path) {
		return path
	}
	return ""
}

// Ready starts what has to be started, so that the engine can be connected to.
func (e *Engine) Ready(ctx context.Context) error {
	if e.Kind == Runner {
		return e.reach(ctx)
	}
	if e.Kind != EmbeddedKind || e.runnerHost != "" {
		return nil
	}
	running, err := e.embedded.Up(ctx)
	if err != nil {
		return err
	}
	e.runnerHost, e.Registry, e.Version = running.RunnerHost(), running.Registry, running.Version
	e.cli, err = e.embedded.CLI()
	return err
}

// reachPatience is how long a runner that refuses connections is tried: it may be starting.
const reachPatience = 10 * time.Second

// reach finds out whether anything listens where a runner is said to be. The dagger command would try for as long as it is let,
// and say nothing.
func (e *Engine) reach(ctx context.Context) error {
	network, address, _ := strings.Cut(e.runnerHost, "://")
	if network != "tcp" && network != "unix" {
		return nil // it is started by connecting, or lies behind another program
	}
	within, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(within, network, address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-within.Done():
			return fmt.Errorf("no engine listens at %s, where %s says that there is one (%w): start it, or correct the variable, or take the embedded engine with --engine embedded", e.runnerHost, runnerHostVariable, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Connect opens a session, which [HangUp] ends; what the engine says of its work goes to log.
func (e *Engine) Connect(ctx context.Context, log io.Writer) (*dagger.Client, error) {
	if err := e.Ready(ctx); err != nil {
		return nil, err
	}
	cli, env, err := e.sessionCLI(log)
	if err != nil {
		return nil, err
	}
	number := env[sessionPIDVariable]
	if number != "" {
		defer os.Remove(number)
	}
	if cli != "" {
		// The SDK takes the CLI's path from the environment alone.
		restore, err := setEnvironment(cliVariable, cli)
		if err != nil {
			return nil, err
		}
		defer restore()
	}
	options := []dagger.ClientOpt{
		dagger.WithLogOutput(log),
		dagger.WithEnvironmentVariable("DAGGER_NO_NAG", "1"),
		dagger.WithEnvironmentVariable("DO_NOT_TRACK", "1"),
		dagger.WithEnvironmentVariable("DAGGER_PROGRESS", "plain"), // whatever the user's own dagger commands are to show
	}
	for name, value := range env {
		options = append(options, dagger.WithEnvironmentVariable(name, value))
	}
	if e.runnerHost != "" {
		options = append(options, dagger.WithRunnerHost(e.runnerHost))
	}
	// The session outlives an interrupt, which ends the steps: what a deploy has begun is undone in it. Whoever connects closes it.
	type outcome struct {
		c   *dagger.Client
		err error
	}
	connected := make(chan outcome, 1)
	go func() {
		c, err := dagger.Connect(context.WithoutCancel(ctx), options...)
		connected <- outcome{c, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case o := <-connected:
		if o.err != nil {
			return nil, fmt.Errorf("connect to the %s engine: %w", e.Kind, o.err)
		}
		if text, err := os.ReadFile(number); err == nil {
			if pid, err := strconv.Atoi(string(text)); err == nil {
				sessions.Store(o.c, pid)
			}
		}
		if e.Kind == Session || e.Kind == Runner {
			// Somebody else chose what runs there.
			if version, err := o.c.Version(ctx); err == nil {
				e.Version = version
			}
		}
		return o.c, nil
	}
}

// AskVersion returns the engine's version, in words where it is not known. An engine that somebody else has started is asked,
// unless that would start one, or fetch the dagger command.
func (e *Engine) AskVersion(ctx context.Context) string {
	const patience = 20 * time.Second
	scheme, _, _ := strings.Cut(e.runnerHost, "://")
	switch {
	case e.Kind != Session && e.Kind != Runner:
		return e.Version
	case strings.HasPrefix(scheme, "docker-image") || strings.HasPrefix(scheme, "image"):
		return "not asked: to connect to " + e.runnerHost + " would start it"
	case e.Kind == Runner && e.cli == "":
		return "not asked: there is no dagger command " + e.Version + " here yet; the first run fetches it"
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := e.Connect(ctx, io.Discard)
	if err == nil {
		defer HangUp(c)
		var version string
		if version, err = c.Version(ctx); err == nil {
			return version
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("unknown: it does not answer within %s", patience)
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return "unknown: " + line
}

// Embedded returns the embedded engine, whether or not it was chosen.
func (e *Engine) Embedded() *Embedded { return e.embedded }

// Environment returns the variables by which the plain dagger command finds the engine and is found itself.
func (e *Engine) Environment(path string) [][2]string {
	var env [][2]string
	if e.runnerHost != "" {
		env = append(env, [2]string{runnerHostVariable, e.runnerHost})
	}
	if e.cli != "" {
		env = append(env, [2]string{cliVariable, e.cli})
		if dir := filepath.Dir(e.cli); !strings.HasPrefix(path, dir+":") {
			env = append(env, [2]string{"PATH", dir + ":" + path})
		}
	}
	return env
}
