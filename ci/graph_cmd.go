package main

import (
	"context"
	"strings"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

// selection says which nodes of a graph run.
type selection struct {
	Only []string `placeholder:"NODE" help:"Run only these nodes and those whose output they need: lint, test, security, build, coverage, publish, deploy-ENV, load-test-ENV, notify; ENV is an environment of millrace.yaml. What they only wait for is left out, so publish alone runs no tests."`
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
	selection `group:"What runs:"`
}

func (c *cicdCmd) Run(ctx context.Context, s *streams) error {
	c.wanted = c.Only
	return c.execute(ctx, s, cicd, c.options()...)
}

type runCmd struct {
	pipeline
	FromFailed bool     `group:"What runs:" help:"Run again what failed in the last run, and what follows it: the run recorded in --out, else the last one on this source. What passed is not run again, unless the source has changed and it comes before. Outside of a CI host, the run is for the event and ref of the last one."`
	Nodes      []string `arg:"" optional:"" help:"Nodes to run, and those whose output they need: lint, test, security, build, coverage, publish, deploy-ENV, load-test-ENV, notify; ENV is an environment of millrace.yaml."`
}

func (c *runCmd) Run(ctx context.Context, s *streams) error {
	switch {
	case c.FromFailed && len(c.Nodes) > 0:
		return usagef("--from-failed chooses the nodes itself: leave out %s, or --from-failed", strings.Join(c.Nodes, " "))
	case c.FromFailed:
		c.last = &lastRun{}
		return c.execute(ctx, s, cicd)
	case len(c.Nodes) == 0:
		return usagef("name the nodes to run, or add --from-failed; for all of them: %s", c.command("ci-cd"))
	}
	c.ask(strings.Join(c.Nodes, ", "), c.Nodes...)
	return c.execute(ctx, s, cicd, graph.Only(c.Nodes...))
}

// oneStep is what the commands that run a single step of the graph have in common.
type oneStep struct {
	sourceFlags `group:"Source:"`
	refFlags    `group:"What the run is for:"`
	stepFlags   `group:"How it runs:"`
	shellFlag   `group:"How it runs:"`
}

func (o oneStep) run(ctx context.Context, s *streams, node string) error {
	p := o.pipeline()
	p.ask(node, node)
	return p.execute(ctx, s, cicd, graph.Only(node))
}

func (o oneStep) pipeline() *pipeline {
	return &pipeline{sourceFlags: o.sourceFlags, refFlags: o.refFlags, runFlags: runFlags{stepFlags: o.stepFlags, shellFlag: o.shellFlag}}
}

type lintCmd struct{ oneStep }

func (c *lintCmd) Run(ctx context.Context, s *streams) error { return c.run(ctx, s, "lint") }

type testCmd struct {
	oneStep
	freshFlag `group:"How it runs:"`
}

func (c *testCmd) Run(ctx context.Context, s *streams) error {
	p := c.pipeline()
	p.freshFlag = c.freshFlag
	p.ask("test", "test")
	return p.execute(ctx, s, cicd, graph.Only("test"))
}

type securityCmd struct{ oneStep }

func (c *securityCmd) Run(ctx context.Context, s *streams) error { return c.run(ctx, s, "security") }

type buildCmd struct{ oneStep }

func (c *buildCmd) Run(ctx context.Context, s *streams) error { return c.run(ctx, s, "build") }

type publishCmd struct {
	oneStep
	registryFlags `group:"Where images go:"`
}

func (c *publishCmd) pipeline() *pipeline {
	p := c.oneStep.pipeline()
	p.registryFlags, p.again = c.registryFlags, []string{"publish"}
	p.ask("publish", "publish")
	return p
}

func (c *publishCmd) Run(ctx context.Context, s *streams) error {
	// Whoever types "publish" wants it published.
	return c.pipeline().execute(ctx, s, func(in pipelines.Inputs) *graph.Graph { return cicd(pipelines.PublishAnyway(in)) }, graph.Only("publish"))
}

type planCmd struct {
	sourceFlags  `group:"Source:"`
	refFlags     `group:"What the run is for:"`
	registryFlag `group:"Where images go:"`
	engineFlag   `group:"How it runs:"`
	selection    `group:"What runs:"`
	Format       string `group:"What is printed:" enum:"text,json,mermaid,svg" default:"text" placeholder:"FORM" help:"Form of the plan: text, json, mermaid or svg (default: text)."`
}

func (c *planCmd) Run(ctx context.Context, s *streams) error {
	p := pipeline{sourceFlags: c.sourceFlags, refFlags: c.refFlags}
	p.Registry, p.Engine = c.Registry, c.Engine
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	return ready.plan(ctx, s, cicd, c.Format, c.options()...)
}
