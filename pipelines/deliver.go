package pipelines

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/load"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Delivery is what the nodes that deploy have to know beside the source.
type Delivery struct {
	// Clusters are where environments lie, by the environments' names. Without one, nothing is deployed there.
	Clusters map[string]kube.Cluster
	// Ephemeral, if set, starts a cluster for this run alone, in which all environments of a branch are put, whatever the branch of
	// the run is.
	Ephemeral func(context.Context) (kube.Cluster, error)
	// Holder names the run to people who wait for it, such as a user and host.
	Holder string
	// Wait is how long another run's deploy is waited for; 10 minutes by default, below zero not at all.
	Wait time.Duration
	// Approval is a signed approval, as the command approve makes it; empty if there is none.
	Approval []byte
	// HostApproved says who approved a deployment by the CI host's own means; nil where the host has none.
	HostApproved func(ctx context.Context, environment string) (string, error)
	// Progress is told what a node does, in a line; nil tells nobody.
	Progress func(node, text string)
}

// defaultWait is how long another run's deploy is waited for.
const defaultWait = 10 * time.Minute

// deployName is the name of the node that deploys to an environment.
func deployName(environment string) string { return "deploy-" + environment }

// addDelivery adds for each environment a node that deploys, by digest, the images that publish has pushed, and one that puts it
// under load, if it has a load test. An environment whose gates name another one comes after both of that.
func addDelivery(g *CICDGraph, in Inputs) {
	g.Deploys, g.LoadTests = map[string]*graph.Node[kube.Rollout]{}, map[string]*graph.Node[load.Result]{}
	var cluster *graph.Node[kube.Cluster]
	if in.Delivery.Ephemeral != nil && len(in.Project.Environments) > 0 {
		cluster = graph.Add(g.Graph, "cluster", in.Delivery.Ephemeral, graph.Doc("start a throw-away cluster"), graph.Retry(2, time.Second))
	}
	for _, e := range in.Project.Environments {
		deploys, why := deploying(in, e)
		options := []graph.Option{
			graph.After(g.Test, g.Security), graph.When(deploys, why), graph.Doc("deploy to " + e.Name), graph.Serial(deployName(e.Name)),
			graph.Retry(3, 2*time.Second), graph.Timeout(deployTimeout(in, e)),
		}
		built := len(in.Project.Images) > 0
		if built {
			options = append(options, graph.Needs(g.Publish))
		}
		if e.Gates != nil {
			if before := g.Deploys[e.Gates.From]; before != nil {
				options = append(options, graph.After(before))
			}
			if before := g.LoadTests[e.Gates.From]; before != nil {
				options = append(options, graph.After(before))
			}
		}
		if cluster != nil {
			options = append(options, graph.Needs(cluster))
		}
		deployed := graph.Add(g.Graph, deployName(e.Name), func(ctx context.Context) (kube.Rollout, error) {
			var images map[string]image.Published
			if built {
				images = g.Publish.Value().Images
			}
			in, e := in, e
			if cluster != nil {
				in, e = trial(in, e, cluster.Value())
			}
			d := Deploy(in, e, images)
			if cluster != nil {
				d.Cluster = cluster.Value()
			}
			return d.Run(ctx, in.Client, in.Source)
		}, options...)
		g.Deploys[e.Name] = deployed
		if e.Load != nil {
			g.LoadTests[e.Name] = graph.Add(g.Graph, loadName(e.Name), func(ctx context.Context) (load.Result, error) {
				to := deployed.Value()
				return Load(in, e, to.Namespace, false).Run(ctx, in.Client, in.Source, to.Cluster)
			}, graph.Needs(deployed), graph.Doc("put "+e.Name+" under load"), graph.Timeout(loadTimeout(e)+15*time.Minute))
		}
	}
}

// deployTimeout leaves time to wait for another run, to come up, to be checked, and to go back.
func deployTimeout(in Inputs, e project.Environment) time.Duration {
	deadline := cmp.Or(e.Deadline, kube.DefaultDeadline)
	limit := 15*time.Minute + 2*deadline + max(0, cmp.Or(in.Delivery.Wait, defaultWait))
	for _, s := range e.Steps {
		limit += deadline + s.Pause
	}
	return limit
}

// Deploy returns the step that deploys images to an environment, by the project's configuration.
func Deploy(in Inputs, e project.Environment, images map[string]image.Published) kube.Deploy {
	references := map[string]string{}
	for name, published := range images {
		references[name] = published.Reference
	}
	return kube.Deploy{
		Canary:      canaryOf(in, e),
		Environment: e.Name, Namespace: e.Namespace, Cluster: in.Delivery.Clusters[e.Name],
		Manifests: kube.Manifests{Path: e.Manifests, Values: e.Values, Release: e.Release},
		Images:    references, Replicas: e.Replicas, Deadline: e.Deadline, Wait: wait(in), Verify: verify(in, e), Admit: admit(in, e),
		Origin: origin(in), Progress: progress(in, deployName(e.Name)),
	}
}

func wait(in Inputs) time.Duration { return max(0, cmp.Or(in.Delivery.Wait, defaultWait)) }

func origin(in Inputs) kube.Origin {
	return kube.Origin{
		Holder: orElse(in.Delivery.Holder, "a run of millrace"), Run: in.Ref.RunURL, Commit: in.Ref.SHA, Ref: in.Ref.String(), Author: in.Ref.Author,
	}
}

func progress(in Inputs, node string) func(string) {
	if in.Delivery.Progress == nil {
		return nil
	}
	return func(text string) { in.Delivery.Progress(node, text) }
}

// verify returns the check of an environment's releases: its smoke tests. They run while the lease is held, so that what does
// not pass is rolled back before anybody else deploys on top of it.
func verify(in Inputs, e project.Environment) kube.Check {
	if len(e.Smoke) == 0 {
		return nil
	}
	return func(ctx context.Context, r kube.Rollout) (step.Result, error) {
		done, err := smoke(in, e, r.Namespace).Run(ctx, in.Client, r.Cluster)
		return done.Result, err
	}
}

// deploying says whether a run deploys to an environment, and why not.
func deploying(in Inputs, e project.Environment) (bool, string) {
	ref := in.Ref
	switch _, given := in.Delivery.Clusters[e.Name]; {
	case ref.Fork:
		return false, "a fork gets neither secrets nor deploys"
	case ref.IsPullRequest():
		return false, "pull requests get neither secrets nor deploys"
	case len(e.Branches) == 0:
		return false, fmt.Sprintf("no branch deploys to %s by itself: run ci deploy %s, or name branches in millrace.yaml", e.Name, e.Name)
	case in.Delivery.Ephemeral != nil:
		return true, ""
	case ref.Event != host.Push || !slices.Contains(e.Branches, ref.Branch):
		return false, fmt.Sprintf("only a push to %s deploys to %s; this is %s of %s", or(e.Branches), e.Name, event(ref), ref)
	case !given:
		return false, fmt.Sprintf("no kubeconfig for %s: set %s, or try it with --ephemeral", e.Name, e.Variable())
	default:
		return true, ""
	}
}

// DeployAnyway returns inputs for which the ci-cd graph deploys to an environment, whatever the branch is: for whoever asks for
// that by name. A pull request stays one, and is not deployed.
func DeployAnyway(in Inputs, environment string) (Inputs, error) {
	e, found := in.Project.Environment(environment)
	if !found {
		return in, unknownEnvironment(in.Project, environment)
	}
	if in.Ref.IsPullRequest() || in.Ref.Fork {
		return in, nil
	}
	if in.Ref.Event == host.Tag {
		in.Ref.Branch = orElse(in.Ref.Branch, in.Ref.Tag)
	}
	if len(in.Ref.ImageTags()) == 0 {
		in.Ref.Branch = deployName(e.Name) // of a folder without git; an image has to have some tag
	}
	in = PublishAnyway(in)
	in.Ref.Event = host.Push
	p := *in.Project
	p.Publish.Branches = append([]string{in.Ref.Branch}, p.Publish.Branches...)
	p.Environments = slices.Clone(p.Environments)
	i := slices.IndexFunc(p.Environments, func(o project.Environment) bool { return o.Name == e.Name })
	p.Environments[i].Branches = append([]string{in.Ref.Branch}, e.Branches...)
	in.Project = &p
	return in, nil
}

// EnvironmentError means that there is no environment of a name.
type EnvironmentError struct{ Problem string }

func (e *EnvironmentError) Error() string { return e.Problem }

// ExitCode is the status of a process that ends with this error.
func (e *EnvironmentError) ExitCode() int { return 2 }

func unknownEnvironment(p *project.Project, name string) error {
	var names []string
	for _, e := range p.Environments {
		names = append(names, e.Name)
	}
	if len(names) == 0 {
		return &EnvironmentError{fmt.Sprintf("there is no environment %q: the project has none; add environments to millrace.yaml", name)}
	}
	return &EnvironmentError{fmt.Sprintf("there is no environment %q: use %s", name, or(names))}
}

// EnvironmentOf returns what is needed to look at an environment.
func EnvironmentOf(ctx context.Context, in Inputs, name string) (kube.Environment, error) {
	e, found := in.Project.Environment(name)
	if !found {
		return kube.Environment{}, unknownEnvironment(in.Project, name)
	}
	cluster, given := in.Delivery.Clusters[name]
	if !given {
		return kube.Environment{}, &EnvironmentError{fmt.Sprintf("no kubeconfig for %s: set %s", name, e.Variable())}
	}
	namespace := e.Namespace
	if namespace == "" {
		if in.Source == nil {
			return kube.Environment{}, errors.New("without the source, the environment's namespace is not known: add the key namespace to it")
		}
		var err error
		if namespace, err = (kube.Manifests{Path: e.Manifests, Values: e.Values, Release: e.Release}).Namespace(ctx, in.Client, in.Source); err != nil {
			return kube.Environment{}, err
		}
	}
	return kube.Environment{Name: name, Namespace: namespace, Cluster: cluster}, nil
}

// Rollback returns the graph of one node that brings an environment back to a revision; 0 means the one before the present.
func Rollback(in Inputs, environment string, to int) (*graph.Graph, error) {
	e, found := in.Project.Environment(environment)
	if !found {
		return nil, unknownEnvironment(in.Project, environment)
	}
	g := graph.New("rollback")
	name := "rollback-" + environment
	_, given := in.Delivery.Clusters[environment]
	if !given {
		return nil, &EnvironmentError{fmt.Sprintf("no kubeconfig for %s: set %s", environment, e.Variable())}
	}
	graph.Add(g, name, func(ctx context.Context) (kube.Rollout, error) {
		at, err := EnvironmentOf(ctx, in, environment)
		if err != nil {
			return kube.Rollout{}, err
		}
		return kube.Rollback{
			Environment: environment, Namespace: at.Namespace, Cluster: at.Cluster, To: to, Deadline: e.Deadline, Wait: wait(in),
			Verify: verify(in, e), Origin: origin(in), Progress: progress(in, name),
		}.Run(ctx, in.Client)
	}, graph.Doc("roll "+environment+" back"), graph.Retry(3, 2*time.Second), graph.Timeout(deployTimeout(in, e)), graph.Serial(deployName(environment)))
	return g, nil
}

// EnvironmentsOf returns the environments whose clusters a run by that plan asks: those that it works on, and those that their gates
// name.
func EnvironmentsOf(p *project.Project, plan graph.Plan) []project.Environment {
	asked := map[string]bool{}
	for _, n := range plan.Nodes {
		if n.Skip != "" {
			continue
		}
		for _, e := range p.Environments {
			for _, does := range []string{deployName(""), loadName(""), "rollback-", "promote-", "smoke-"} {
				if n.Name != does+e.Name {
					continue
				}
				asked[e.Name] = true
				if e.Gates != nil {
					asked[e.Gates.From] = true
				}
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(p.Environments), func(e project.Environment) bool { return !asked[e.Name] })
}

// Mistaken returns what was wrong with the request of a run, where the only step found that out before it did anything: that there
// is no release to roll back to, for example. Such a run has no verdict: neither code nor machinery is at fault. Nil where nothing is.
func Mistaken(result *graph.Result) error {
	if len(result.Nodes) != 1 {
		return nil
	}
	var revision *kube.RevisionError
	var environment *EnvironmentError
	if err := result.Nodes[0].Err; errors.As(err, &revision) || errors.As(err, &environment) {
		return err
	}
	return nil
}

// DeployDryRun says what a deploy to an environment would change. It builds and publishes nothing: where the run would put in an
// image of its own, the one that runs is left.
func DeployDryRun(ctx context.Context, in Inputs, environment string) (kube.Rollout, error) {
	e, found := in.Project.Environment(environment)
	if !found {
		return kube.Rollout{}, unknownEnvironment(in.Project, environment)
	}
	if _, given := in.Delivery.Clusters[environment]; !given {
		return kube.Rollout{}, &EnvironmentError{fmt.Sprintf("no kubeconfig for %s: set %s", environment, e.Variable())}
	}
	d := Deploy(in, e, nil)
	d.DryRun = true
	for _, i := range in.Project.Images {
		d.Images[i.Name] = ""
	}
	return d.Run(ctx, in.Client, in.Source)
}
