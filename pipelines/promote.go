package pipelines

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Promote returns the graph of one node that deploys to an environment what runs in another, by the same digests: nothing is built.
// The manifests are those of the source, as for every deploy, and the gates of the environment hold.
func Promote(in Inputs, from, to string) (*graph.Graph, error) {
	for _, name := range []string{from, to} {
		e, found := in.Project.Environment(name)
		if !found {
			return nil, unknownEnvironment(in.Project, name)
		}
		if _, given := in.Delivery.Clusters[name]; !given {
			return nil, &EnvironmentError{fmt.Sprintf("no kubeconfig for %s: set %s", name, e.Variable())}
		}
	}
	if from == to {
		return nil, &EnvironmentError{fmt.Sprintf("%s can't be promoted to itself: name two environments", from)}
	}
	e, _ := in.Project.Environment(to)
	g := graph.New("promote")
	graph.Add(g, "promote-"+to, func(ctx context.Context) (kube.Rollout, error) {
		at, err := EnvironmentOf(ctx, in, from)
		if err != nil {
			return kube.Rollout{}, err
		}
		history, err := at.History(ctx, in.Client)
		if err != nil {
			return kube.Rollout{}, fmt.Errorf("look at what runs in %s: %w", from, err)
		}
		i := slices.IndexFunc(history, func(r kube.Release) bool { return r.Status == kube.Deployed })
		if i < 0 {
			return kube.Rollout{Result: step.Result{
				Verdict: graph.Failed, Reason: fmt.Sprintf("nothing runs in %s that could be promoted: deploy there first", from),
			}}, nil
		}
		in := in
		in.Ref.SHA, in.Ref.Author = history[i].Commit, history[i].Author
		images := map[string]image.Published{}
		for name, reference := range history[i].Images {
			images[name] = image.Published{Name: name, Reference: reference}
		}
		return Deploy(in, e, images).Run(ctx, in.Client, in.Source)
	}, graph.When(!in.Ref.IsPullRequest() && !in.Ref.Fork, "pull requests get neither secrets nor deploys"),
		graph.Doc(fmt.Sprintf("deploy to %s what runs in %s", to, from)), graph.Retry(3, 2*time.Second), graph.Timeout(deployTimeout(in, e)),
		graph.Serial(deployName(to)))
	return g, nil
}
