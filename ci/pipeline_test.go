package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// Commands for a part of the graph are called by what was asked for, on every screen.
func TestARunIsCalledByWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	var build, cicd pipeline
	build.ask("build", "build")
	for name, test := range map[string]struct {
		p     *pipeline
		asked string
	}{"a step": {&build, "build"}, "the graph": {&cicd, ""}} {
		record := recorded("nnnpnn")
		record.Verdict = graph.Passed
		require.Empty(t, test.p.tally(&record), name)
		require.Equal(t, test.asked, record.Asked, name)
		require.Equal(t, graph.Passed, record.Verdict, name)
	}
}

// What was asked for and skipped is said last, and does not count as passed.
func TestWhatWasAskedForAndSkippedIsSaid(t *testing.T) {
	t.Parallel()
	const reason = "only a push to develop deploys to staging; this is a manual run of feature"
	in := pipelines.Inputs{
		Project:  &project.Project{},
		Delivery: pipelines.Delivery{Clusters: map[string]kube.Cluster{"staging": {}}},
	}
	in.Project.Environments = []project.Environment{{Name: "staging"}, {Name: "production"}}
	run := func(wanted ...string) (report.Run, *prepared) {
		p := &prepared{pipeline: &pipeline{}}
		p.Source = "app"
		p.ask("what was asked for", wanted...)
		return report.Run{Verdict: graph.Passed, Nodes: []report.Node{
			{Name: "build", Verdict: graph.Passed},
			{Name: "deploy-staging", Verdict: graph.Skipped, Reason: reason},
			{Name: "deploy-production", Verdict: graph.Skipped, Reason: "no kubeconfig for production: set KUBE_CONFIG_PRODUCTION"},
			{Name: "load-test-staging", Verdict: graph.Skipped, Reason: "needs deploy-staging, which was skipped: " + reason},
		}}, p
	}
	said := func(p *prepared, in pipelines.Inputs, skipped []report.Node) string {
		var stdout bytes.Buffer
		p.saySkipped(&streams{stdout: &stdout}, in, skipped)
		return stdout.String()
	}

	record, p := run("deploy-staging")
	skipped := p.tally(&record)
	require.Equal(t, graph.Skipped, record.Verdict, "what it needs has passed, and that was not what was asked for")
	require.Zero(t, record.Verdict.ExitCode())
	require.Equal(t, "\nSKIPPED, although asked for: deploy-staging: "+reason+"; whatever the branch: "+p.command("deploy", "staging")+"\n", said(p, in, skipped))
	pullRequest := in
	pullRequest.Ref = host.Ref{Event: host.PullRequest}
	require.Equal(t, "\nSKIPPED, although asked for: deploy-staging: "+reason+"\n", said(p, pullRequest, skipped))

	record, p = run("build", "deploy-production", "load-test-staging")
	skipped = p.tally(&record)
	require.Equal(t, graph.Passed, record.Verdict, "a part of it was done")
	require.Equal(t, "\nSKIPPED, although asked for: deploy-production: no kubeconfig for production: set KUBE_CONFIG_PRODUCTION\n"+
		"SKIPPED, although asked for: load-test-staging: needs deploy-staging, which was skipped: "+reason+"; whatever the branch: "+p.command("load-test", "staging")+"\n",
		said(p, in, skipped))

	record, p = run()
	require.Empty(t, said(p, in, p.tally(&record)), "who asks for the whole graph reads the table")
	require.Equal(t, graph.Passed, record.Verdict)
}
