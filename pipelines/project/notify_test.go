package project_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

func TestNotify(t *testing.T) {
	t.Parallel()
	usual := []string{"failure", "recovered", "deploy", "drift", "training"}
	slack := project.Notification{Kind: "slack", Secret: "SLACK_WEBHOOK_URL", On: usual, Environments: []string{"production"}}
	for text, want := range map[string][]project.Notification{
		"test: {shards: 2}":       {slack},
		"notify: []":              {},
		"notify: [{kind: slack}]": {slack},
		"notify: [{kind: slack, secret: OPS, on: [failure], environments: [staging], branches: [main]}, {kind: slack}]": {
			{Kind: "slack", Secret: "OPS", On: []string{"failure"}, Environments: []string{"staging"}, Branches: []string{"main"}}, slack,
		},
		"notify: [{kind: webhook}]": {
			{Kind: "webhook", Secret: "NOTIFY_WEBHOOK_URL", SigningSecret: "NOTIFY_WEBHOOK_KEY", On: usual, Environments: []string{"production"}},
		},
		"notify: [{kind: email, smtp: {host: mail.example.com, user: ci}, from: CI <ci@example.com>, to: [ada@example.com]}]": {
			{Kind: "email", Secret: "SMTP_PASSWORD", On: usual, Environments: []string{"production"},
				SMTP: project.SMTP{Host: "mail.example.com", User: "ci"}, From: "CI <ci@example.com>", To: []string{"ada@example.com"}},
		},
	} {
		p, err := configured(t, text)
		require.NoError(t, err, text)
		require.Equal(t, want, p.Notify, text)
		require.NoError(t, validate(t, compiledSchema(t), []byte(text)), text)
		effective, err := p.YAML()
		require.NoError(t, err)
		again, err := configured(t, string(effective))
		require.NoError(t, err, "%s", effective)
		require.Equal(t, p.Notify, again.Notify)
	}
}

func TestNotifyMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"notify:\n- {secret: X}\n", "millrace.yaml:2:3: notify[0]: kind is missing: use one of slack, webhook, email\n    - {secret: X}"},
		{"notify:\n- kind: slak\n", `millrace.yaml:2:9: notify[0].kind: unknown kind "slak": did you mean "slack"?` + "\n    - kind: slak"},
		{"notify:\n- kind: slack\n  on: [failures]\n", `millrace.yaml:3:8: notify[0].on[0]: unknown event "failures": did you mean "failure"?` + "\n    on: [failures]"},
		{"notify:\n- kind: slack\n  secret: https://hooks.slack.com/services/canary\n", "millrace.yaml:3:11: notify[0].secret: it is no variable's name: name the environment variable that holds the secret, such as SLACK_WEBHOOK_URL"},
		{"notify:\n- kind: slack\n  signing_secret: KEY\n", "millrace.yaml:3:19: notify[0].signing_secret: only a webhook's requests are signed\n    signing_secret: KEY"},
		{"notify:\n- kind: slack\n  to: [a@example.com]\n", "millrace.yaml:3:7: notify[0].to: recipients are for kind: email\n    to: [a@example.com]"},
		{"notify:\n- kind: email\n  from: a@example.com\n", "millrace.yaml:2:3: notify[0].smtp: host is missing: name the mail server\n    - kind: email"},
		{"notify:\n- kind: email\n  smtp: {host: 'mail:25'}\n", `millrace.yaml:3:16: notify[0].smtp.host: "mail:25" is no host's name: use one such as mail.example.com, and put the port into port` + "\n    smtp: {host: 'mail:25'}"},
		{"notify:\n- kind: email\n  smtp: {host: m, tls: ssl}\n  from: a@b.c\n  to: [d@e.f]\n", `millrace.yaml:3:24: notify[0].smtp.tls: unknown encryption "ssl": use one of starttls, tls, none` + "\n    smtp: {host: m, tls: ssl}"},
		{"notify:\n- kind: email\n  smtp: {host: m}\n  from: ada\n  to: [d@e.f]\n", `millrace.yaml:4:9: notify[0].from: "ada" is no mail address` + "\n    from: ada"},
		{"notify:\n- kind: email\n  smtp: {host: m}\n  from: a@b.c\n", "millrace.yaml:2:3: notify[0]: to is missing: give the recipients' addresses\n    - kind: email"},
		{"notify: {kind: slack}\n", "millrace.yaml:1:9: notify: want a list, not keys and values\n    notify: {kind: slack}"},
	} {
		_, err := configured(t, test.text)
		require.EqualError(t, err, test.want)
		var mistake *project.ConfigError
		require.ErrorAs(t, err, &mistake)
		require.NotContains(t, err.Error(), "canary")
	}
}
