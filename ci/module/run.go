package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	sdk "dagger.io/dagger"
	"dagger/millrace/internal/dagger"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/python"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// request is what the functions take as arguments.
type request struct {
	source                                               *dagger.Directory
	config                                               *dagger.File
	event, ref, sha, repository                          string
	git                                                  *dagger.GitRef
	registry, registryUser                               string
	registryPassword, codecovToken, safetyKey            *dagger.Secret
	slackWebhook, notifyWebhook, notifyKey, smtpPassword *dagger.Secret
	only, skip                                           []string
	keepGoing                                            bool
	environments                                         []string
	kubeconfigs                                          []*dagger.Secret
	ephemeral                                            bool
	registryService                                      *dagger.Service
}

func (r request) options() []graph.RunOption {
	var options []graph.RunOption
	if len(r.only) > 0 {
		options = append(options, graph.Only(r.only...))
	}
	if len(r.skip) > 0 {
		options = append(options, graph.Skip(r.skip...))
	}
	if r.keepGoing {
		options = append(options, graph.KeepGoing())
	}
	return options
}

// build makes a graph of what is given.
type build func(pipelines.Inputs) pipelines.CICDGraph

func publishAnyway(in pipelines.Inputs) pipelines.CICDGraph {
	return pipelines.CICD(pipelines.PublishAnyway(in))
}

// connect joins the session that the function runs in with the SDK that the library is written against: the generated
// types are others, and go over by their IDs.
func connect(ctx context.Context) (*sdk.Client, error) {
	c, err := sdk.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("join the engine's session: %w", err)
	}
	return c, nil
}

// inputs gathers what the graphs are made for.
func (m *Millrace) inputs(ctx context.Context, c *sdk.Client, r request) (pipelines.Inputs, error) {
	in := pipelines.Inputs{Client: c, Now: time.Now(), Registry: pipelines.Registry{Address: r.registry, Username: r.registryUser}}
	var facts host.GitFacts
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		in.Source, in.Project, err = m.detect(gctx, c, r)
		return err
	})
	g.Go(func() (err error) {
		facts, err = gitFacts(gctx, r)
		return err
	})
	for secret, to := range map[*dagger.Secret]**sdk.Secret{
		r.registryPassword: &in.Registry.Password, r.codecovToken: &in.CodecovToken, r.safetyKey: &in.SafetyKey,
	} {
		if secret == nil {
			continue
		}
		g.Go(func() error {
			id, err := secret.ID(gctx)
			if err == nil {
				*to = c.LoadSecretFromID(sdk.SecretID(id))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return in, err
	}
	var err error
	if in.Notify, err = targets(ctx, c, in.Project, r); err != nil {
		return in, err
	}
	if in.Registry.Address == "" {
		in.Registry.Address = in.Project.Publish.Address()
	}
	if err := image.CheckRegistry(in.Registry.Address); err != nil {
		return in, usageError{err}
	}
	// A module sees nothing of the CI host that calls it.
	unknown := func(string) string { return "" }
	in.Ref, err = host.Detect(unknown, nil, facts, host.Overrides{Event: r.event, Ref: r.ref, SHA: r.sha})
	if err != nil {
		return in, err
	}
	in.Delivery, err = delivery(ctx, c, r)
	return in, err
}

// detect tells what the source holds.
func (m *Millrace) detect(ctx context.Context, c *sdk.Client, r request) (*sdk.Directory, *project.Project, error) {
	source := r.source
	if source == nil {
		source = m.Source
	}
	if source == nil {
		return nil, nil, usageError{errors.New("there is no source: name the folder of your code with --source")}
	}
	var config *project.File
	if r.config != nil {
		name, err := r.config.Name(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("read the configuration: %w", err)
		}
		text, err := r.config.Contents(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("read the configuration: %w", err)
		}
		config = &project.File{Name: name, Data: []byte(text)}
	}
	id, err := source.ID(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("load the source: %w", err)
	}
	src := c.LoadDirectoryFromID(sdk.DirectoryID(id))
	p, err := pipelines.Detect(ctx, src, config)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range p.Warnings {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	return src, p, nil
}

// gitFacts returns what is known of the commit: only what the caller hands over, because the source comes without .git.
func gitFacts(ctx context.Context, r request) (host.GitFacts, error) {
	facts := host.GitFacts{RemoteURL: r.repository}
	if r.git == nil {
		return facts, nil
	}
	commit, err := r.git.Commit(ctx)
	if err != nil {
		return facts, fmt.Errorf("ask the Git reference for its commit: %w", err)
	}
	ref, err := r.git.Ref(ctx)
	if err != nil {
		return facts, fmt.Errorf("ask the Git reference for its name: %w", err)
	}
	facts.Commit = commit
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		facts.Branch = branch
	} else if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		facts.Tags = []string{tag}
	}
	return facts, nil
}

// run runs the graph that make builds.
func (m *Millrace) run(ctx context.Context, make build, r request) (*graph.Result, report.Run, error) {
	c, err := connect(ctx)
	if err != nil {
		return nil, report.Run{}, err
	}
	in, err := m.inputs(ctx, c, r)
	if err != nil {
		return nil, report.Run{}, err
	}
	g := make(in)
	if err := check(g, r); err != nil {
		return nil, report.Run{}, err
	}
	result, run := m.record(ctx, in, g.Graph, r)
	return result, run, nil
}

// record runs a graph, and makes its record.
func (m *Millrace) record(ctx context.Context, in pipelines.Inputs, g *graph.Graph, r request) (*graph.Result, report.Run) {
	result := g.Run(ctx, r.options()...)
	version, err := in.Client.Version(ctx)
	if err != nil {
		version = "" // the record can do without
	}
	return result, pipelines.NewRun(result, in.Ref, report.Engine{Kind: "session", Version: version})
}

// check finds mistakes in what was asked of a graph.
func check(g pipelines.CICDGraph, r request) error {
	if err := g.Check(r.options()...); err != nil {
		return usageError{err}
	}
	if g.LeavesNothing(r.options()...) {
		return usageError{errors.New("nothing is left to run: only and skip leave out every node")}
	}
	return nil
}

// summary runs the graph and says how that went; a run that did not pass is an error with the same text.
func (m *Millrace) summary(ctx context.Context, make build, r request) (string, error) {
	_, run, err := m.run(ctx, make, r)
	if err != nil {
		return "", failure(err)
	}
	return judge(run, r)
}

// judge returns the summary, or the error that it is.
func judge(run report.Run, r request) (string, error) {
	// Whoever asks for one step does not want to read which others there are, nor where reports would lie.
	run.Nodes = slices.DeleteFunc(slices.Clone(run.Nodes), func(n report.Node) bool {
		return len(r.only) > 0 && n.Started == nil && !slices.Contains(r.only, n.Name)
	})
	for i := range run.Nodes {
		run.Nodes[i].Reports = ""
	}
	text := strings.TrimRight(report.Text(run, 0), "\n")
	if code := run.Verdict.ExitCode(); code != 0 {
		return "", exit(code, text)
	}
	return text + "\n", nil
}

// report runs the graph and returns its reports.
func (m *Millrace) report(ctx context.Context, r request) (*dagger.Directory, error) {
	result, run, err := m.run(ctx, pipelines.CICD, r)
	if err != nil {
		return nil, failure(err)
	}
	files, err := report.Files(run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "warning: some reports are missing:", err)
	}
	dir := dag.Directory()
	for _, f := range files {
		dir = dir.WithNewFile(f.Name, string(f.Data))
	}
	for name, reports := range pipelines.Reports(result) {
		id, err := reports.ID(ctx)
		if err != nil {
			return nil, failure(fmt.Errorf("collect %s: %w", name, step.Explain(err)))
		}
		dir = dir.WithDirectory(name, dag.LoadDirectoryFromID(dagger.DirectoryID(id)))
	}
	return dir, nil
}

// build builds the images.
func (m *Millrace) build(ctx context.Context, r request) (*Images, error) {
	r.only = []string{"build"}
	result, run, err := m.run(ctx, pipelines.CICD, r)
	if err != nil {
		return nil, failure(err)
	}
	if _, err := judge(run, r); err != nil {
		return nil, err
	}
	images := &Images{}
	node, _ := result.Node("build")
	built, _ := node.Value.(image.BuildResult)
	for _, b := range built.Images {
		id, err := b.Container.ID(ctx)
		if err != nil {
			return nil, failure(fmt.Errorf("build %s: %w", b.Name, step.Explain(err)))
		}
		images.Names = append(images.Names, b.Name)
		images.Containers = append(images.Containers, dag.LoadContainerFromID(dagger.ContainerID(id)))
	}
	return images, nil
}

// format formats the source's Python code.
func (m *Millrace) format(ctx context.Context, r request) (*dagger.Changeset, error) {
	c, err := connect(ctx)
	if err != nil {
		return nil, failure(err)
	}
	src, p, err := m.detect(ctx, c, r)
	if err != nil {
		return nil, failure(err)
	}
	done, err := python.Format{Python: p.Python.Version, Paths: p.Python.Paths()}.Run(ctx, c, src)
	if err != nil {
		return nil, failure(step.Explain(err))
	}
	if code := done.Verdict.ExitCode(); code != 0 {
		return nil, exit(code, strings.TrimSpace(done.Reason+"\n"+done.Output))
	}
	id, err := done.Source.Changes(src).ID(ctx)
	if err != nil {
		return nil, failure(fmt.Errorf("compare the formatted source: %w", step.Explain(err)))
	}
	return dag.LoadChangesetFromID(dagger.ChangesetID(id)), nil
}

// plan shows the graph.
func (m *Millrace) plan(ctx context.Context, format string, r request) (string, error) {
	c, err := connect(ctx)
	if err != nil {
		return "", failure(err)
	}
	in, err := m.inputs(ctx, c, r)
	if err != nil {
		return "", failure(err)
	}
	g := pipelines.CICD(in)
	if err := check(g, r); err != nil {
		return "", failure(err)
	}
	plan := g.Plan(r.options()...)
	switch format {
	case "text":
		return plan.Text(), nil
	case "json":
		data, err := plan.JSON()
		return string(data), err
	case "mermaid":
		return plan.Mermaid(), nil
	case "svg":
		return plan.SVG(), nil
	}
	return "", failure(usageError{fmt.Errorf("there is no plan in the form %q: use text, json, mermaid or svg", format)})
}

// effective returns the effective configuration.
func (m *Millrace) effective(ctx context.Context, r request) (string, error) {
	c, err := connect(ctx)
	if err != nil {
		return "", failure(err)
	}
	_, p, err := m.detect(ctx, c, r)
	if err != nil {
		return "", failure(err)
	}
	text, err := p.YAML()
	if err != nil {
		return "", failure(err)
	}
	return string(text), nil
}
