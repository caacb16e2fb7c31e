package main

import (
	"context"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

// selection says which nodes of a graph run.
type selection struct {
	Only []string `placeholder:"NODE" help:"Run only these nodes and those whose output they need: lint, test, security, build, coverage, publish, notify. What they only wait for is left out, so publish alone runs no tests."`
	Skip []string `placeholder:"NODE" help:"Leave these nodes out."`
}

func (s selection) options() []graph.RunOption {
	var options []graph.RunOption
	if len(s.Only) > 0 {
		options = append(options, graph.Only(s.Only...))
	}
	if len(s.Skip) > 0 {
		options = append(options, graph.Skip(s.Skip...))
	}
	return options
}

// cicd returns the ci-cd graph as one of the graphs that the commands run.
func cicd(in pipelines.Inputs) *graph.Graph { return pipelines.CICD(in).Graph }

type cicdCmd struct {
	pipeline
	selection
}

func (c *cicdCmd) Run(ctx context.Context, s *streams) error {
	return c.execute(ctx, s, cicd, c.options()...)
}

type runCmd struct {
	pipeline
	Nodes []string `arg:"" help:"Nodes to run, and those whose output they need."`
}

func (c *runCmd) Run(ctx context.Context, s *streams) error {
	return c.execute(ctx, s, cicd, graph.Only(c.Nodes...))
}

type lintCmd struct{ pipeline }

func (c *lintCmd) Run(ctx context.Context, s *streams) error {
	return c.execute(ctx, s, cicd, graph.Only("lint"))
}

type testCmd struct{ pipeline }

func (c *testCmd) Run(ctx context.Context, s *streams) error {
	return c.execute(ctx, s, cicd, graph.Only("test"))
}

type securityCmd struct{ pipeline }

func (c *securityCmd) Run(ctx context.Context, s *streams) error {
	return c.execute(ctx, s, cicd, graph.Only("security"))
}

type buildCmd struct{ pipeline }

func (c *buildCmd) Run(ctx context.Context, s *streams) error {
	return c.execute(ctx, s, cicd, graph.Only("build"))
}

type publishCmd struct{ pipeline }

func (c *publishCmd) Run(ctx context.Context, s *streams) error {
	// Whoever types "publish" wants it published.
	return c.execute(ctx, s, func(in pipelines.Inputs) *graph.Graph { return cicd(pipelines.PublishAnyway(in)) }, graph.Only("publish"))
}

type planCmd struct {
	pipeline
	selection
	Format string `enum:"text,json,mermaid,svg" default:"text" help:"Form of the plan: text, json, mermaid or svg (default: text)."`
}

func (c *planCmd) Run(ctx context.Context, s *streams) error {
	ready, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	return ready.plan(ctx, s, cicd, c.Format, c.options()...)
}
