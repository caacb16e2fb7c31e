// Package notify tells people, and other programs, how a run went: in Slack, by a webhook, and by e-mail.
//
// A message is a value, made of a run's record by [Of]. Sending happens in this process and not in a container: a message
// that the engine is gone must still go out. A message that can't be sent never changes the verdict of the run.
package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// Event is a kind of news, by which targets choose what they are told.
type Event string

// The events. A message may be of several, or of none.
const (
	// Failure means that the run failed, errored, or was inconclusive.
	Failure Event = "failure"
	// Success means that the run passed.
	Success Event = "success"
	// Recovered means that the run passed, and the one before it had not.
	Recovered Event = "recovered"
	// Deploy means that something was deployed to an environment, or should have been.
	Deploy Event = "deploy"
	// Drift means that data or predictions have drifted critically.
	Drift Event = "drift"
	// Training means that models were registered, that a gate kept one back, or that a training failed.
	Training Event = "training"
)

// Events lists all events.
var Events = []Event{Failure, Success, Recovered, Deploy, Drift, Training}

// MessageSchema names the JSON form of a message. A change that breaks its readers gets a new name.
const MessageSchema = "millrace/message/v1"

// Message says what happened, where, to which commit of whom, how it ended, why, and where to read on.
// What is not known is left empty. The JSON form is what webhooks get; see [MessageJSONSchema].
type Message struct {
	// Schema is [MessageSchema].
	Schema string `json:"schema"`
	// ID is the same for every message about the same run, so that receivers can tell a second one.
	ID string `json:"id"`
	// Events are what the message is news of.
	Events []Event `json:"events"`
	// Title says it all in one line: "deploy to production failed: acme/scores, main".
	Title string `json:"title"`
	// Verdict is the run's.
	Verdict graph.Verdict `json:"verdict"`
	// What says in one line what happened: "smoke failed: GET /health answered 503".
	What string `json:"what"`
	// Where is the environment, for example "production".
	Where string `json:"where,omitempty"`
	// Graph is what ran, for example "ci-cd".
	Graph string `json:"graph"`
	// Repository is the repository's name on its host.
	Repository string `json:"repository,omitempty"`
	// Ref is the branch, the tag or the pull request.
	Ref string `json:"ref,omitempty"`
	// Commit is the commit's full name, Subject the first line of its message, and Author who wrote it.
	Commit  string `json:"commit,omitempty"`
	Subject string `json:"subject,omitempty"`
	Author  string `json:"author,omitempty"`
	// Causes are the nodes that kept the run from passing, what came first before the rest.
	Causes []Cause `json:"causes,omitempty"`
	// Link leads to the run, or else to the repository, on the CI host.
	Link string `json:"link,omitempty"`
	// Facts are what else is worth knowing, for example the images by digest.
	Facts []Fact `json:"facts,omitempty"`
	// Time is when the run ended, and Seconds how long it took.
	Time    time.Time `json:"time"`
	Seconds float64   `json:"seconds"`

	branch string
}

// Cause is a node that kept the run from passing.
type Cause struct {
	Node    string        `json:"node"`
	Verdict graph.Verdict `json:"verdict"`
	Reason  string        `json:"reason,omitempty"`
	// Detail is the worst findings, or the end of the error or the output; a few lines.
	Detail string `json:"detail,omitempty"`
}

// Fact is a named value.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// The names by which [Of] knows what nodes do.
const (
	deployNode    = "deploy-"
	driftGraph    = "drift"
	trainingGraph = "training"
)

// Bounds of a message, so that it stays one whatever the run holds.
const (
	maxCauses   = 3
	maxFacts    = 10
	detailLines = 10
)

// Of makes the message about a run. It is a pure function of the record.
//
// A node "deploy-ENVIRONMENT" that has run makes it news of a deploy. In a graph "drift", a critical finding makes it news
// of drift; a graph "training" that has run is news of training.
func Of(run report.Run) Message {
	m := Message{
		Schema: MessageSchema, Verdict: run.Verdict, Graph: run.Graph,
		Repository: run.Ref.Repository, Ref: refName(run.Ref), Commit: run.Ref.SHA, Author: run.Ref.Author, Link: run.Ref.URL,
		Time:    run.Started.Add(time.Duration(run.Seconds * float64(time.Second))).UTC(),
		Seconds: run.Seconds,
		branch:  run.Ref.Branch,
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d", run.Graph, run.Ref.Repository, run.Ref.SHA, run.Started.UnixNano()))
	m.ID = "msg_" + hex.EncodeToString(sum[:12])
	var others []string
	for _, n := range run.Causes() {
		if len(m.Causes) == maxCauses {
			others = append(others, n.Name+" "+string(n.Verdict))
			continue
		}
		m.Causes = append(m.Causes, Cause{
			Node: n.Name, Verdict: n.Verdict, Reason: n.Reason, Detail: strings.Join(n.Explain(detailLines), "\n"),
		})
	}
	if len(others) > 0 {
		m.Facts = append(m.Facts, Fact{Name: "Also", Value: strings.Join(others, ", ")})
	}
	bad := slices.Contains([]graph.Verdict{graph.Failed, graph.Errored, graph.Inconclusive}, run.Verdict)
	if bad {
		m.Events = append(m.Events, Failure)
	} else if run.Verdict == graph.Passed {
		m.Events = append(m.Events, Success)
	}
	subject := run.Graph + " " + string(run.Verdict)
	for _, n := range run.Nodes {
		if environment, ok := strings.CutPrefix(n.Name, deployNode); ok && n.Started != nil && n.Verdict != graph.Skipped {
			m.Where = environment
		}
		for _, a := range n.Artifacts {
			if len(m.Facts) < maxFacts {
				m.Facts = append(m.Facts, Fact{Name: a.Name, Value: a.Pinned()})
			}
		}
	}
	switch {
	case m.Where != "":
		m.Events = append(m.Events, Deploy)
		subject = "deployed to " + m.Where
		if run.Verdict != graph.Passed {
			subject = fmt.Sprintf("deploy to %s %s", m.Where, run.Verdict)
		}
	case run.Graph == driftGraph && slices.ContainsFunc(run.Findings(), func(f report.Finding) bool { return f.Severity == report.Critical }):
		m.Events = append(m.Events, Drift)
		subject = "critical drift"
	case run.Graph == trainingGraph && (bad || len(m.Facts) > 0):
		m.Events = append(m.Events, Training)
	}
	m.Title = subject + about(m)
	m.What = m.what(run)
	return m
}

// what says in one line what happened.
func (m Message) what(run report.Run) string {
	if len(m.Causes) > 0 {
		c := m.Causes[0]
		return fmt.Sprintf("%s %s: %s", c.Node, c.Verdict, cmp.Or(c.Reason, "no reason was given"))
	}
	if slices.Contains(m.Events, Drift) {
		for _, f := range run.Findings() {
			if f.Severity == report.Critical {
				return f.Message
			}
		}
	}
	return fmt.Sprintf("%s %s in %s", run.Graph, run.Verdict, report.FormatSeconds(run.Seconds))
}

// about names what a message is about, as the end of a title.
func about(m Message) string {
	if names := slices.DeleteFunc([]string{m.Repository, m.Ref}, func(s string) bool { return s == "" }); len(names) > 0 {
		return ": " + strings.Join(names, ", ")
	}
	return ""
}

func refName(r report.Ref) string {
	switch {
	case r.PullRequest > 0:
		return fmt.Sprintf("pull request %d", r.PullRequest)
	default:
		return cmp.Or(r.Tag, r.Branch)
	}
}

// After makes the message news of a recovery, if the run before it did not pass and this one did.
func (m Message) After(previous report.Run) Message {
	same := previous.Graph == m.Graph && previous.Ref.Repository == m.Repository && refName(previous.Ref) == m.Ref
	before := previous.Verdict
	if !same || m.Verdict != graph.Passed || before == graph.Passed || before == graph.Skipped || before == graph.Cancelled {
		return m
	}
	m.Events = append(slices.Clone(m.Events), Recovered)
	m.Facts = append([]Fact{{Name: "Before", Value: fmt.Sprintf("%s %s", previous.Graph, before)}}, m.Facts...)
	if m.Where == "" {
		m.Title = m.Graph + " passes again" + about(m)
	}
	return m
}

// Try is a message that says no more than that messages arrive.
func Try(ref report.Ref, now time.Time) Message {
	m := Of(report.Run{Graph: "notify", Verdict: graph.Passed, Started: now, Ref: ref})
	m.Events = nil
	m.Title = "this is a test" + about(m)
	m.What = "Messages about pipelines arrive here."
	return m
}
