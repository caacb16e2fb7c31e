package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify"
	"github.com/millrace-ci/millrace/pipelines/report"
)

type notifyCmd struct {
	sourceFlags
	refFlags
	Record string `name:"run" placeholder:"FILE" help:"Record of the run to tell of, such as out/run.json (default: a test message)."`
	DryRun bool   `help:"Only show what would be sent."`
}

// Run tells everybody, whatever they are told else: whoever types "notify" wants a message sent.
func (c *notifyCmd) Run(ctx context.Context, s *streams) error {
	p := &pipeline{sourceFlags: c.sourceFlags, refFlags: c.refFlags}
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	var in pipelines.Inputs
	in.Ref = ready.ref
	ready.notifications(&in)
	if len(in.Notify) == 0 {
		return usagef("nobody is to be told: name a target under notify in millrace.yaml")
	}
	message := notify.Try(pipelines.NewRun(&graph.Result{}, ready.ref, report.Engine{}).Ref, ready.started)
	if c.Record != "" {
		run, err := readRun(c.Record)
		if err != nil {
			return usageError{fmt.Errorf("%s: %w", c.Record, err)}
		}
		message = notify.Of(*run)
	}
	if c.DryRun {
		return c.show(s, in.Notify, message)
	}
	failed := false
	for _, d := range (notify.Send{Targets: in.Notify, Everybody: true}).Deliver(ctx, message) {
		switch {
		case d.Missing != "":
			failed = true
			fmt.Fprintf(s.stdout, "- %s: %s\n", d.Target, d.Missing)
		case d.Err != nil:
			failed = true
			fmt.Fprintf(s.stdout, "! %s: %v\n", d.Target, d.Err)
		default:
			fmt.Fprintf(s.stdout, "✓ %s\n", d.Target)
		}
	}
	if failed {
		return verdictError(graph.Errored)
	}
	return nil
}

// show prints what each target would get.
func (c *notifyCmd) show(s *streams, targets []notify.Target, m notify.Message) error {
	for _, t := range targets {
		fmt.Fprintf(s.stderr, "%s would get:\n", t.Channel.Name())
		text := []byte(m.Text())
		if structured, ok := t.Channel.(interface {
			Payload(notify.Message) ([]byte, error)
		}); ok {
			var err error
			if text, err = structured.Payload(m); err != nil {
				return err
			}
		}
		fmt.Fprintln(s.stdout, strings.TrimRight(string(text), "\n"))
	}
	return nil
}

// notifications adds whom to tell, and the run before this one, if its record lies where this one's will.
// The secrets come from the environment and not from the engine: it may be what broke.
func (p *prepared) notifications(in *pipelines.Inputs) {
	in.Notify = pipelines.NotifyTargets(p.project, func(variable string) notify.Secret { return notify.NewSecret(os.Getenv(variable)) })
	if p.Out != "" {
		in.Previous, _ = readRun(filepath.Join(p.Out, "run.json")) // a broken record says nothing, and is replaced
	}
}

// readRun reads a run's record. One that does not exist is nil, and an error.
func readRun(file string) (*report.Run, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no such file: give the run.json that a run wrote with --out")
	}
	if err != nil {
		return nil, err
	}
	run, err := report.DecodeRun(data)
	if err != nil {
		return nil, err
	}
	return &run, nil
}

// tellBroken tells that a run could not even begin, because there is no engine.
func (p *prepared) tellBroken(ctx context.Context, s *streams, record report.Run) {
	in := pipelines.Inputs{Ref: p.ref}
	p.notifications(&in)
	result, _ := pipelines.Tell(ctx, in, record)
	fmt.Fprintln(s.stderr, "notify:", result.Reason)
}
