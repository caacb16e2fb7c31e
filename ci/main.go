// Command ci runs millrace's pipelines: the same way on a laptop, in any CI host, and on a remote engine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
)

// cli is the command tree.
type cli struct {
	Version versionFlag `help:"Print the versions of this program and of its engine."`

	CICD     cicdCmd     `cmd:"" name:"ci-cd" help:"Lint, test, scan, build, publish and deploy: the whole ci-cd graph."`
	Lint     lintCmd     `cmd:"" help:"Check style and types."`
	Format   formatCmd   `cmd:"" help:"Rewrite the source's Python code with isort and black."`
	Test     testCmd     `cmd:"" help:"Run the tests and measure coverage."`
	Security securityCmd `cmd:"" help:"Scan the code and its dependencies."`
	Build    buildCmd    `cmd:"" help:"Build the images."`
	Publish  publishCmd  `cmd:"" help:"Build the images and push them to a registry, whatever the branch; runs no tests."`
	Deploy   deployCmd   `cmd:"" help:"Build, publish and deploy to an environment, whatever the branch; runs no tests."`
	Promote  promoteCmd  `cmd:"" help:"Deploy to an environment what runs in another, by the same digests."`
	Rollback rollbackCmd `cmd:"" help:"Bring an environment back to an earlier revision."`
	History  historyCmd  `cmd:"" help:"List what was deployed to an environment, by whom, and how that ended."`
	Status   statusCmd   `cmd:"" help:"Show what runs in an environment, who deploys to it, and what was interrupted."`
	Smoke    smokeCmd    `cmd:"" help:"Ask a deployed environment whether it works, from inside its cluster."`
	LoadTest loadTestCmd `cmd:"" help:"Put a deployed environment under load with k6, and compare it with the last accepted runs."`
	Approve  approveCmd  `cmd:"" help:"Sign that images may go to an environment, and print the approval."`
	Drift    driftCmd    `cmd:"" help:"Compare a table with the one that a model was trained on, and act on drift."`
	Plan     planCmd     `cmd:"" help:"Show what a graph would run, and why not."`
	Run      runCmd      `cmd:"" help:"Run some nodes of the ci-cd graph, or again what failed."`
	Training trainingCmd `cmd:"" help:"Train models, hold them against their gates and the champion, and register them."`
	Model    modelCmd    `cmd:"" help:"Look at the models that are kept, and say which one is in use."`
	Shell    shellCmd    `cmd:"" help:"Open a shell in the container that a step runs in."`
	Notify   notifyCmd   `cmd:"" help:"Send a test message, or one about an earlier run, to those whom runs notify."`
	Config   configCmd   `cmd:"" help:"Print the effective configuration: what was detected, overruled by millrace.yaml."`
	Bench    benchCmd    `cmd:"" help:"Measure how fast the pipelines are on a source, and print the figures."`
	Engine   engineCmd   `cmd:"" help:"Start, stop and look at the engine."`
	Cluster  clusterCmd  `cmd:"" help:"Start, stop and look at a throw-away Kubernetes cluster."`
}

func main() {
	engine.BecomeSession()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// exitUsage is the status for a mistake in the command line or the configuration.
const exitUsage = 2

// exit carries a status out of kong's own exits, for --help and the like.
type exit int

func run(args []string, stdout, stderr io.Writer) (status int) {
	ctx, stop := interruptible(stderr)
	defer stop()
	defer func() {
		if code, ok := recover().(exit); ok {
			status = int(code)
		} else if r := recover(); r != nil {
			panic(r)
		}
	}()
	var c cli
	parser, err := kong.New(&c, append(options(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exit(code)) }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&streams{stdout: stdout, stderr: stderr}),
	)...)
	if err != nil {
		fmt.Fprintln(stderr, "ci:", err)
		return exitUsage
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "ci: %v\ntry: ci --help\n", err)
		return exitUsage
	}
	return statusOf(command.Run(), ctx, stderr)
}

// options are how the command line is read.
func options() []kong.Option {
	return []kong.Option{
		kong.Name("ci"),
		kong.Description("millrace: CI/CD pipelines for ML platforms, as containers on the Dagger engine.\n\nExit status: 0 passed, 1 failed (the code is at fault), 2 usage or configuration, 3 errored (the machinery is at fault), 4 inconclusive, 130 interrupted."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
	}
}

// statusOf prints an error and turns it into the process's exit status.
func statusOf(err error, ctx context.Context, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	var verdict verdictError
	if errors.As(err, &verdict) {
		return graph.Verdict(verdict).ExitCode() // the summary has been printed
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "ci: interrupted")
		return graph.Cancelled.ExitCode()
	}
	var other exitError
	if errors.As(err, &other) {
		return other.ExitCode() // the other process has said what there is to say
	}
	fmt.Fprintf(stderr, "ci: %v\n", err)
	var tool *exec.ExitError // a program that broke has an exit code too, which says nothing of this one's
	var coded interface{ ExitCode() int }
	if !errors.As(err, &coded) || errors.As(err, &tool) && coded == any(tool) {
		return graph.Errored.ExitCode()
	}
	return coded.ExitCode()
}

// verdictError ends a command whose run did not pass.
type verdictError graph.Verdict

func (v verdictError) Error() string { return "the run's verdict is " + string(v) }

// usageError is a mistake of the person who typed the command.
type usageError struct{ error }

func (usageError) ExitCode() int   { return exitUsage }
func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

var _ interface{ ExitCode() int } = (*host.UsageError)(nil)

// streams are where commands write: results to stdout, everything else to stderr.
type streams struct{ stdout, stderr io.Writer }

func (s *streams) progress() engine.Progress { return engine.Lines(s.stderr) }

// interruptible returns a context that the first interrupt cancels; the second one ends the process at once.
func interruptible(stderr io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		fmt.Fprintln(stderr, "ci: interrupted: ending what runs (once more to stop at once)")
		cancel()
		<-signals
		os.Exit(graph.Cancelled.ExitCode())
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}
