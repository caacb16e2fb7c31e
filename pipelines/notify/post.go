package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// post is one request to an address that is a secret: no error may show it.
type post struct {
	client  *http.Client
	url     Secret
	label   string
	body    []byte
	header  http.Header
	hide    []Secret
	explain func(label, answer string) string
	// safe asks for https, unless the address is this machine's own.
	safe bool
}

// LaterError is a transient error of a receiver that says when to come back.
type LaterError struct {
	Err   error
	After time.Duration
}

func (e *LaterError) Error() string { return e.Err.Error() }

func (e *LaterError) Unwrap() error { return e.Err }

func (p post) send(ctx context.Context) error {
	target, err := p.target()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(p.body))
	if err != nil {
		return p.errorf("%s holds no address that can be used", p.label)
	}
	for name, values := range p.header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "millrace")
	client := http.Client{}
	if p.client != nil {
		client = *p.client
	}
	// An address that moved would turn the message into a GET, or hand it to somebody else.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return p.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	answer := cut(line(string(text)), 200, asIs)
	failed := fmt.Sprintf("it answered %d %s", resp.StatusCode, strings.ToLower(http.StatusText(resp.StatusCode)))
	if answer != "" {
		failed += ": " + answer
	}
	if p.explain != nil {
		if why := p.explain(p.label, answer); why != "" {
			failed += ": " + why
		}
	}
	err = p.errorf("%s", failed)
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		err = graph.Transient(err)
		if after, ok := retryAfter(resp.Header.Get("Retry-After"), time.Now()); ok {
			err = &LaterError{err, after}
		}
	case code >= 500 || code == http.StatusRequestTimeout:
		err = graph.Transient(err)
	}
	return err
}

// target reads the address. What is wrong with it is said without it.
func (p post) target() (*url.URL, error) {
	if !p.url.IsSet() {
		return nil, fmt.Errorf("%s is not set", p.label)
	}
	u, err := url.Parse(p.url.value)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%s is no web address: it must be like https://host/path", p.label)
	case p.safe && u.Scheme != "https" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("%s begins with http://: use https://, since whoever reads the address can post too", p.label)
	}
	return u, nil
}

// errorf makes an error that shows no secret.
func (p post) errorf(format string, args ...any) error {
	return errors.New(scrub(fmt.Sprintf(format, args...), append(p.hide, p.url)...))
}

// unreachable says why there was no answer. The error of the HTTP client has the address in it, and is taken apart.
func (p post) unreachable(ctx context.Context, err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return p.errorf("its certificate is not trusted: %v", certificate.Err)
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return graph.Transient(p.errorf("it did not answer in time"))
	}
	return graph.Transient(p.errorf("it can't be reached: %v", err))
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && seconds >= 0 {
		return min(time.Duration(seconds), 1<<30) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func named(kind, label string) string {
	if label == "" {
		return kind
	}
	return kind + " (" + label + ")"
}
