package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/python"
	"github.com/millrace-ci/millrace/pipelines/step"
)

type formatCmd struct {
	sourceFlags
	DryRun bool `help:"Only name the files that would change."`
	engineFlag
	verboseFlag
}

func (c *formatCmd) Run(ctx context.Context, s *streams) error {
	p := prepared{pipeline: &pipeline{sourceFlags: c.sourceFlags, runFlags: lookFlags{engineFlag: c.engineFlag, verboseFlag: c.verboseFlag}.runFlags()}}
	var err error
	if p.source, err = c.sourceDir(); err != nil {
		return err
	}
	if p.project, err = c.detect(p.source); err != nil {
		return err
	}
	chosen, err := engine.Choose(ctx, c.Engine, os.Getenv, s.progress())
	if err != nil {
		return usageError{err}
	}
	log, err := p.engineLog(s)
	if err != nil {
		return err
	}
	defer log.Close()
	client, err := log.connect(ctx, chosen)
	if err != nil {
		return err
	}
	defer client.Close()
	done, err := python.Format{Python: p.project.Python.Version, Paths: p.project.Python.Paths()}.Run(ctx, client, p.upload(client))
	if err != nil {
		return step.Explain(err)
	}
	if done.Verdict != graph.Passed {
		fmt.Fprintln(s.stdout, done.Reason)
		return verdictError(done.Verdict)
	}
	for _, name := range done.Changed {
		if !c.DryRun {
			// Only what changed is written: everything else keeps its time and its mode.
			if _, err := done.Source.File(name).Export(ctx, filepath.Join(p.source, filepath.FromSlash(name))); err != nil {
				return fmt.Errorf("write %s back: %w", name, step.Explain(err))
			}
		}
		fmt.Fprintln(s.stdout, name)
	}
	if len(done.Changed) == 0 {
		fmt.Fprintln(s.stderr, "nothing to change")
	}
	return nil
}
