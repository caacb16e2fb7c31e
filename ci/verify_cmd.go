package main

import (
	"context"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

type smokeCmd struct{ environmentStep }

func (c *smokeCmd) Run(ctx context.Context, s *streams) error {
	p := c.pipeline()
	p.again = []string{"smoke", c.Environment}
	p.ask("smoke "+c.Environment, "smoke-"+c.Environment)
	return p.one(ctx, s, func(in pipelines.Inputs) (*graph.Graph, error) { return pipelines.Smoke(in, c.Environment) })
}

type loadTestCmd struct {
	environmentStep
	refFlags `group:"What the run is for:"`
	Accept   bool `help:"Make this run the baseline, although it is worse than the one before."`
}

func (c *loadTestCmd) Run(ctx context.Context, s *streams) error {
	p := c.pipeline()
	p.refFlags = c.refFlags
	p.again = []string{"load-test", c.Environment}
	p.ask("load-test "+c.Environment, "load-test-"+c.Environment)
	return p.one(ctx, s, func(in pipelines.Inputs) (*graph.Graph, error) {
		return pipelines.LoadTest(in, c.Environment, c.Accept)
	})
}

// one runs a graph that may not be there to be made, which is a mistake of whoever typed the command.
func (p *pipeline) one(ctx context.Context, s *streams, build func(pipelines.Inputs) (*graph.Graph, error)) error {
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	if _, err := build(ready.inputs(nil, "")); err != nil {
		return err
	}
	return p.execute(ctx, s, func(in pipelines.Inputs) *graph.Graph {
		g, err := build(in)
		if err != nil {
			return graph.New("nothing") // it was made once already
		}
		return g
	})
}
