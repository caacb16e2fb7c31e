package pipelines

import (
	"strings"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/project"
)

func gatedProject() *project.Project {
	return &project.Project{
		LoadTests: []string{"loadtest/load.js"},
		Environments: []project.Environment{
			{Name: "staging", URL: "http://api", Smoke: []project.Smoke{{HTTP: &project.SmokeHTTP{URL: "/"}}}},
			{Name: "production", Gates: &project.Gates{
				Window: &project.GateWindow{Days: []string{"mon"}, Zone: "UTC"}, Approvers: []project.Approver{{Name: "Ada", Key: "ssh-ed25519 AAAA"}},
			}},
		},
	}
}

func TestGatesHoldADeploymentBack(t *testing.T) {
	t.Parallel()
	images := []string{"ghcr.io/acme/api@sha256:" + strings.Repeat("a", 64)}
	in := Inputs{Project: gatedProject(), Now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)} // a Wednesday
	decision, err := CheckGates(t.Context(), in, "production", images)
	require.NoError(t, err)
	require.Equal(t, "it is Wed 12:00, outside of the deployment window of production (mon 00:00-24:00 UTC), "+
		"which opens next on Monday, 30 November, at 00:00 UTC; no approval for production: run: ci approve production", decision.Reason())
	held, err := admit(in, in.Project.Environments[1])(t.Context(), images)
	require.NoError(t, err)
	require.Equal(t, graph.Skipped, held.Verdict, "nothing is wrong: it only has to wait")
	require.Equal(t, decision.Reason(), held.Reason)
	require.Nil(t, admit(in, in.Project.Environments[0]), "no gates")

	decision, err = CheckGates(t.Context(), in, "staging", images)
	require.NoError(t, err)
	require.True(t, decision.Open(), "no gates")
	_, err = CheckGates(t.Context(), in, "nowhere", images)
	require.ErrorContains(t, err, "use staging or production")

	in.Project.Environments[1].Gates.From = "staging"
	_, err = CheckGates(t.Context(), in, "production", images)
	require.ErrorContains(t, err, "look at what passed staging: no kubeconfig for staging")
}

func TestATrialHasNeitherHoursNorApprovers(t *testing.T) {
	t.Parallel()
	in := Inputs{Project: gatedProject()}
	in.Project.Environments[1].Gates.From = "staging"
	cluster := kube.Cluster{Host: "cluster"}
	got, e := trial(in, in.Project.Environments[1], cluster)
	require.Equal(t, &project.Gates{From: "staging"}, e.Gates)
	require.Equal(t, map[string]kube.Cluster{"staging": cluster, "production": cluster}, got.Delivery.Clusters)
	require.NotNil(t, in.Project.Environments[1].Gates.Window, "the inputs of others stay as they are")
}

func TestVerificationGraphs(t *testing.T) {
	t.Parallel()
	in := Inputs{Project: gatedProject(), Delivery: Delivery{Clusters: map[string]kube.Cluster{
		"staging": {Kubeconfig: &dagger.Secret{}}, "production": {Kubeconfig: &dagger.Secret{}}}}}
	g, err := Smoke(in, "staging")
	require.NoError(t, err)
	require.Empty(t, g.Plan().Nodes[0].Skip)
	g, err = Smoke(in, "production")
	require.NoError(t, err)
	require.Contains(t, g.Plan().Nodes[0].Skip, "no smoke tests: add some to the environment production")
	_, err = LoadTest(in, "nowhere", false)
	require.ErrorContains(t, err, `there is no environment "nowhere"`)
	in.Project.Environments[0].Load = &project.Load{Margin: 0.3, Timeout: time.Minute, URL: "https://staging.example.com"}
	test := Load(in, in.Project.Environments[0], "shop", true)
	require.Equal(t, "loadtest/load.js", test.Script)
	require.Equal(t, "https://staging.example.com", test.External)
	require.Equal(t, time.Minute, test.Timeout)
	require.InDelta(t, 0.3, test.Tolerance.Margin, 0)
}

func TestLoadTestsFollowDeploys(t *testing.T) {
	t.Parallel()
	in := Inputs{Project: gatedProject()}
	in.Project.Environments[0].Load = &project.Load{}
	g := CICD(in)
	require.Len(t, g.LoadTests, 1)
	require.NotNil(t, g.LoadTests["staging"])
	in.Project.Environments[1].Gates.From = "staging"
	require.Equal(t, []string{"test", "security", "deploy-staging", "load-test-staging"}, after(CICD(in).Graph, "deploy-production"),
		"what staging does not bear does not go on")
	all := func(string) bool { return true }
	require.Subset(t, References(in.Project, all), []string{"grafana/k6:1.6.1", "python:3.11-slim", "alpine/k8s:1.34.4"})
}

// after are the nodes that a node comes after.
func after(g *graph.Graph, name string) []string {
	for _, n := range g.Plan().Nodes {
		if n.Name == name {
			return n.After
		}
	}
	return nil
}
