// Package pipelines holds the graphs that millrace runs. A graph can be listed, planned and tested without an engine:
// only its steps, when they run, use the client.
package pipelines

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/codecov"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/load"
	"github.com/millrace-ci/millrace/pipelines/notify"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Inputs are what a graph is made for. Source and Project are needed; what else is left out switches off what needs it.
type Inputs struct {
	// Client is the engine's; it may be nil for a graph that is only planned.
	Client *dagger.Client
	// Source is the source tree.
	Source *dagger.Directory
	// Project says what the source tree holds.
	Project *project.Project
	// Ref is what the run is for.
	Ref host.Ref
	// Registry is where images go.
	Registry Registry
	// CodecovToken is the token of the repository at Codecov.
	CodecovToken *dagger.Secret
	// SafetyKey is an API key of safety's vendor.
	SafetyKey *dagger.Secret
	// Notify are those who are told how the run went; see [NotifyTargets].
	Notify []notify.Target
	// Previous is the record of the run before this one, if there is one: it tells a recovery from a success.
	Previous *report.Run
	// Fresh, when it changes, has the tests run again although nothing else did.
	Fresh string
	// Training is what the training graph needs besides.
	Training TrainingInputs
	// Now is when the run began; it decides which security exceptions have expired.
	Now time.Time
	// Delivery says where environments lie.
	Delivery Delivery
}

// Registry is where images are published.
type Registry struct {
	// Address is host[:port]/path; each image's name is put below it. Without one, nothing is published.
	Address string
	// Username and Password are the login; without a password none is tried.
	Username string
	Password *dagger.Secret
}

// CICDGraph is the ci-cd graph with its nodes, so that steps can be added that run after them and use what they made:
//
//	g := pipelines.CICD(in)
//	graph.Add(g.Graph, "smoke", func(ctx context.Context) (step.Result, error) {
//		return smoke(ctx, g.Build.Value().Images)
//	}, graph.Needs(g.Build))
type CICDGraph struct {
	*graph.Graph

	Lint     *graph.Node[step.Result]
	Test     *graph.Node[step.Result]
	Security *graph.Node[step.Result]
	Build    *graph.Node[image.BuildResult]
	Coverage *graph.Node[step.Result]
	Publish  *graph.Node[image.PublishResult]
	// Deploys are the nodes that deploy, by the environments' names.
	Deploys map[string]*graph.Node[kube.Rollout]
	// LoadTests are the nodes that put environments under load, by the environments' names.
	LoadTests map[string]*graph.Node[load.Result]
	Notify    *graph.Node[step.Result]
}

// CICD returns the ci-cd graph: lint, then test, security and build side by side, then publish, the coverage upload, and a
// deploy for each environment; at the end, whatever happened, notify.
//
// Images are published for a push to one of the project's branches for that (main and develop by default) and for a tag. A push
// to a branch of an environment is deployed to that.
func CICD(in Inputs) CICDGraph {
	p, c, src := in.Project, in.Client, in.Source
	g := graph.New("ci-cd")

	lint := graph.Add(g, "lint", bind(Lint{Project: p}.Run, c, src),
		graph.Doc("check style and types"), graph.Retry(3, time.Second))
	test := graph.Add(g, "test", bind(Test{Project: p, Fresh: in.Fresh}.Run, c, src), graph.After(lint),
		graph.Doc("run the tests and measure coverage"), graph.Timeout(p.Test.Timeout), graph.Retry(3, time.Second))
	security := graph.Add(g, "security", bind(Security{Project: p, SafetyKey: in.SafetyKey, Now: in.Now}.Run, c, src), graph.After(lint),
		graph.Doc("scan code and dependencies"), graph.Retry(3, time.Second))
	build := graph.Add(g, "build", bind(image.Build{Images: Images(p)}.Run, c, src), graph.After(lint),
		graph.When(len(p.Images) > 0, "no Dockerfile in the source"),
		graph.Doc(fmt.Sprintf("build %s", count(len(p.Images), "image"))), graph.Retry(3, time.Second))
	coverage := graph.Add(g, "coverage", func(ctx context.Context) (step.Result, error) {
		return upload(in).Run(ctx, c, test.Value().Reports)
	}, graph.Needs(test), graph.When(in.CodecovToken != nil, "no Codecov token"), graph.When(!in.Ref.Fork, "a fork gets no secrets"),
		graph.Doc("upload coverage to Codecov"), graph.Retry(3, 2*time.Second))
	publishes, why := publishing(in)
	publish := graph.Add(g, "publish", func(ctx context.Context) (image.PublishResult, error) {
		return image.Publish{
			Registry: in.Registry.Address, Username: in.Registry.Username, Password: in.Registry.Password,
			Tags: in.Ref.ImageTags(), Labels: labels(in.Ref),
		}.Run(ctx, c, build.Value().Images)
	}, graph.Needs(build), graph.After(test, security), graph.When(publishes, why),
		graph.Doc("push the images to "+orElse(in.Registry.Address, "a registry")), graph.Retry(5, 2*time.Second), graph.Timeout(30*time.Minute))
	all := CICDGraph{Graph: g, Lint: lint, Test: test, Security: security, Build: build, Coverage: coverage, Publish: publish}
	addDelivery(&all, in)
	all.Notify = Notify(g, in)
	return all
}

// PublishAnyway returns inputs for which the ci-cd graph publishes, whatever the branch is: for whoever asks for that by name.
// A pull request stays one, and is not published.
func PublishAnyway(in Inputs) Inputs {
	if in.Ref.Event == host.PullRequest || in.Ref.Event == host.Tag {
		return in
	}
	in.Ref.Event = host.Push
	p := *in.Project
	p.Publish.Branches = append([]string{in.Ref.Branch}, p.Publish.Branches...)
	in.Project = &p
	return in
}

// publishing says whether images are published, and why not.
func publishing(in Inputs) (bool, string) {
	ref, branches := in.Ref, in.Project.Publish.Branches
	for _, e := range in.Project.Environments {
		for _, branch := range e.Branches {
			if !slices.Contains(branches, branch) {
				branches = append(slices.Clone(branches), branch) // what is deployed has to be published
			}
		}
	}
	switch {
	case ref.IsPullRequest():
		return false, "pull requests build and don't publish"
	case in.Registry.Address == "":
		return false, "no registry given: name one with --registry, or in millrace.yaml under publish"
	case ref.Event == host.Tag || ref.Event == host.Push && slices.Contains(branches, ref.Branch):
		return true, ""
	default:
		return false, fmt.Sprintf("only a push to %s, or a tag, publishes; this is %s of %s", or(branches), event(ref), ref)
	}
}

func event(ref host.Ref) string {
	switch ref.Event {
	case host.Push:
		return "a push"
	case host.Schedule:
		return "a scheduled run"
	default:
		return "a manual run"
	}
}

// upload fills in what Codecov wants to know of the run.
func upload(in Inputs) codecov.Upload {
	ref, settings := in.Ref, in.Project.Codecov
	branch, sha := ref.Branch, ref.SHA
	if ref.IsPullRequest() {
		branch = ref.Head
		sha = orElse(ref.HeadSHA, ref.SHA)
	}
	return codecov.Upload{
		Token: in.CodecovToken, URL: settings.URL, Flags: settings.Flags, Fatal: settings.Required, Source: in.Source,
		Slug: ref.Repository, GitService: gitService(ref.Host), SHA: sha, Branch: branch, PullRequest: ref.PullRequest, BuildURL: ref.RunURL,
	}
}

// gitService names the forge of a CI host as Codecov does; hosts that serve several forges are left to its default.
func gitService(name host.Name) string {
	switch name {
	case host.GitLab:
		return "gitlab"
	case host.Bitbucket:
		return "bitbucket"
	default:
		return "github"
	}
}

// bind fixes a step's client and source, so that the graph's lines stay short. A step of which only a part broke in a way
// that may pass is tried again as a whole: its other parts are cached.
func bind[T interface{ Of() step.Result }](run func(context.Context, *dagger.Client, *dagger.Directory) (T, error), c *dagger.Client, src *dagger.Directory) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		result, err := run(ctx, c, src)
		if err == nil && graph.IsTransient(result.Of().Err) {
			err = result.Of().Err
		}
		return result, err
	}
}

// Images turns the project's images into what the build takes.
func Images(p *project.Project) []image.Spec {
	all := make([]image.Spec, 0, len(p.Images))
	for _, i := range p.Images {
		platforms := make([]dagger.Platform, 0, len(i.Platforms))
		for _, name := range i.Platforms {
			platforms = append(platforms, dagger.Platform(name))
		}
		spec := image.Spec{
			Name: i.Name, Dockerfile: i.Dockerfile, Context: i.Context, Target: i.Target, Args: i.Args, Platforms: platforms,
		}
		if i.Err == nil {
			spec.Include = i.Parsed.Reads
		}
		all = append(all, spec)
	}
	return all
}

func labels(ref host.Ref) image.Labels {
	return image.Labels{Source: ref.RepositoryURL, Revision: ref.SHA, Version: ref.Version(), Created: ref.CommitTime}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// or lists names as people do: "main, develop or release".
func or(names []string) string {
	switch n := len(names); n {
	case 0:
		return "no branch"
	case 1:
		return names[0]
	default:
		head := names[0]
		for _, name := range names[1 : n-1] {
			head += ", " + name
		}
		return head + " or " + names[n-1]
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
