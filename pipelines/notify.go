package pipelines

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// NotifyTargets turns the project's notifications into targets. secret returns the secret of an environment variable's
// name, or the zero value; a target whose secret is not there says so, and is told nothing.
func NotifyTargets(p *project.Project, secret func(variable string) notify.Secret) []notify.Target {
	targets := make([]notify.Target, 0, len(p.Notify))
	for _, n := range p.Notify {
		t := notify.Target{Environments: n.Environments, Branches: n.Branches}
		for _, event := range n.On {
			t.On = append(t.On, notify.Event(event))
		}
		needs := []string{n.Secret}
		switch n.Kind {
		case project.NotifySlack:
			t.Channel = notify.Slack{Label: n.Secret, URL: secret(n.Secret)}
		case project.NotifyWebhook:
			key := secret(n.SigningSecret)
			if n.SigningSecret != project.DefaultSigningSecret {
				needs = append(needs, n.SigningSecret) // it was asked for
			}
			t.Channel = notify.Webhook{Label: n.Secret, URL: secret(n.Secret), Key: key}
		case project.NotifyEmail:
			t.Channel = notify.Email{
				Label: n.SMTP.Host, Host: n.SMTP.Host, Port: n.SMTP.Port, Encryption: n.SMTP.TLS,
				User: n.SMTP.User, Password: secret(n.Secret), From: n.From, To: n.To,
			}
			if n.SMTP.User == "" {
				needs = nil
			}
		}
		for _, variable := range needs {
			if t.Missing == "" && !secret(variable).IsSet() {
				t.Missing = variable + " is not set"
			}
		}
		targets = append(targets, t)
	}
	return targets
}

// Tell makes the message about a run, and sends it to those who are to be told. See [notify.Send].
func Tell(ctx context.Context, in Inputs, run report.Run) (step.Result, error) {
	return notify.Send{Targets: in.Notify}.Run(ctx, MessageOf(in, run))
}

// MessageOf makes the message about a run.
func MessageOf(in Inputs, run report.Run) notify.Message {
	m := notify.Of(run)
	m.Subject = in.Ref.Message
	if in.Previous != nil {
		m = m.After(*in.Previous)
	}
	return m
}

// Notify adds the node that tells people how the run went. It comes after all others, those that are added later
// included, and runs whatever becomes of them.
func Notify(g *graph.Graph, in Inputs) *graph.Node[step.Result] {
	can, why := notifying(in)
	return graph.Add(g, "notify", func(ctx context.Context) (step.Result, error) {
		return Tell(ctx, in, NewRun(graph.SoFar(ctx), in.Ref, report.Engine{}))
	}, graph.Last(), graph.Always(), graph.When(can, why),
		graph.Doc("tell people how the run went"), graph.Timeout(notify.Longest+30*time.Second))
}

// notifying says whether anybody can be told anything, and why not.
func notifying(in Inputs) (bool, string) {
	var missing []string
	for _, t := range in.Notify {
		if t.Missing != "" {
			missing = append(missing, t.Missing)
		}
	}
	switch {
	case in.Ref.Fork:
		return false, "a fork gets no secrets"
	case in.Ref.IsPullRequest():
		return false, "a pull request's checks tell its author"
	case len(in.Notify) == 0:
		return false, "nobody is to be told"
	case len(missing) == len(in.Notify):
		return false, fmt.Sprintf("nobody can be told: %s", strings.Join(slices.Compact(missing), ", "))
	}
	return true, ""
}
