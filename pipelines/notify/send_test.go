package notify_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http/httptest"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify"
	"github.com/millrace-ci/millrace/pipelines/notify/notifytest"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// canary is the secret part of a webhook's address.
const canary = "canary-of-the-webhook-7c1e"

// quick sends without the waits that real receivers are given.
func quick(targets ...notify.Target) notify.Send {
	return notify.Send{Targets: targets, Wait: time.Millisecond, Timeout: 20 * time.Second}
}

func requireNoSecret(t *testing.T, values ...any) {
	t.Helper()
	for _, v := range values {
		for _, text := range []string{fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v)} {
			require.NotContains(t, text, canary)
		}
	}
}

// slack starts a Slack, and returns it with a target for it.
func slack(t *testing.T) (*notifytest.Slack, notify.Target) {
	t.Helper()
	s := &notifytest.Slack{Path: "/services/T0/B0/" + canary}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, notify.Target{
		Channel: notify.Slack{Label: "SLACK_WEBHOOK_URL", URL: notify.NewSecret(server.URL + s.Path + "\n")},
		On:      []notify.Event{notify.Failure},
	}
}

func send(t *testing.T, s notify.Send, m notify.Message) step.Result {
	t.Helper()
	result, err := s.Run(t.Context(), m)
	require.NoError(t, err)
	requireNoSecret(t, result, s)
	return result
}

func TestSlackIsTold(t *testing.T) {
	t.Parallel()
	for name, r := range runs() {
		s, target := slack(t)
		target.On = notify.Events
		result := send(t, quick(target), notify.Of(r))
		require.Equal(t, graph.Passed, result.Verdict)
		require.Equal(t, "told slack (SLACK_WEBHOOK_URL)", result.Reason, name)
		require.Empty(t, s.Problems())
		require.Len(t, s.Accepted(), 1)
	}
}

func TestSlackFaults(t *testing.T) {
	t.Parallel()
	later := notifytest.Answer{Status: 429, Header: map[string]string{"Retry-After": "1"}, Body: "rate_limited"}
	broken := notifytest.Answer{Status: 500, Body: "rollup_error"}
	for name, c := range map[string]struct {
		plan     []notifytest.Answer
		change   func(*notify.Send)
		requests int
		told     bool
		says     string
	}{
		"a fault, then well":         {plan: []notifytest.Answer{broken}, requests: 2, told: true},
		"asked to wait, then well":   {plan: []notifytest.Answer{later}, requests: 2, told: true},
		"a fault that stays":         {plan: []notifytest.Answer{broken, broken, broken, broken, broken}, requests: 5, says: "it answered 500 internal server error: rollup_error (tried 5 times)"},
		"does not answer, then well": {plan: []notifytest.Answer{{Silence: true}}, change: func(s *notify.Send) { s.Timeout = 300 * time.Millisecond }, requests: 2, told: true},
		"never answers":              {plan: []notifytest.Answer{{Silence: true}, {Silence: true}}, change: func(s *notify.Send) { s.Timeout, s.Attempts = 50*time.Millisecond, 2 }, requests: 2, says: "it did not answer in time (tried 2 times)"},
		"asked to wait for long":     {plan: []notifytest.Answer{{Status: 429, Header: map[string]string{"Retry-After": "3600"}}}, requests: 1, says: "it wants to be left alone for 1h0m0s, and a run waits for 1m30s at most"},
		"asked to wait for ever":     {plan: []notifytest.Answer{{Status: 429, Header: map[string]string{"Retry-After": "99999999999999"}}}, requests: 1, says: "it wants to be left alone for"},
		"the webhook was revoked":    {plan: []notifytest.Answer{{Status: 404, Body: "no_service"}}, requests: 1, says: "it answered 404 not found: no_service: the webhook does not exist any more: make a new one in Slack and put its address into SLACK_WEBHOOK_URL"},
		"the channel is archived":    {plan: []notifytest.Answer{{Status: 410, Body: "channel_is_archived"}}, requests: 1, says: "the webhook's channel is gone"},
		"moved":                      {plan: []notifytest.Answer{{Status: 302, Header: map[string]string{"Location": "https://example.com/"}}}, requests: 1, says: "it answered 302 found"},
		"echoes the address":         {plan: []notifytest.Answer{{Status: 400, Body: "no such hook: /services/T0/B0/" + canary}}, requests: 1, says: "it answered 400 bad request: no such hook: /services/T0/B0/***"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, target := slack(t)
			s.Plan(c.plan...)
			sender := quick(target)
			if c.change != nil {
				c.change(&sender)
			}
			result := send(t, sender, notify.Of(failed()))
			require.Equal(t, graph.Passed, result.Verdict, "it never changes the verdict")
			require.NoError(t, result.Err)
			require.Len(t, s.Requests(), c.requests)
			if c.told {
				require.Equal(t, "told slack (SLACK_WEBHOOK_URL)", result.Reason)
				require.Empty(t, result.Findings)
				require.Len(t, s.Accepted(), 1)
				return
			}
			require.Contains(t, result.Reason, "warning: slack (SLACK_WEBHOOK_URL) was not told: ")
			require.Contains(t, result.Reason, c.says)
			require.Len(t, result.Findings, 1)
		})
	}
}

func TestRetryAfterIsHeeded(t *testing.T) {
	t.Parallel()
	s, target := slack(t)
	s.Plan(notifytest.Answer{Status: 429, Header: map[string]string{"Retry-After": "1"}})
	require.Empty(t, send(t, quick(target), notify.Of(failed())).Findings)
	all := s.Requests()
	require.Len(t, all, 2)
	require.GreaterOrEqual(t, all[1].At.Sub(all[0].At), 990*time.Millisecond, "it came back too early")
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(nil)
	down.Close()
	for name, c := range map[string]struct{ url, says string }{
		"nobody listens": {down.URL + "/" + canary, "it can't be reached: dial tcp 127.0.0.1:"},
		"no address":     {canary, "SLACK_WEBHOOK_URL is no web address"},
		"broken address": {"https://[" + canary + "/%zz", "SLACK_WEBHOOK_URL is no web address"},
		"in the clear":   {"http://hooks.example.com/" + canary, "use https://"},
		"not set":        {"", "SLACK_WEBHOOK_URL is not set"},
		"unknown host":   {"https://" + canary + ".invalid/", "it can't be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sender := quick(notify.Target{Channel: notify.Slack{Label: "SLACK_WEBHOOK_URL", URL: notify.NewSecret(c.url)}, On: notify.Events})
			sender.Attempts = 2
			result := send(t, sender, notify.Of(failed()))
			require.Equal(t, graph.Passed, result.Verdict)
			require.Contains(t, result.Reason, c.says)
		})
	}
}

func TestNobodyIsTold(t *testing.T) {
	t.Parallel()
	_, target := slack(t)
	result := send(t, quick(target), notify.Of(run("ci-cd", graph.Passed)))
	require.Equal(t, graph.Skipped, result.Verdict)
	require.Equal(t, "nobody is to be told of this", result.Reason)

	target.Missing = "SLACK_WEBHOOK_URL is not set"
	result = send(t, quick(target), notify.Of(failed()))
	require.Equal(t, graph.Skipped, result.Verdict)
	require.Equal(t, "slack (SLACK_WEBHOOK_URL) was not told: SLACK_WEBHOOK_URL is not set", result.Reason)
}

// One target that is down keeps none of the others from being told.
func TestSeveralTargets(t *testing.T) {
	t.Parallel()
	good, first := slack(t)
	bad, second := slack(t)
	bad.Plan(notifytest.Answer{Status: 404, Body: "no_service"})
	result := send(t, quick(second, first), notify.Of(failed()))
	require.Equal(t, graph.Passed, result.Verdict)
	require.Contains(t, result.Reason, "warning: ")
	require.Len(t, good.Accepted(), 1)
	require.Equal(t, map[string]float64{"sent": 1, "lost": 1}, result.Metrics)
}

type panicking struct{}

func (panicking) Name() string                                  { return "own" }
func (panicking) Deliver(context.Context, notify.Message) error { panic("boom") }

func TestPanicIsAWarning(t *testing.T) {
	t.Parallel()
	result := send(t, quick(notify.Target{Channel: panicking{}, On: notify.Events}), notify.Of(failed()))
	require.Equal(t, graph.Passed, result.Verdict)
	require.Contains(t, result.Reason, "warning: own was not told")
}

func TestWebhookIsSigned(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "a plain key", "whsec_" + base64.StdEncoding.EncodeToString([]byte("a plain key"))} {
		hook := &notifytest.Hook{}
		hook.Plan(notifytest.Answer{Status: 503})
		server := httptest.NewServer(hook)
		t.Cleanup(server.Close)
		target := notify.Target{On: notify.Events, Channel: notify.Webhook{
			Label: "HOOK", URL: notify.NewSecret(server.URL + "/?token=" + canary), Key: notify.NewSecret(key),
		}}
		m := notify.Of(failed())
		require.Equal(t, "told webhook (HOOK)", send(t, quick(target), m).Reason)
		require.Len(t, hook.Requests(), 2)
		for _, r := range hook.Requests() {
			require.Equal(t, m.ID, r.Header.Get("webhook-id"), "the same at every attempt")
			var got notify.Message
			require.NoError(t, json.Unmarshal(r.Body, &got))
			require.Equal(t, m.Title, got.Title)
			if key == "" {
				require.Empty(t, r.Header.Get("webhook-signature"))
				continue
			}
			mac := hmac.New(sha256.New, []byte("a plain key"))
			mac.Write([]byte(m.ID + "." + r.Header.Get("webhook-timestamp") + "." + string(r.Body)))
			require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)), r.Header.Get("webhook-signature"))
		}
	}
}

func TestEmail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		encryption, user, password, host string
		refuse                           []*smtp.SMTPError
		untrusted                        bool
		says                             string
		mails                            int
	}{
		"starttls":              {encryption: notify.StartTLS, user: "ci", password: canary, mails: 1},
		"implicit tls":          {encryption: notify.ImplicitTLS, user: "ci", password: canary, mails: 1},
		"plain on loopback":     {encryption: notify.NoTLS, user: "ci", password: canary, mails: 1},
		"without a login":       {encryption: notify.StartTLS, mails: 1},
		"busy, then well":       {encryption: notify.StartTLS, refuse: []*smtp.SMTPError{notifytest.ErrBusy}, mails: 1},
		"refused":               {encryption: notify.StartTLS, refuse: []*smtp.SMTPError{notifytest.ErrUnknown}, says: "no such mailbox"},
		"wrong password":        {encryption: notify.StartTLS, user: "ci", password: canary + "-not", says: "535"},
		"no password":           {encryption: notify.StartTLS, user: "ci", says: "there is no password for ci"},
		"untrusted certificate": {encryption: notify.StartTLS, untrusted: true, says: "certificate"},
		"plain elsewhere":       {encryption: notify.NoTLS, host: "mail.example.com", says: "mail.example.com is not this machine"},
		"unknown encryption":    {encryption: "ssl", says: `unknown encryption "ssl"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := &notifytest.MailServer{Refuse: c.refuse}
			if c.user != "" {
				server.User, server.Password = "ci", canary
			}
			port, stop, err := server.Start(c.encryption == notify.ImplicitTLS)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, stop()) })
			email := notify.Email{
				Label: "SMTP_PASSWORD", Host: "127.0.0.1", Port: port, Encryption: c.encryption, User: c.user, Password: notify.NewSecret(c.password),
				From: "CI <ci@example.com>", To: []string{"ada@example.com", "oncall@example.com"},
			}
			if c.host != "" {
				email.Host = c.host
			}
			if !c.untrusted {
				email.TLS = server.TLS()
			}
			m := notify.Of(hostile())
			result := send(t, quick(notify.Target{Channel: email, On: notify.Events}), m)
			require.Equal(t, graph.Passed, result.Verdict)
			require.Len(t, server.Mails(), c.mails, result.Reason)
			if c.mails == 0 {
				require.Contains(t, result.Reason, "warning: email (SMTP_PASSWORD) was not told: ")
				require.Contains(t, result.Reason, c.says)
				return
			}
			got := server.Mails()[0]
			require.Equal(t, "ci@example.com", got.From)
			require.Equal(t, []string{"ada@example.com", "oncall@example.com"}, got.To)
			require.Equal(t, c.encryption != notify.NoTLS, got.Encrypted)
			require.Equal(t, c.user, got.User)
			requireMail(t, string(got.Data), m)
		})
	}
}

// requireMail reads a mail as a reader does.
func requireMail(t *testing.T, data string, m notify.Message) {
	t.Helper()
	msg, err := mail.ReadMessage(strings.NewReader(data))
	require.NoError(t, err)
	require.Empty(t, msg.Header.Get("Bcc"), "an author can't add headers")
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(subject, "[errored] ci-cd errored: "), subject)
	require.LessOrEqual(t, len(subject), 200)
	require.Equal(t, "<"+m.ID+"@example.com>", msg.Header.Get("Message-ID"))
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", kind)
	parts := multipart.NewReader(msg.Body, params["boundary"])
	page, err := m.HTML()
	require.NoError(t, err)
	for _, want := range []string{m.Text(), page} {
		part, err := parts.NextRawPart()
		require.NoError(t, err)
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		require.NoError(t, err)
		require.Equal(t, want, strings.ReplaceAll(string(text), "\r\n", "\n"))
	}
	_, err = parts.NextPart()
	require.True(t, errors.Is(err, io.EOF), "there are two parts")
}
