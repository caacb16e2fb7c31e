package pipelines_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/notify"
	"github.com/millrace-ci/millrace/pipelines/notify/notifytest"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// known gives every variable a value.
func known(variable string) notify.Secret { return notify.NewSecret("https://example.com/" + variable) }

func none(string) notify.Secret { return notify.Secret{} }

func TestNotifying(t *testing.T) {
	t.Parallel()
	push := host.Ref{Event: host.Push, Branch: "main"}
	for name, c := range map[string]struct {
		ref    host.Ref
		secret func(string) notify.Secret
		why    string
	}{
		"push":         {push, known, ""},
		"no secret":    {push, none, "nobody can be told: SLACK_WEBHOOK_URL is not set"},
		"pull request": {host.Ref{Event: host.PullRequest, PullRequest: 7}, known, "a pull request's checks tell its author"},
		"fork":         {host.Ref{Event: host.PullRequest, PullRequest: 7, Fork: true}, known, "a fork gets no secrets"},
	} {
		in := inputs(t, c.ref, "")
		in.Notify = pipelines.NotifyTargets(in.Project, c.secret)
		require.Equal(t, c.why, skipped(t, pipelines.CICD(in).Graph, "notify"), name)
	}
	require.Equal(t, "nobody is to be told", skipped(t, pipelines.CICD(inputs(t, push, "")).Graph, "notify"))
}

func TestNotifyTargets(t *testing.T) {
	t.Parallel()
	var events []string
	for _, e := range notify.Events {
		events = append(events, string(e))
	}
	require.Equal(t, project.NotifyEvents, events)

	p := &project.Project{Notify: []project.Notification{
		{Kind: "slack", Secret: "A", On: []string{"failure"}, Environments: []string{"production"}, Branches: []string{"main"}},
		{Kind: "webhook", Secret: "B", SigningSecret: project.DefaultSigningSecret},
		{Kind: "webhook", Secret: "B", SigningSecret: "KEY"},
		{Kind: "email", Secret: "C", SMTP: project.SMTP{Host: "mail.example.com", User: "ci"}},
		{Kind: "email", SMTP: project.SMTP{Host: "127.0.0.1"}},
	}}
	all := pipelines.NotifyTargets(p, func(variable string) notify.Secret {
		if variable == "KEY" || variable == "C" || variable == "" || variable == project.DefaultSigningSecret {
			return notify.Secret{}
		}
		return known(variable)
	})
	require.Equal(t, notify.Target{
		Channel: notify.Slack{Label: "A", URL: known("A")},
		On:      []notify.Event{notify.Failure}, Environments: []string{"production"}, Branches: []string{"main"},
	}, all[0])
	var missing []string
	for _, target := range all {
		missing = append(missing, target.Missing)
	}
	require.Equal(t, []string{"", "", "KEY is not set", "C is not set", ""}, missing)
}

// The node sees what everything before it came to, steps that were added to the graph later included, and whatever
// becomes of its message, the verdict stays.
func TestNotifyNode(t *testing.T) {
	t.Parallel()
	s := &notifytest.Slack{Path: "/hook"}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	in := pipelines.Inputs{
		Ref:    host.Ref{Event: host.Push, Branch: "main", Message: "raise the threshold", Author: "Ada"},
		Notify: []notify.Target{{Channel: notify.Slack{Label: "HOOK", URL: notify.NewSecret(server.URL + "/hook")}, On: []notify.Event{notify.Failure, notify.Recovered}}},
	}
	for _, c := range []struct {
		err      error
		previous *report.Run
		refuse   bool
		verdict  graph.Verdict
		notify   graph.Verdict
		accepted string
	}{
		{errors.New("the cluster is gone"), nil, false, graph.Errored, graph.Passed, "deploy-production errored"},
		{errors.New("the cluster is gone"), nil, true, graph.Errored, graph.Passed, ""},
		{nil, nil, false, graph.Passed, graph.Skipped, ""},
		{nil, &report.Run{Graph: "ci-cd", Verdict: graph.Failed, Ref: report.Ref{Branch: "main"}}, false, graph.Passed, graph.Passed, "deployed to production"},
		{nil, &report.Run{Graph: "ci-cd", Verdict: graph.Failed, Ref: report.Ref{Branch: "main"}}, true, graph.Passed, graph.Passed, ""},
	} {
		if c.refuse {
			s.Plan(notifytest.Answer{Status: 404, Body: "no_service"})
		}
		before := len(s.Accepted())
		in.Previous = c.previous
		g := graph.New("ci-cd")
		pipelines.Notify(g, in)
		graph.Add(g, "deploy-production", func(context.Context) (int, error) { return 0, c.err })
		result := g.Run(t.Context())
		require.Equal(t, c.verdict, result.Verdict)
		node, _ := result.Node("notify")
		require.Equal(t, c.notify, node.Verdict)
		accepted := s.Accepted()[before:]
		if c.accepted == "" {
			require.Empty(t, accepted)
			continue
		}
		require.Len(t, accepted, 1)
		require.Contains(t, string(accepted[0]), c.accepted)
		require.Contains(t, string(accepted[0]), "raise the threshold")
	}
	require.Empty(t, s.Problems())
}
