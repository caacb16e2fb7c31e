package pipelines_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/project"
)

// shop is a project with three environments, of which clusters are known of those that are named.
func shop(t *testing.T, ref host.Ref, clusters ...string) pipelines.Inputs {
	t.Helper()
	p, err := project.Detect(project.FS(fstest.MapFS{
		"scores/__init__.py": {Data: []byte("\n")},
		"Dockerfile":         {Data: []byte("FROM scratch\nCOPY scores /scores\n")},
		"k8s/app.yaml":       {Data: []byte("apiVersion: v1\n")},
		"millrace.yaml":      {Data: []byte("environments: [{name: dev}, {name: staging}, {name: production, branches: [main, release]}]\n")},
	}), nil)
	require.NoError(t, err)
	in := pipelines.Inputs{Project: p, Ref: ref, Registry: pipelines.Registry{Address: "registry.example.com/acme"}}
	in.Delivery.Clusters = map[string]kube.Cluster{}
	for _, name := range clusters {
		in.Delivery.Clusters[name] = kube.Cluster{}
	}
	return in
}

func TestDeploying(t *testing.T) {
	t.Parallel()
	push := func(branch string) host.Ref { return host.Ref{Event: host.Push, Branch: branch} }
	for name, c := range map[string]struct {
		ref      host.Ref
		node     string
		clusters string
		why      string
	}{
		"develop goes to staging":    {push("develop"), "deploy-staging", "staging", ""},
		"main does not":              {push("main"), "deploy-staging", "staging", "only a push to develop deploys to staging; this is a push of main"},
		"main goes to production":    {push("main"), "deploy-production", "production", ""},
		"a branch of its own":        {push("release"), "deploy-production", "production", ""},
		"which is published as well": {push("release"), "publish", "", ""},
		"a tag does not":             {host.Ref{Event: host.Tag, Tag: "v1"}, "deploy-production", "production", "only a push to main or release"},
		"dev has no branch":          {push("main"), "deploy-dev", "dev", "no branch deploys to dev by itself: run ci deploy dev"},
		"no kubeconfig":              {push("main"), "deploy-production", "", "no kubeconfig for production: set KUBE_CONFIG_PRODUCTION"},
		"a pull request":             {host.Ref{Event: host.PullRequest, PullRequest: 7}, "deploy-production", "production", "pull requests get neither secrets nor deploys"},
		"a fork":                     {host.Ref{Event: host.PullRequest, Fork: true}, "deploy-production", "production", "a fork gets neither secrets nor deploys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why := skipped(t, pipelines.CICD(shop(t, c.ref, strings.Fields(c.clusters)...)).Graph, c.node)
			if c.why == "" {
				require.Empty(t, why)
			} else {
				require.Contains(t, why, c.why)
			}
		})
	}
}

func TestDeployAnyway(t *testing.T) {
	t.Parallel()
	for name, ref := range map[string]host.Ref{
		"another branch": {Event: host.Push, Branch: "feature/x"}, "a manual run": {Event: host.Manual}, "a tag": {Event: host.Tag, Tag: "v1"},
	} {
		in, err := pipelines.DeployAnyway(shop(t, ref, "dev"), "dev")
		require.NoError(t, err)
		g := pipelines.CICD(in).Graph
		require.Empty(t, skipped(t, g, "deploy-dev"), name)
		require.Empty(t, skipped(t, g, "publish"), name)
		for _, n := range g.Plan(graph.Only("deploy-dev")).Nodes {
			require.Equal(t, n.Name == "build" || n.Name == "publish" || n.Name == "deploy-dev", n.Skip == "", "%s: %s", name, n.Name)
		}
	}
	in, err := pipelines.DeployAnyway(shop(t, host.Ref{Event: host.PullRequest}, "dev"), "dev")
	require.NoError(t, err)
	require.Contains(t, skipped(t, pipelines.CICD(in).Graph, "deploy-dev"), "pull requests get neither")
	_, err = pipelines.DeployAnyway(shop(t, host.Ref{}), "prod")
	require.EqualError(t, err, `there is no environment "prod": use dev, staging or production`)
}

func TestEnvironmentsOfAPlan(t *testing.T) {
	t.Parallel()
	in := shop(t, host.Ref{Event: host.Push, Branch: "main", SHA: "0123456789"}, "staging", "production")
	in.Registry.Address = "ghcr.io/acme"
	in.Project.Environments[2].Gates = &project.Gates{From: "dev"}
	names := func(plan graph.Plan) (all []string) {
		for _, e := range pipelines.EnvironmentsOf(in.Project, plan) {
			all = append(all, e.Name)
		}
		return all
	}
	g := pipelines.CICD(in).Graph
	require.Equal(t, []string{"dev", "production"}, names(g.Plan()), "a push to main goes to production, from where its gates say")
	require.Empty(t, names(g.Plan(graph.Only("lint", "test"))))
	back, err := pipelines.Rollback(in, "staging", 0)
	require.NoError(t, err)
	require.Equal(t, []string{"staging"}, names(back.Plan()))
}

// That there is nothing to roll back to is a mistake of who asked, unless it is one step of many.
func TestMistakenRequests(t *testing.T) {
	t.Parallel()
	none := &kube.RevisionError{Problem: "nothing is deployed to staging"}
	run := func(errs ...error) *graph.Result {
		g := graph.New("rollback")
		for i, err := range errs {
			graph.Add(g, fmt.Sprint("step-", i), func(context.Context) (int, error) { return 0, err })
		}
		return g.Run(t.Context())
	}
	err := pipelines.Mistaken(run(fmt.Errorf("roll back: %w", none)))
	require.ErrorIs(t, err, none)
	var coded interface{ ExitCode() int }
	require.ErrorAs(t, err, &coded)
	require.Equal(t, 2, coded.ExitCode())
	require.Error(t, pipelines.Mistaken(run(&pipelines.EnvironmentError{Problem: "no hour is 25:00"})))
	require.NoError(t, pipelines.Mistaken(run(nil)))
	require.NoError(t, pipelines.Mistaken(run(errors.New("connection refused"))))
	require.NoError(t, pipelines.Mistaken(run(none, nil)))
}

func TestRollbackAndPromoteNeedClusters(t *testing.T) {
	t.Parallel()
	in := shop(t, host.Ref{}, "staging")
	g, err := pipelines.Rollback(in, "staging", 0)
	require.NoError(t, err)
	require.Empty(t, skipped(t, g, "rollback-staging"))
	_, err = pipelines.Rollback(in, "production", 0)
	require.EqualError(t, err, "no kubeconfig for production: set KUBE_CONFIG_PRODUCTION")
	_, err = pipelines.Promote(in, "staging", "production")
	require.EqualError(t, err, "no kubeconfig for production: set KUBE_CONFIG_PRODUCTION")
	_, err = pipelines.Promote(in, "staging", "staging")
	require.ErrorContains(t, err, "name two environments")
	g, err = pipelines.Promote(shop(t, host.Ref{}, "staging", "production"), "staging", "production")
	require.NoError(t, err)
	require.Empty(t, skipped(t, g, "promote-production"))
}
