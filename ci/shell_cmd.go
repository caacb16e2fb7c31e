package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"dagger.io/dagger"
	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/step"
)

type shellCmd struct {
	sourceFlags
	engineFlag
	tablesFlag
	Language string   `enum:",python,go" default:"" placeholder:"NAME" help:"Language of the step, python or go, where the source has both (default: python)."`
	Before   int      `placeholder:"LINE" help:"For build: the image as it is before the instruction in that line of its Dockerfile."`
	Node     string   `arg:"" help:"lint, test, security or build, or one that trains, such as train-MODEL."`
	Image    string   `arg:"" optional:"" help:"Image, for build."`
	Command  []string `arg:"" optional:"" help:"Command, after --: it is run in place of a shell, and its exit status is returned."`
}

// AfterApply tells the image from the command: the parser takes the words after -- for either.
func (c *shellCmd) AfterApply(k *kong.Context) error {
	var words []string
	if c.Image != "" || len(c.Command) > 0 {
		words = append([]string{c.Image}, c.Command...)
	}
	c.Image, c.Command = "", nil
	if at := slices.Index(k.Args, "--"); at >= 0 {
		if c.Command = slices.Clone(k.Args[at+1:]); len(c.Command) == 0 {
			return usagef("there is no command after --")
		}
		words = words[:max(0, len(words)-len(c.Command))]
	}
	if len(words) > 1 {
		return usagef("%q is more than the name of an image: put a command after --", words)
	}
	if len(words) == 1 {
		c.Image = words[0]
	}
	return nil
}

// Run opens the shell. Only the dagger command can hand a terminal to a container: outside of a session of that command
// this one starts itself again inside of one, after it has seen that the container is there.
func (c *shellCmd) Run(ctx context.Context, s *streams) error {
	p := &pipeline{sourceFlags: c.sourceFlags, tables: c.tablesFlag}
	p.Engine = c.Engine
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	at := pipelines.Workplace{Node: c.Node, Language: c.Language, Image: c.Image, Before: c.Before}
	if err := at.Check(ready.project); err != nil {
		return usageError{err}
	}
	switch trains := at.Trains(ready.project); {
	case trains:
		if err := c.checkData(c.Source); err != nil {
			return err
		}
	case c.Data != "":
		return usagef("--data is for nodes that train, and %s does not", c.Node)
	}
	chosen, err := c.choose(ctx, s)
	if err != nil {
		return err
	}
	interactive := len(c.Command) == 0
	if interactive && !canOpen(chosen) {
		return usagef("a shell needs a terminal: to run one command, put it after --, as in: ci shell %s -- ls", c.Node)
	}
	log, err := ready.engineLog(s)
	if err != nil {
		return err
	}
	defer log.Close()
	client, err := log.connect(ctx, chosen)
	if err != nil {
		return err
	}
	defer engine.HangUp(client)
	inside, err := ready.container(ctx, ready.inputs(client, ""), at)
	if err != nil {
		return usageError{err}
	}
	if !interactive {
		return runCommand(ctx, s, inside.Container, c.Command)
	}
	if _, err = inside.Sync(ctx); err == nil {
		err = ready.open(ctx, s, chosen, inside, at)
	}
	if err != nil {
		return fmt.Errorf("open a shell in %s: %w", inside.What, step.Explain(err))
	}
	return nil
}

// canOpen reports whether a shell can be opened: a session of the dagger command brings its own terminal.
func canOpen(on *engine.Engine) bool {
	return on.Kind == engine.Session || term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
}

// open hands the terminal to the container of a workplace, until the person in it leaves.
func (p *prepared) open(ctx context.Context, s *streams, on *engine.Engine, inside pipelines.Inside, at pipelines.Workplace) error {
	if on.Kind != engine.Session {
		again := *p.pipeline
		again.Engine = engine.Session // of the command that hands on the terminal
		return inSession(ctx, s, on, again.shell(at))
	}
	runs := ""
	if len(inside.Command) > 0 {
		runs = "Its command is: " + commandLine(nil, inside.Command) + "\n"
	}
	_, err := inside.Terminal(dagger.ContainerTerminalOpts{Cmd: []string{"sh", "-c", welcome, "sh", inside.What, runs}}).Sync(ctx)
	return err
}

// welcome clears the screen, on which the engine has printed the container's whole recipe, and hands over to a shell.
const welcome = `printf '\033[2J\033[3J\033[HThis is %s.\nWhat you change here is gone when you leave it, with exit.\n%s' "$1" "$2"; sh || true`

// The terminal's second screen keeps what the dagger command shows of its session away from what was there before.
const secondScreen, firstScreen = "\033[?1049h", "\033[?1049l"

// inSession runs this program with other arguments as a child of "dagger run", which owns the terminal.
func inSession(ctx context.Context, s *streams, chosen *engine.Engine, args []string) error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	env := append(os.Environ(), "DAGGER_NO_NAG=1", "DO_NOT_TRACK=1")
	for _, v := range chosen.Environment(os.Getenv("PATH")) {
		env = append(env, v[0]+"="+v[1])
		if err := os.Setenv(v[0], v[1]); err != nil { // for LookPath
			return err
		}
	}
	cli, err := exec.LookPath("dagger")
	if err != nil {
		return usageError{fmt.Errorf("the dagger command of version %s must be on the PATH: %w", chosen.Version, err)}
	}
	cmd := exec.CommandContext(ctx, cli, slices.Concat([]string{"run", own}, args)...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	fmt.Fprint(s.stdout, secondScreen)
	defer fmt.Fprint(s.stdout, firstScreen)
	return cmd.Run()
}

// runCommand runs argv in ctr, prints what it said, and ends with its exit status.
func runCommand(ctx context.Context, s *streams, ctr *dagger.Container, argv []string) error {
	// The time keeps the engine from answering with the result of an earlier run.
	done := ctr.WithEnvVariable("MILLRACE_SHELL", time.Now().Format(time.RFC3339Nano)).
		WithExec(argv, dagger.ContainerWithExecOpts{Expect: dagger.ReturnTypeAny})
	code, err := done.ExitCode(ctx)
	var failed *dagger.ExecError
	if errors.As(err, &failed) {
		// To the engine, an exit status above 128 is an error of its own.
		fmt.Fprint(s.stdout, failed.Stdout)
		fmt.Fprint(s.stderr, failed.Stderr)
		return exitError(failed.ExitCode)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", argv[0], step.Explain(err))
	}
	stdout, err := done.Stdout(ctx)
	if err != nil {
		return fmt.Errorf("read the output of %s: %w", argv[0], err)
	}
	stderr, err := done.Stderr(ctx)
	if err != nil {
		return fmt.Errorf("read the output of %s: %w", argv[0], err)
	}
	fmt.Fprint(s.stdout, stdout)
	fmt.Fprint(s.stderr, stderr)
	if code != 0 {
		return exitError(code)
	}
	return nil
}

// exitError ends this process with the exit status of another one, which has said all there is to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("the command ended with status %d", int(e)) }
func (e exitError) ExitCode() int { return int(e) }
