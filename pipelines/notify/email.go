package notify

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// The ways in which a connection to a mail server is encrypted.
const (
	// StartTLS begins in the clear and does not go on unless the server encrypts; mostly port 587. The default.
	StartTLS = "starttls"
	// ImplicitTLS encrypts from the beginning; mostly port 465.
	ImplicitTLS = "tls"
	// NoTLS does not encrypt, and is for this machine's own address alone.
	NoTLS = "none"
)

// Email sends messages by SMTP, as text and HTML in one.
type Email struct {
	// Label is what the target is called in reports, for example the name of the password's variable.
	Label string
	// Host is the mail server; Port is 587 by default, or 465 with [ImplicitTLS], or 25 with [NoTLS].
	Host string
	Port int
	// Encryption is StartTLS, ImplicitTLS or NoTLS; StartTLS by default.
	Encryption string
	// User and Password log in; without a user, no login is tried.
	User     string
	Password Secret
	// From is the sender's address, and To are the recipients'.
	From string
	To   []string
	// TLS trusts other authorities than the system's; Go's defaults if nil.
	TLS *tls.Config
}

// longestSubject keeps a subject on one line of most readers; the message itself begins with the whole title.
const longestSubject = 200

// Name names the target for people.
func (e Email) Name() string { return named("email", e.Label) }

// Deliver sends m once.
func (e Email) Deliver(ctx context.Context, m Message) error {
	msg, err := e.compose(m)
	if err != nil {
		return err
	}
	client, err := e.client(ctx)
	if err != nil {
		return err
	}
	return e.explain(ctx, client.DialAndSendWithContext(ctx, msg))
}

func (e Email) client(ctx context.Context) (*mail.Client, error) {
	options := []mail.Option{mail.WithoutNoop()}
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, mail.WithTimeout(max(time.Until(deadline), time.Millisecond)))
	}
	if e.TLS != nil {
		config := e.TLS.Clone()
		config.ServerName = e.Host
		options = append(options, mail.WithTLSConfig(config))
	}
	port, auth := 587, mail.SMTPAuthAutoDiscover
	switch e.Encryption {
	case StartTLS, "":
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case ImplicitTLS:
		port = 465
		options = append(options, mail.WithSSL())
	case NoTLS:
		if !loopback(e.Host) {
			return nil, fmt.Errorf("%s is not this machine: mail goes there by starttls or tls only", e.Host)
		}
		port, auth = 25, mail.SMTPAuthPlain
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		return nil, fmt.Errorf("unknown encryption %q: use starttls, tls or none", e.Encryption)
	}
	if e.Port > 0 {
		port = e.Port
	}
	options = append(options, mail.WithPort(port))
	if e.User != "" {
		if !e.Password.IsSet() {
			return nil, fmt.Errorf("there is no password for %s at %s", e.User, e.Host)
		}
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(e.User), mail.WithPassword(e.Password.value))
	}
	return mail.NewClient(e.Host, options...)
}

//go:embed message.html
var page string

var pageTemplate = template.Must(template.New("message").Funcs(template.FuncMap{
	"symbol": symbol, "line": line, "printable": printable, "link": func(m Message) string { return strings.TrimSpace(m.Link) },
	"linked": func(m Message) bool { return webLink(m.Link) != "" },
	"facts":  Message.summary,
}).Parse(page))

// HTML returns the message as a page without anything from elsewhere.
func (m Message) HTML() (string, error) {
	var b strings.Builder
	err := pageTemplate.Execute(&b, m)
	return b.String(), err
}

func (e Email) compose(m Message) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(e.From); err != nil {
		return nil, fmt.Errorf("the sender's address %q: %w", e.From, err)
	}
	if err := msg.To(e.To...); err != nil {
		return nil, fmt.Errorf("the recipients' addresses: %w", err)
	}
	html, err := m.HTML()
	if err != nil {
		return nil, err
	}
	msg.Subject(cut("["+string(m.Verdict)+"] "+line(m.Title), longestSubject, asIs))
	// The library would make one with this machine's name, and another at every attempt.
	_, domain, _ := strings.Cut(strings.TrimSuffix(msg.GetFromString()[0], ">"), "@")
	msg.SetMessageIDWithValue(m.ID + "@" + domain)
	msg.SetDateWithValue(m.Time)
	msg.SetBulk()
	msg.SetUserAgent("millrace")
	msg.SetBodyString(mail.TypeTextPlain, m.Text())
	msg.AddAlternativeString(mail.TypeTextHTML, html)
	return msg, nil
}

// explain says whether another attempt may help: what cannot be reached may be back, and a 4xx asks for it.
func (e Email) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	said := errors.New(scrub(line(err.Error()), e.Password))
	var send *mail.SendError
	var protocol *textproto.Error
	var network net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("%s has a certificate that is not trusted: %w", e.Host, said)
	case errors.As(err, &protocol):
		if protocol.Code >= 400 && protocol.Code < 500 {
			return graph.Transient(said)
		}
		return said
	case errors.As(err, &send):
		if send.IsTemp() {
			return graph.Transient(said)
		}
		return said
	case ctx.Err() != nil:
		return graph.Transient(fmt.Errorf("%s did not answer in time", e.Host))
	case errors.As(err, &network):
		return graph.Transient(fmt.Errorf("%s can't be reached: %w", e.Host, said))
	}
	return said
}
