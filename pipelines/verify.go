package pipelines

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-ci/millrace/pipelines/gate"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/load"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Smoke returns the graph of one node that makes an environment's smoke tests. Nothing is rolled back if they fail.
func Smoke(in Inputs, environment string) (*graph.Graph, error) {
	e, found := in.Project.Environment(environment)
	switch _, given := in.Delivery.Clusters[environment]; {
	case !found:
		return nil, unknownEnvironment(in.Project, environment)
	case !given:
		return nil, &EnvironmentError{fmt.Sprintf("no kubeconfig for %s: set %s", environment, e.Variable())}
	}
	g := graph.New("smoke")
	graph.Add(g, "smoke-"+environment, func(ctx context.Context) (kube.SmokeResult, error) {
		at, err := EnvironmentOf(ctx, in, environment)
		if err != nil {
			return kube.SmokeResult{}, err
		}
		return smoke(in, e, at.Namespace).Run(ctx, in.Client, at.Cluster)
	}, graph.When(len(e.Smoke) > 0, "no smoke tests: add some to the environment "+environment+" in millrace.yaml"),
		graph.Doc("ask "+environment+" whether it works"), graph.Retry(3, 2*time.Second), graph.Timeout(time.Hour))
	return g, nil
}

// smoke are the smoke tests of an environment.
func smoke(in Inputs, e project.Environment, namespace string) kube.Smoke {
	return kube.Smoke{Namespace: namespace, URL: e.URL, Checks: e.Smoke, Source: in.Source, Python: in.Project.Python.Version}
}

// LoadTest returns the graph of one node that puts an environment under load. With accept, the run becomes the baseline
// although it is worse than the one before.
func LoadTest(in Inputs, environment string, accept bool) (*graph.Graph, error) {
	e, found := in.Project.Environment(environment)
	switch _, given := in.Delivery.Clusters[environment]; {
	case !found:
		return nil, unknownEnvironment(in.Project, environment)
	case !given:
		return nil, &EnvironmentError{fmt.Sprintf("no kubeconfig for %s: set %s", environment, e.Variable())}
	}
	g := graph.New("load-test")
	graph.Add(g, loadName(environment), func(ctx context.Context) (load.Result, error) {
		at, err := EnvironmentOf(ctx, in, environment)
		if err != nil {
			return load.Result{}, err
		}
		return Load(in, e, at.Namespace, accept).Run(ctx, in.Client, in.Source, at.Cluster)
	}, graph.Doc("put "+environment+" under load"), graph.Timeout(loadTimeout(e)+15*time.Minute))
	return g, nil
}

// loadName is the name of the node that puts an environment under load.
func loadName(environment string) string { return "load-test-" + environment }

// verificationImages are what the checks of an environment run in.
func verificationImages(e project.Environment, runs func(node string) bool) []string {
	var refs []string
	if len(e.Smoke) > 0 && (runs(deployName(e.Name)) || runs("smoke-"+e.Name)) {
		refs = append(refs, image.KubeTools, image.Python(""))
	}
	if runs(loadName(e.Name)) || e.Strategy == project.CanaryRollout && runs(deployName(e.Name)) {
		refs = append(refs, image.KubeTools, image.K6)
	}
	return refs
}

// Load returns the step that puts an environment under load, by the project's configuration.
func Load(in Inputs, e project.Environment, namespace string, accept bool) load.Test {
	l := project.Load{}
	if e.Load != nil {
		l = *e.Load
	}
	return load.Test{
		Namespace: namespace, URL: e.URL, External: l.URL, Script: script(in.Project, l.Script), Env: l.Env, Thresholds: l.Thresholds,
		Tolerance: load.Tolerance{Margin: l.Margin}, Commit: in.Ref.SHA, Accept: accept, Timeout: loadTimeout(e),
	}
}

func loadTimeout(e project.Environment) time.Duration {
	if e.Load == nil {
		return 30 * time.Minute
	}
	return cmp.Or(e.Load.Timeout, 30*time.Minute)
}

// script is the load test that is named, or else the first that was found.
func script(p *project.Project, named string) string {
	if named == "" && len(p.LoadTests) > 0 {
		return p.LoadTests[0]
	}
	return named
}

// CheckGates holds a deployment of images, by reference with digest, against an environment's gates. An environment without
// gates is open.
func CheckGates(ctx context.Context, in Inputs, environment string, images []string) (gate.Decision, error) {
	e, found := in.Project.Environment(environment)
	if !found {
		return gate.Decision{}, unknownEnvironment(in.Project, environment)
	}
	if e.Gates == nil {
		return gate.Decision{}, nil
	}
	rules, err := gateRules(*e.Gates)
	if err != nil {
		return gate.Decision{}, err
	}
	facts := gate.Facts{Approval: in.Delivery.Approval}
	if rules.From != "" {
		if facts.Releases, err = gateReleases(ctx, in, rules.From); err != nil {
			return gate.Decision{}, fmt.Errorf("look at what passed %s: %w", rules.From, err)
		}
	}
	if rules.HostApproval && in.Delivery.HostApproved != nil {
		if facts.HostApproved, err = in.Delivery.HostApproved(ctx, environment); err != nil {
			return gate.Decision{}, fmt.Errorf("ask the CI host who approved: %w", err)
		}
	}
	return gate.Check(rules, GateRequest(in, environment, images), facts), nil
}

// admit holds the images that a deployment puts in against the environment's gates; nil for an environment that has none.
func admit(in Inputs, e project.Environment) func(context.Context, []string) (step.Result, error) {
	if e.Gates == nil {
		return nil
	}
	return func(ctx context.Context, images []string) (step.Result, error) {
		decision, err := CheckGates(ctx, in, e.Name, images)
		if err != nil {
			return step.Result{}, err
		}
		verdict, reason := decision.Judgement()
		return step.Result{Verdict: verdict, Reason: reason}, nil
	}
}

// trial returns inputs for a cluster of this run alone, in which all environments lie. There is nobody to approve what goes
// there, and no hour at which it must not; what did not pass the environment before is held back there too.
func trial(in Inputs, e project.Environment, cluster kube.Cluster) (Inputs, project.Environment) {
	clusters := map[string]kube.Cluster{}
	p := *in.Project
	p.Environments = slices.Clone(p.Environments)
	for i, other := range p.Environments {
		clusters[other.Name] = cluster
		if other.Gates != nil {
			p.Environments[i].Gates = &project.Gates{From: other.Gates.From}
		}
		if other.Name == e.Name {
			e = p.Environments[i]
		}
	}
	in.Project, in.Delivery.Clusters = &p, clusters
	return in, e
}

// GateRequest is what a deployment of images asks for, and what an approver signs.
func GateRequest(in Inputs, environment string, images []string) gate.Request {
	return gate.Request{Environment: environment, Images: images, Commit: in.Ref.SHA, Now: cmp.Or(in.Now, time.Now())}
}

// gateRules reads the configuration of gates.
func gateRules(g project.Gates) (gate.Rules, error) {
	rules := gate.Rules{From: g.From, HostApproval: g.HostApproval}
	if w := g.Window; w != nil {
		window, err := gate.ParseWindow(w.Days, w.From, w.To, w.Zone)
		if err != nil {
			return gate.Rules{}, &EnvironmentError{"gates.window: " + err.Error()}
		}
		rules.Window = window
	}
	for _, a := range g.Approvers {
		rules.Approvers = append(rules.Approvers, gate.Approver{Name: a.Name, Key: a.Key})
	}
	return rules, nil
}

// gateReleases are an environment's releases, from the records in its cluster. What runs there, or ran until the next release
// came, has passed its checks.
func gateReleases(ctx context.Context, in Inputs, environment string) ([]gate.Release, error) {
	at, err := EnvironmentOf(ctx, in, environment)
	if err != nil {
		return nil, err
	}
	history, err := at.History(ctx, in.Client)
	if err != nil {
		return nil, err
	}
	all := make([]gate.Release, 0, len(history))
	for _, r := range history {
		all = append(all, gate.Release{Revision: r.Revision, Images: references(r), Passed: r.Status == kube.Deployed || r.Status == kube.Superseded})
	}
	return all, nil
}

// references are the images that a release put in, sorted.
func references(r kube.Release) []string {
	var all []string
	for _, image := range r.Images {
		all = append(all, image)
	}
	slices.Sort(all)
	return all
}

// Approvable returns what an approval for an environment is about: the images that run in the environment that its gates
// name, and the commit that they are of.
func Approvable(ctx context.Context, in Inputs, environment string) (gate.Request, error) {
	e, found := in.Project.Environment(environment)
	switch {
	case !found:
		return gate.Request{}, unknownEnvironment(in.Project, environment)
	case e.Gates == nil || e.Gates.From == "":
		return gate.Request{}, &EnvironmentError{fmt.Sprintf("the gates of %s name no environment that images come from: say what to approve with --image", environment)}
	}
	at, err := EnvironmentOf(ctx, in, e.Gates.From)
	if err != nil {
		return gate.Request{}, err
	}
	history, err := at.History(ctx, in.Client)
	if err != nil {
		return gate.Request{}, err
	}
	i := slices.IndexFunc(history, func(r kube.Release) bool { return r.Status == kube.Deployed })
	if i < 0 {
		return gate.Request{}, &EnvironmentError{fmt.Sprintf("nothing runs in %s that could be approved: deploy there first", e.Gates.From)}
	}
	request := GateRequest(in, environment, references(history[i]))
	request.Commit = history[i].Commit
	return request, nil
}
