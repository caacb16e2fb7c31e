package notifytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Mail is a message that came to a [MailServer].
type Mail struct {
	From string
	To   []string
	// Data is the whole message, headers and all.
	Data []byte
	// Encrypted says that the connection was.
	Encrypted bool
	// User is who logged in; empty for nobody.
	User string
}

// MailServer is an SMTP server on loopback.
type MailServer struct {
	// User and Password are those of the only account; without a user, nobody has to log in.
	User, Password string
	// Refuse answers the next messages with these errors, one each.
	Refuse []*smtp.SMTPError

	mu    sync.Mutex
	mails []Mail
	roots *x509.CertPool
}

// Start listens until stop is called; implicit has clients encrypt from the beginning, else they may by STARTTLS.
func (m *MailServer) Start(implicit bool) (port int, stop func() error, err error) {
	certificate, roots, err := selfSigned()
	if err != nil {
		return 0, nil, err
	}
	m.roots = roots
	server := smtp.NewServer(backend{m})
	server.Domain = "localhost"
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	port = listener.Addr().(*net.TCPAddr).Port
	if implicit {
		listener = tls.NewListener(listener, server.TLSConfig)
	} else {
		server.AllowInsecureAuth = true
	}
	go func() { _ = server.Serve(listener) }()
	return port, server.Close, nil
}

// TLS trusts the server's certificate.
func (m *MailServer) TLS() *tls.Config {
	return &tls.Config{RootCAs: m.roots, MinVersion: tls.VersionTLS12}
}

// Mails returns what has come in.
func (m *MailServer) Mails() []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Mail(nil), m.mails...)
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "notifytest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, nil
}

type backend struct{ *MailServer }

func (b backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: b.MailServer, conn: c}, nil
}

type session struct {
	server *MailServer
	conn   *smtp.Conn
	user   string
	mail   Mail
}

var _ smtp.AuthSession = (*session)(nil)

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.server.User || password != s.server.Password {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.User != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	_, encrypted := s.conn.TLSConnectionState()
	s.mail = Mail{From: from, Encrypted: encrypted, User: s.user}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if len(s.server.Refuse) > 0 {
		refusal := s.server.Refuse[0]
		s.server.Refuse = s.server.Refuse[1:]
		return refusal
	}
	s.mail.Data = data
	s.server.mails = append(s.server.mails, s.mail)
	return nil
}

func (s *session) Reset()        { s.mail = Mail{} }
func (s *session) Logout() error { return nil }

// ErrBusy is a refusal that asks to come back.
var ErrBusy = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "try again later"}

// ErrUnknown is a refusal for good.
var ErrUnknown = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
