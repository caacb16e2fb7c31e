package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	sdk "dagger.io/dagger"
	"dagger/millrace/internal/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// Send a test message, or one about an earlier run, to those whom runs notify.
//
// They are those of millrace.yaml, or Slack. A message that can't be sent is an error.
//
// +cache="never"
func (m *Millrace) Notify(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
	// Record of the run to tell of, the run.json of a report; a test message if left out.
	// +optional
	run *dagger.File,
	// Address of the Slack webhook that messages go to, for example env:SLACK_WEBHOOK_URL.
	// +optional
	slackWebhook *dagger.Secret,
	// Address of the webhook that messages go to, where millrace.yaml asks for one.
	// +optional
	notifyWebhook *dagger.Secret,
	// Key that the requests to that webhook are signed with.
	// +optional
	notifyKey *dagger.Secret,
	// Password of the mail account that messages are sent from, where millrace.yaml asks for one.
	// +optional
	smtpPassword *dagger.Secret,
) (string, error) {
	return m.notify(ctx, run, request{
		source: source, config: config,
		slackWebhook: slackWebhook, notifyWebhook: notifyWebhook, notifyKey: notifyKey, smtpPassword: smtpPassword,
	})
}

// notify sends a message about a run that is over.
func (m *Millrace) notify(ctx context.Context, run *dagger.File, r request) (string, error) {
	c, err := connect(ctx)
	if err != nil {
		return "", failure(err)
	}
	_, p, err := m.detect(ctx, c, r)
	if err != nil {
		return "", failure(err)
	}
	all, err := targets(ctx, c, p, r)
	if err != nil {
		return "", failure(err)
	}
	message := notify.Try(report.Ref{}, time.Now())
	if run != nil {
		text, err := run.Contents(ctx)
		if err != nil {
			return "", failure(fmt.Errorf("read the run's record: %w", err))
		}
		record, err := report.DecodeRun([]byte(text))
		if err != nil {
			return "", failure(usageError{err})
		}
		message = notify.Of(record)
	}
	var lines []string
	failed := len(all) == 0
	if failed {
		lines = append(lines, "nobody is to be told: name a target under notify in millrace.yaml")
	}
	for _, d := range (notify.Send{Targets: all, Everybody: true}).Deliver(ctx, message) {
		switch {
		case d.Missing != "":
			failed = true
			lines = append(lines, "- "+d.Target+": "+d.Missing)
		case d.Err != nil:
			failed = true
			lines = append(lines, "! "+d.Target+": "+d.Err.Error())
		default:
			lines = append(lines, "✓ "+d.Target)
		}
	}
	text := strings.Join(lines, "\n")
	if failed {
		return "", exit(graph.Errored.ExitCode(), text)
	}
	return text + "\n", nil
}

// targets are those who are told how runs went. Their secrets are read now: when the time comes, the engine may be gone.
func targets(ctx context.Context, c *sdk.Client, p *project.Project, r request) ([]notify.Target, error) {
	read := func(s *dagger.Secret) (notify.Secret, error) {
		if s == nil {
			return notify.Secret{}, nil
		}
		id, err := s.ID(ctx)
		if err != nil {
			return notify.Secret{}, err
		}
		return notify.Plain(ctx, c.LoadSecretFromID(sdk.SecretID(id)))
	}
	given := map[string]*dagger.Secret{}
	for _, n := range p.Notify {
		switch n.Kind {
		case project.NotifySlack:
			given[n.Secret] = r.slackWebhook
		case project.NotifyWebhook:
			given[n.Secret], given[n.SigningSecret] = r.notifyWebhook, r.notifyKey
		case project.NotifyEmail:
			given[n.Secret] = r.smtpPassword
		}
	}
	secrets := map[string]notify.Secret{}
	for variable, secret := range given {
		value, err := read(secret)
		if err != nil {
			return nil, err
		}
		secrets[variable] = value
	}
	return pipelines.NotifyTargets(p, func(variable string) notify.Secret { return secrets[variable] }), nil
}
