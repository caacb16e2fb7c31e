// Command ci runs millrace's ci-cd graph with a step of our own: every image that was built must not run as root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

func main() {
	source := flag.String("source", ".", "source tree")
	only := flag.String("only", "", "run only this node, and those that hand it something")
	plan := flag.Bool("plan", false, "only show the plan, which needs no engine")
	flag.Parse()
	code, err := run(context.Background(), *source, *only, *plan)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ci:", err)
		code = graph.Errored.ExitCode()
	}
	os.Exit(code)
}

func run(ctx context.Context, source, only string, plan bool) (int, error) {
	p, err := project.Detect(project.FS(os.DirFS(source)), nil)
	if err != nil {
		return 0, err
	}
	// From the variables of the CI host; a local run knows no commit here, because nobody asks git.
	ref, err := host.Detect(os.Getenv, nil, host.GitFacts{}, host.Overrides{})
	if err != nil {
		return 0, err
	}
	in := pipelines.Inputs{Project: p, Ref: ref, Now: time.Now()}
	var options []graph.RunOption
	if only != "" {
		options = append(options, graph.Only(only))
	}
	if plan {
		g := pipeline(in)
		if err := g.Check(options...); err != nil {
			return 0, err
		}
		fmt.Println(g.Plan(options...).Text())
		return 0, nil
	}

	if in.Client, err = dagger.Connect(ctx); err != nil {
		return 0, err
	}
	defer in.Client.Close()
	in.Source = in.Client.Host().Directory(source, dagger.HostDirectoryOpts{Exclude: pipelines.Ignore})
	g := pipeline(in)
	if err := g.Check(options...); err != nil {
		return 0, err
	}
	result := g.Run(ctx, options...)
	fmt.Print(report.Text(pipelines.NewRun(result, ref, report.Engine{}), 0))
	return result.Verdict.ExitCode(), nil
}

// pipeline is the ci-cd graph and our own step. The edge to build is its handle: it says at compile time that there is
// such a node, and what it hands over.
func pipeline(in pipelines.Inputs) *graph.Graph {
	ci := pipelines.CICD(in)
	graph.Add(ci.Graph, "not-root", func(ctx context.Context) (step.Result, error) {
		return notRoot(ctx, ci.Build.Value().Images)
	}, graph.Needs(ci.Build), graph.Doc("check that no image runs as root"))
	return ci.Graph
}

// notRoot fails for every image whose user is root, by what the image itself says.
func notRoot(ctx context.Context, images []image.Built) (step.Result, error) {
	result := step.Result{Verdict: graph.Passed, Metrics: map[string]float64{"images": float64(len(images))}}
	for _, img := range images {
		user, err := img.Container.User(ctx)
		if err != nil {
			return result, fmt.Errorf("ask %s for its user: %w", img.Name, step.Explain(err))
		}
		switch user {
		case "", "0", "root", "0:0", "root:root":
			result.Findings = append(result.Findings, report.Finding{
				Tool: "not-root", Rule: "user", Severity: report.High, File: img.Spec.Dockerfile,
				Message: fmt.Sprintf("the image %s runs as root: add a USER", img.Name),
			})
		}
	}
	if n := len(result.Findings); n > 0 {
		result.Verdict, result.Reason = graph.Failed, fmt.Sprintf("%d of %d images run as root", n, len(images))
	}
	return result, nil
}
