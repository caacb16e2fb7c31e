package drift

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// Receiver is what kind of host is asked to train.
type Receiver string

// The receivers.
const (
	// GitHub starts a workflow by its workflow_dispatch event.
	GitHub Receiver = "github"
	// GitLab starts a pipeline by a trigger token.
	GitLab Receiver = "gitlab"
	// Webhook posts JSON to any address.
	Webhook Receiver = "webhook"
)

// Receivers lists the receivers.
var Receivers = []Receiver{GitHub, GitLab, Webhook}

// Dispatch asks another system to train.
type Dispatch struct {
	Receiver Receiver
	// URL is the API's for GitHub and GitLab (their public one by default), and the address itself for a webhook.
	URL string
	// Repository is owner/name at GitHub, and the project's path or number at GitLab.
	Repository string
	// Workflow is the file of the workflow at GitHub; training.yml by default.
	Workflow string
	// Ref is the branch that it runs on; main by default.
	Ref string
	// Inputs go along: as the workflow's inputs, the pipeline's variables, or the webhook's field "inputs". A workflow has
	// to declare them.
	Inputs map[string]string
	// Token is a token with the right to start workflows at GitHub, a trigger token at GitLab, and at a webhook the key
	// that its body is signed with (X-Millrace-Signature-256: sha256= and the HMAC in hex).
	Token *dagger.Secret
	// Client sends the requests; one with a timeout of 30 seconds by default.
	Client *http.Client
}

// Check says what a dispatch lacks.
func (d Dispatch) Check() error {
	switch {
	case !slices.Contains(Receivers, d.Receiver):
		return fmt.Errorf("nothing says where to dispatch the retraining to: set drift.retrain.dispatch.to to github, gitlab or webhook")
	case d.Receiver == Webhook && d.URL == "":
		return errors.New("the webhook for retraining has no address: set drift.retrain.dispatch.url")
	case d.Receiver != Webhook && d.Repository == "":
		return fmt.Errorf("dispatch to %s: the repository is not known: set drift.retrain.dispatch.repository", d.Receiver)
	case d.Receiver != Webhook && d.Token == nil:
		return fmt.Errorf("dispatch to %s: there is no token: set the environment variable RETRAIN_TOKEN", d.Receiver)
	}
	return nil
}

// ErrUnknown says of a dispatch that failed that the training may have begun all the same.
var ErrUnknown = errors.New("whether the training has begun is not known")

// Send asks for the training and returns a link to where it is seen, if the answer has one. An error that does not tell whether the
// training has begun is [ErrUnknown].
//
// What is sent at most once is not sent again by itself: only an error before anything was sent, or an answer that says
// so (429, 503), is marked for graph.Retry.
func (d Dispatch) Send(ctx context.Context) (link string, err error) {
	if err := d.Check(); err != nil {
		return "", err
	}
	token := ""
	if d.Token != nil {
		if token, err = d.Token.Plaintext(ctx); err != nil {
			return "", fmt.Errorf("read the token for the dispatch: %w", err)
		}
		token = strings.TrimSpace(token)
	}
	return d.send(ctx, token)
}

func (d Dispatch) send(ctx context.Context, token string) (string, error) {
	request, err := d.request(ctx, token)
	if err != nil {
		return "", err
	}
	client := d.Client
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	own := *client
	// A token is for the address that it was given for.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := own.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, which may hold a secret
		}
		err = fmt.Errorf("dispatch to %s: %s can't be reached: %w", d.Receiver, request.URL.Host, err)
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return "", graph.Transient(err)
		}
		return "", fmt.Errorf("%w: %w", err, ErrUnknown)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil && response.StatusCode/100 != 2 {
		return "", fmt.Errorf("dispatch to %s: read its answer: %w: %w", d.Receiver, err, ErrUnknown)
	}
	if response.StatusCode/100 != 2 {
		return "", d.refused(response.StatusCode, request.URL.Host, body, token)
	}
	return d.link(body), nil
}

func (d Dispatch) request(ctx context.Context, token string) (*http.Request, error) {
	ref := cmp.Or(d.Ref, "main")
	post := func(address, kind string, body []byte) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("dispatch to %s: its address is not valid", d.Receiver)
		}
		if r.URL.Host == "" || r.URL.Scheme != "https" && r.URL.Scheme != "http" {
			return nil, fmt.Errorf("dispatch to %s: its address is no web address: it begins with https://", d.Receiver)
		}
		r.Header.Set("Content-Type", kind)
		r.Header.Set("User-Agent", "millrace")
		// Only what fails before it is sent may be sent again, which the client can't know of a body that it can rewind.
		r.GetBody = nil
		return r, nil
	}
	switch d.Receiver {
	case GitHub:
		inputs := d.Inputs
		if inputs == nil {
			inputs = map[string]string{}
		}
		body, err := json.Marshal(map[string]any{"ref": ref, "inputs": inputs})
		if err != nil {
			return nil, err
		}
		owner, name, found := strings.Cut(d.Repository, "/")
		if !found || strings.Contains(name, "/") {
			return nil, fmt.Errorf("dispatch to github: %q is no repository: write it as owner/name", d.Repository)
		}
		address := strings.TrimSuffix(cmp.Or(d.URL, "https://api.github.com"), "/") + "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name) +
			"/actions/workflows/" + url.PathEscape(cmp.Or(d.Workflow, "training.yml")) + "/dispatches"
		r, err := post(address, "application/json", body)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Accept", "application/vnd.github+json")
		r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
		r.Header.Set("Authorization", "Bearer "+token)
		return r, nil
	case GitLab:
		form := url.Values{"token": {token}, "ref": {ref}}
		for _, name := range slices.Sorted(maps.Keys(d.Inputs)) {
			form.Set("variables["+name+"]", d.Inputs[name])
		}
		address := strings.TrimSuffix(cmp.Or(d.URL, "https://gitlab.com/api/v4"), "/") + "/projects/" + url.PathEscape(d.Repository) + "/trigger/pipeline"
		return post(address, "application/x-www-form-urlencoded", []byte(form.Encode()))
	default:
		body, err := json.Marshal(map[string]any{"event": "millrace.retrain", "ref": ref, "inputs": d.Inputs})
		if err != nil {
			return nil, err
		}
		r, err := post(d.URL, "application/json", body)
		if err != nil {
			return nil, err
		}
		r.Header.Set("X-Millrace-Event", "retrain")
		if token != "" {
			mac := hmac.New(sha256.New, []byte(token))
			mac.Write(body)
			r.Header.Set("X-Millrace-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		}
		return r, nil
	}
}

// refused says why the receiver did not take the request, and what to do.
func (d Dispatch) refused(status int, host string, body []byte, token string) error {
	said := strings.Join(strings.Fields(string(body)), " ")
	var message struct {
		Message json.RawMessage `json:"message"`
	}
	if json.Unmarshal(body, &message) == nil && len(message.Message) > 0 {
		said = strings.Trim(string(message.Message), `"`)
	}
	if token != "" {
		said = strings.ReplaceAll(said, token, "***")
	}
	if len(said) > 300 {
		said = strings.ToValidUTF8(said[:300], "") + "…"
	}
	hint := ""
	switch {
	case status/100 == 3:
		hint = ": it redirects elsewhere, which a token must not follow: give the final address"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		hint = ": check the token, and that it may start workflows"
	case status == http.StatusNotFound && d.Receiver == GitHub:
		hint = fmt.Sprintf(": there is no workflow %s in %s, or the token may not see it", cmp.Or(d.Workflow, "training.yml"), d.Repository)
	case status == http.StatusNotFound && d.Receiver == GitLab:
		hint = fmt.Sprintf(": there is no project %s, or the trigger token is not its own", d.Repository)
	case status == http.StatusUnprocessableEntity && d.Receiver == GitHub:
		hint = ": the workflow must have the trigger workflow_dispatch, on that branch, and declare the inputs"
	}
	err := fmt.Errorf("dispatch to %s: %s answers %d%s: %s", d.Receiver, host, status, hint, cmp.Or(said, "nothing more"))
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		return graph.Transient(err)
	}
	if status/100 == 5 {
		return fmt.Errorf("%w: %w", err, ErrUnknown) // of something on the way, perhaps
	}
	return err
}

// link finds in an answer where the training is seen.
func (d Dispatch) link(body []byte) string {
	var answer struct {
		WebURL  string `json:"web_url"`
		HTMLURL string `json:"html_url"`
		URL     string `json:"url"`
	}
	if json.Unmarshal(body, &answer) == nil {
		if u, err := url.Parse(cmp.Or(answer.WebURL, answer.HTMLURL, answer.URL)); err == nil && u.Host != "" {
			return u.String()
		}
	}
	if d.Receiver == GitHub {
		root := strings.TrimSuffix(strings.TrimSuffix(d.URL, "/"), "/api/v3")
		if d.URL == "" || d.URL == "https://api.github.com" {
			root = "https://github.com"
		}
		return root + "/" + d.Repository + "/actions/workflows/" + cmp.Or(d.Workflow, "training.yml")
	}
	return ""
}
