package project

import (
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
)

// Notification is a target that is told how runs went.
type Notification struct {
	// Kind of target: slack, webhook or email.
	Kind string `yaml:"kind" jsonschema:"required,enum=slack,enum=webhook,enum=email"`
	// Secret is the environment variable that holds the webhook's address, or the mail account's password; never the secret itself. SLACK_WEBHOOK_URL, NOTIFY_WEBHOOK_URL or SMTP_PASSWORD if left out.
	Secret string `yaml:"secret,omitempty" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// SigningSecret is the environment variable that holds the key by which a webhook's requests are signed (Standard Webhooks, HMAC-SHA256); NOTIFY_WEBHOOK_KEY if left out, and unsigned where that is not set.
	SigningSecret string `yaml:"signing_secret,omitempty" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// On lists what it is told of: failure, success, recovered, deploy, drift, training; all but success if left out.
	On []string `yaml:"on,omitempty" jsonschema:"enum=failure,enum=success,enum=recovered,enum=deploy,enum=drift,enum=training"`
	// Environments whose deploys it is told of; production if left out.
	Environments []string `yaml:"environments,omitempty"`
	// Branches whose runs it is told of; all if left out. Tags always count.
	Branches []string `yaml:"branches,omitempty"`
	// SMTP is the mail server, for email.
	SMTP SMTP `yaml:"smtp,omitempty"`
	// From is the sender's address, for email.
	From string `yaml:"from,omitempty"`
	// To are the recipients' addresses, for email.
	To []string `yaml:"to,omitempty"`
}

// SMTP is a mail server.
type SMTP struct {
	// Host is the server's name.
	Host string `yaml:"host,omitempty"`
	// Port of the server; 587, or 465 for tls, or 25 for none, if left out.
	Port int `yaml:"port,omitempty" jsonschema:"minimum=1,maximum=65535"`
	// TLS is how the connection is encrypted: starttls, tls, or none on this machine's own address; starttls if left out.
	TLS string `yaml:"tls,omitempty" jsonschema:"enum=starttls,enum=tls,enum=none"`
	// User logs in with the password; without a user there is no login.
	User string `yaml:"user,omitempty"`
}

// The kinds of notifications.
const (
	NotifySlack   = "slack"
	NotifyWebhook = "webhook"
	NotifyEmail   = "email"
)

// DefaultSigningSecret is the variable that holds a webhook's signing key where the configuration names none.
const DefaultSigningSecret = "NOTIFY_WEBHOOK_KEY"

// NotifyEvents are the values of notify.on.
var NotifyEvents = []string{"failure", "success", "recovered", "deploy", "drift", "training"}

// secrets are the variables that hold the secret of each kind where the configuration names none.
var secrets = map[string]string{NotifySlack: "SLACK_WEBHOOK_URL", NotifyWebhook: "NOTIFY_WEBHOOK_URL", NotifyEmail: "SMTP_PASSWORD"}

// notifications are those of a project that says nothing of them.
func notifications() []Notification {
	return []Notification{Notification{Kind: NotifySlack}.complete()}
}

// complete fills in what was left out.
func (n Notification) complete() Notification {
	if n.Secret == "" && (n.Kind != NotifyEmail || n.SMTP.User != "") {
		n.Secret = secrets[n.Kind]
	}
	if n.SigningSecret == "" && n.Kind == NotifyWebhook {
		n.SigningSecret = DefaultSigningSecret
	}
	if n.On == nil {
		n.On = slices.DeleteFunc(slices.Clone(NotifyEvents), func(e string) bool { return e == "success" })
	}
	if n.Environments == nil {
		n.Environments = []string{"production"}
	}
	return n
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// validateNotify checks the notifications, and fills in what they leave out.
func (c *config) validateNotify(p *Project) error {
	for i := range p.Notify {
		if err := c.validateNotification(fmt.Sprintf("notify[%d]", i), p.Notify[i]); err != nil {
			return err
		}
		p.Notify[i] = p.Notify[i].complete()
	}
	return nil
}

func (c *config) validateNotification(at string, n Notification) error {
	kinds := []string{NotifySlack, NotifyWebhook, NotifyEmail}
	if n.Kind == "" {
		return c.atPath(at, "kind is missing: use one of %s", strings.Join(kinds, ", "))
	}
	if err := c.mustBeOf(at+".kind", "kind", n.Kind, kinds); err != nil {
		return err
	}
	for _, v := range []struct{ key, value string }{{"secret", n.Secret}, {"signing_secret", n.SigningSecret}} {
		if v.value != "" && !variablePattern.MatchString(v.value) {
			// What stands there may be the secret itself: it is not repeated, and neither is its line.
			return hideText(c.atPath(at+"."+v.key, "it is no variable's name: name the environment variable that holds the secret, such as %s", secrets[n.Kind]))
		}
	}
	for i, event := range n.On {
		if err := c.mustBeOf(fmt.Sprintf("%s.on[%d]", at, i), "event", event, NotifyEvents); err != nil {
			return err
		}
	}
	if n.SigningSecret != "" && n.Kind != NotifyWebhook {
		return c.atPath(at+".signing_secret", "only a webhook's requests are signed")
	}
	if n.Kind != NotifyEmail {
		switch {
		case n.SMTP != SMTP{}:
			return c.atPath(at+".smtp", "a mail server is for kind: email")
		case n.From != "":
			return c.atPath(at+".from", "a sender is for kind: email")
		case n.To != nil:
			return c.atPath(at+".to", "recipients are for kind: email")
		}
		return nil
	}
	return c.validateEmail(at, n)
}

func (c *config) validateEmail(at string, n Notification) error {
	switch {
	case n.SMTP.Host == "":
		return c.atPath(at+".smtp", "host is missing: name the mail server")
	case !hostPattern.MatchString(n.SMTP.Host):
		return c.atPath(at+".smtp.host", "%q is no host's name: use one such as mail.example.com, and put the port into port", n.SMTP.Host)
	case n.SMTP.Port < 0 || n.SMTP.Port > 65535:
		return c.atPath(at+".smtp.port", "%d is no port: use 1 to 65535", n.SMTP.Port)
	case n.From == "":
		return c.atPath(at, "from is missing: give the sender's address")
	case len(n.To) == 0:
		return c.atPath(at, "to is missing: give the recipients' addresses")
	}
	if n.SMTP.TLS != "" {
		if err := c.mustBeOf(at+".smtp.tls", "encryption", n.SMTP.TLS, []string{"starttls", "tls", "none"}); err != nil {
			return err
		}
	}
	if _, err := mail.ParseAddress(n.From); err != nil {
		return c.atPath(at+".from", "%q is no mail address", n.From)
	}
	for i, to := range n.To {
		if _, err := mail.ParseAddress(to); err != nil {
			return c.atPath(fmt.Sprintf("%s.to[%d]", at, i), "%q is no mail address", to)
		}
	}
	return nil
}

// hideText takes the offending line out of an error.
func hideText(err error) error {
	var e *ConfigError
	if errors.As(err, &e) {
		e.Text = ""
	}
	return err
}
