package kube

import (
	"regexp"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// Refusal is why a cluster did not do what it was asked.
type Refusal struct {
	// Kind is one of the kinds of refusal.
	Kind RefusalKind
	// Text is what the cluster said.
	Text string
}

// RefusalKind says what has to change for a request to be granted.
type RefusalKind string

// The kinds of refusal.
const (
	// Unreachable means that there was no answer.
	Unreachable RefusalKind = "unreachable"
	// Unauthorized means that the cluster does not accept the kubeconfig, or the kubeconfig not the cluster.
	Unauthorized RefusalKind = "unauthorized"
	// Forbidden means that the kubeconfig's user may not do it.
	Forbidden RefusalKind = "forbidden"
	// Quota means that the namespace has no more left of something.
	Quota RefusalKind = "quota"
	// NoNamespace means that the namespace does not exist.
	NoNamespace RefusalKind = "no namespace"
	// Conflict means that somebody else changed the object.
	Conflict RefusalKind = "conflict"
	// Rejected means that the cluster does not take the object as it is written.
	Rejected RefusalKind = "rejected"
	// Other is everything else.
	Other RefusalKind = "other"
)

func (r *Refusal) Error() string {
	switch r.Kind {
	case Unreachable:
		return "the cluster can't be reached: " + r.Text + ": check that it is up, and the address in the kubeconfig"
	case Unauthorized:
		return "the kubeconfig does not fit the cluster: it has expired, or is another cluster's: " + r.Text
	case Forbidden:
		return "the kubeconfig's user may not do this: grant it with a Role and a RoleBinding: " + r.Text
	case Quota:
		return "the namespace's quota is used up: raise it, or ask for less: " + r.Text
	case NoNamespace:
		return r.Text + ": create it with kubectl create namespace, or add a Namespace to the manifests"
	case Rejected:
		return "the cluster rejects it: " + r.Text
	default:
		return r.Text
	}
}

// Verdict says who is at fault: what the cluster rejects stands in the source, everything else does not.
func (r *Refusal) Verdict() graph.Verdict {
	if r.Kind == Rejected {
		return graph.Failed
	}
	return graph.Errored
}

// refusal is how a kind of refusal shows.
type refusal struct {
	kind    RefusalKind
	pattern *regexp.Regexp
}

var refusals = []refusal{
	{Unauthorized, regexp.MustCompile(`(?i)\bUnauthorized\b|must be logged in|the server has asked for the client to provide credentials|x509:|certificate (?:has expired|signed by unknown)|tls: |invalid configuration|error loading config|no configuration has been provided|couldn't get version/kind; json parse error|current-context|context was not found|illegal base64|unable to load root certificates|private key`)},
	{Unreachable, regexp.MustCompile(`(?i)connection refused|no route to host|i/o timeout|no such host|network is unreachable|TLS handshake timeout|unexpected EOF|: EOF|connection reset|broken pipe|context deadline exceeded|ServiceUnavailable|currently unable to handle|etcdserver:|InternalError.*(?:timeout|refused)|server is starting|http2: client connection lost|server was unable to return a response in the time`)},
	{Quota, overQuota},
	{NoNamespace, regexp.MustCompile(`namespaces "[^"]*" not found`)},
	{Forbidden, regexp.MustCompile(`(?i)cannot (?:get|list|create|patch|update|delete|watch) resource|User "[^"]*" cannot`)},
	{Conflict, regexp.MustCompile(`(?i)\(Conflict\)|the object has been modified|AlreadyExists|Apply failed with \d+ conflict`)},
	{Rejected, regexp.MustCompile(`(?i)\(Invalid\)|is invalid|\(BadRequest\)|admission webhook|no matches for kind|strict decoding error|violates PodSecurity|is forbidden|field is immutable|failed to create typed patch|unable to recognize|\(NotFound\)|ensure CRDs are installed|the server could not find the requested resource|error validating|cannot be handled as a`)},
}

var overQuota = regexp.MustCompile(`(?i)exceeded quota|maximum (?:cpu|memory) usage per`)

// explain turns what kubectl said to its standard error into a *[Refusal]. One that may pass is marked for graph.Retry.
func explain(stderr string) error {
	r := &Refusal{Kind: Other, Text: plain(stderr)}
	for _, known := range refusals {
		if known.pattern.MatchString(stderr) {
			r.Kind = known.kind
			break
		}
	}
	if r.Kind == Unreachable {
		return graph.Transient(r)
	}
	return r
}

var (
	logPrefix  = regexp.MustCompile(`^[EWI]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ \S+\] `)
	fromServer = regexp.MustCompile(`^(?:error: |Error from server(?: \(\w+\))?: )`)
	whenDoing  = regexp.MustCompile(`^error when \w+(?: "[^"]*")?: `)
	input      = regexp.MustCompile(`"?` + regexp.QuoteMeta(inputPath) + `"?:? ?`)
)

// plain cuts kubectl's messages down to what they say, each once, with the warnings last if there is nothing else.
func plain(stderr string) string {
	var lines, warnings []string
	seen := map[string]bool{}
	for line := range strings.SplitSeq(stderr, "\n") {
		line = strings.TrimSpace(line)
		if logPrefix.MatchString(line) {
			continue // the libraries' own log says the same as the message at the end
		}
		line = fromServer.ReplaceAllString(line, "")
		line = whenDoing.ReplaceAllString(line, "")
		line = input.ReplaceAllString(line, "")
		switch {
		case line == "" || seen[line]:
			continue
		case strings.HasPrefix(line, "Warning:"):
			warnings = append(warnings, line)
		default:
			lines = append(lines, line)
		}
		seen[line] = true
	}
	if len(lines) == 0 {
		lines = warnings
	}
	if len(lines) == 0 {
		return "kubectl ended without saying why"
	}
	const most = 8
	if len(lines) > most {
		lines = append(lines[:most], "…")
	}
	return strings.Join(lines, "\n")
}
