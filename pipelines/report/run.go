package report

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// RunSchema names the format of a run record. A change that breaks its readers gets a new name.
const RunSchema = "millrace/run/v1"

// maxDetail bounds, in bytes, an error's text and a stack in a run record.
const maxDetail = 64 << 10

//go:embed run.schema.json
var runSchema []byte

// RunJSONSchema returns the JSON schema (draft 2020-12) of run.json.
func RunJSONSchema() []byte { return bytes.Clone(runSchema) }

// Run is the record of one run of a graph; run.json is its JSON form.
type Run struct {
	// Schema is [RunSchema].
	Schema string `json:"schema"`
	// Graph is the graph's name, for example "ci-cd".
	Graph string `json:"graph"`
	// Asked is what was asked for, where that is not the whole graph, for example "deploy staging".
	Asked string `json:"asked,omitempty"`
	// Verdict is the whole run's.
	Verdict graph.Verdict `json:"verdict"`
	// Started is when the run began.
	Started time.Time `json:"started"`
	// Seconds is how long the run took, to the millisecond.
	Seconds float64 `json:"seconds"`
	// Ref is what the run was about.
	Ref Ref `json:"ref"`
	// Source identifies the content that was worked on; two runs with the same one had the same source. Empty if not known.
	Source string `json:"source,omitempty"`
	// Engine is what the steps ran on.
	Engine Engine `json:"engine"`
	// Nodes are in the order of the graph.
	Nodes []Node `json:"nodes"`
	// Error is what went wrong with the run itself rather than with a node, at most 64 KiB.
	Error string `json:"error,omitempty"`
}

// Ref is the source that a run was about, and why it ran. What is not known is left empty.
type Ref struct {
	// Event is what set the run off: push, pull_request, tag, schedule or manual.
	Event string `json:"event,omitempty"`
	// Branch and Tag are names without a refs/ prefix.
	Branch string `json:"branch,omitempty"`
	Tag    string `json:"tag,omitempty"`
	// PullRequest is the pull or merge request's number.
	PullRequest int `json:"pullRequest,omitempty"`
	// SHA is the commit's full name.
	SHA string `json:"sha,omitempty"`
	// Repository is the repository's name on its host, for example "acme/scores".
	Repository string `json:"repository,omitempty"`
	// Author is who wrote the commit.
	Author string `json:"author,omitempty"`
	// URL leads to the run, or else to the commit, on the CI host.
	URL string `json:"url,omitempty"`
}

// String describes r in one line for a person: "push to main at 1a2b3c4 by Ada".
func (r Ref) String() string {
	var parts []string
	add := func(format, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf(format, oneLine(value)))
		}
	}
	event := strings.ReplaceAll(r.Event, "_", " ")
	switch {
	case r.PullRequest > 0:
		parts = append(parts, fmt.Sprintf("pull request %d", r.PullRequest))
		add("from %s", r.Branch)
	case r.Tag != "":
		add("tag %s", r.Tag)
	case r.Event == "push":
		add("push to %s", r.Branch)
		if r.Branch == "" {
			parts = append(parts, "push")
		}
	default:
		add("%s run", event)
		add("on %s", r.Branch)
	}
	add("at %s", short(r.SHA))
	add("by %s", r.Author)
	return strings.Join(parts, " ")
}

// short cuts a commit's name to the seven characters that people use.
func short(sha string) string {
	if len(sha) > 7 {
		return sha[:7]
	}
	return sha
}

// Engine is what a run's steps ran on. It holds no address, because records are shown to anybody.
type Engine struct {
	// Kind is how the engine was found: session, runner, runtime or embedded.
	Kind string `json:"kind,omitempty"`
	// Version is the engine's, for example "v0.19.10".
	Version string `json:"version,omitempty"`
}

// Node is the record of one node of the graph.
type Node struct {
	Name    string        `json:"name"`
	Verdict graph.Verdict `json:"verdict"`
	// Reason says in one line why the verdict is what it is; empty when passed.
	Reason string `json:"reason"`
	// Started is nil when the node never ran.
	Started *time.Time `json:"started"`
	// Seconds is how long the node took with all its attempts, to the millisecond.
	Seconds float64 `json:"seconds"`
	// Attempts is how often the step was tried; 0 when the node never ran.
	Attempts int `json:"attempts"`
	// Metrics are the step's named figures; never nil in a record made by [NewRun].
	Metrics map[string]float64 `json:"metrics"`
	// Findings is the number of findings.
	Findings int `json:"findings"`
	// Reports is the folder of the step's files, slash-separated and relative to run.json; empty without any.
	Reports string `json:"reports"`

	// Error is the whole text of the error that the step returned, at most 64 KiB.
	Error string `json:"error,omitempty"`
	// Stack is where the step panicked, at most 64 KiB.
	Stack string `json:"stack,omitempty"`
	// Tools maps the name of each tool that ran to its version.
	Tools map[string]string `json:"tools,omitempty"`
	// Artifacts are what the step made and put somewhere, for example images.
	Artifacts []Artifact `json:"artifacts,omitempty"`

	// Details are the findings themselves. They are not part of run.json, which has their number:
	// a run may have thousands, and [WriteSARIF] is the form that tools read.
	Details []Finding `json:"-"`
	// Output is the end of what the tools printed; not part of run.json.
	Output string `json:"-"`
}

// Artifact is a thing that a step made and put somewhere.
type Artifact struct {
	// Name is what the project calls it, for example "api".
	Name string `json:"name"`
	// Reference is where it lies, for example an image reference with its tag.
	Reference string `json:"reference,omitempty"`
	// Digest identifies its content, for example "sha256:…".
	Digest string `json:"digest,omitempty"`
}

// Pinned returns the reference with the digest, which names this very content: "registry.example.com/api:main@sha256:…".
func (a Artifact) Pinned() string {
	if a.Reference == "" || a.Digest == "" || strings.Contains(a.Reference, "@") {
		return cmp.Or(a.Reference, a.Digest)
	}
	return a.Reference + "@" + a.Digest
}

// NodeReport is what a step's result has to say beyond its verdict and reason.
type NodeReport struct {
	Metrics   map[string]float64
	Findings  []Finding
	Tools     map[string]string
	Artifacts []Artifact
	// Output is the end of what the tools printed.
	Output string
	// HasReports says that the step left files, which lie or will lie in [ReportsPath] of its node.
	HasReports bool
}

// Source is a step's result that can be reported on. A node whose value is none is recorded by its verdict alone.
type Source interface {
	Report() NodeReport
}

// NewRun makes the record of a run out of the graph's result.
// Metrics that are not finite numbers are left out: JSON has no form for them.
func NewRun(result *graph.Result, ref Ref, engine Engine) Run {
	run := Run{
		Schema:  RunSchema,
		Graph:   result.Graph,
		Verdict: result.Verdict,
		Started: result.Started,
		Seconds: seconds(result.Duration),
		Ref:     ref,
		Engine:  engine,
		Nodes:   make([]Node, 0, len(result.Nodes)),
	}
	if result.Err != nil {
		run.Error = head(result.Err.Error(), maxDetail)
	}
	for _, record := range result.Nodes {
		run.Nodes = append(run.Nodes, newNode(record))
	}
	return run
}

func newNode(record graph.Record) Node {
	node := Node{
		Name:     record.Name,
		Verdict:  record.Verdict,
		Reason:   oneLine(record.Reason),
		Seconds:  seconds(record.Duration),
		Attempts: record.Attempts,
		Metrics:  map[string]float64{},
		Stack:    head(record.Stack, maxDetail),
	}
	if !record.Started.IsZero() {
		started := record.Started
		node.Started = &started
	}
	if record.Err != nil {
		node.Error = head(record.Err.Error(), maxDetail)
	}
	source, ok := record.Value.(Source)
	if !ok {
		return node
	}
	said := source.Report()
	for name, value := range said.Metrics {
		if !math.IsNaN(value) && !math.IsInf(value, 0) {
			node.Metrics[name] = value
		}
	}
	node.Details = slices.Clone(said.Findings)
	SortFindings(node.Details)
	node.Findings = len(node.Details)
	node.Tools = maps.Clone(said.Tools)
	node.Artifacts = slices.Clone(said.Artifacts)
	node.Output = said.Output
	if said.HasReports {
		node.Reports = ReportsPath(record.Name)
	}
	return node
}

// ReportsPath returns the folder for the files of the node of that name, slash-separated and relative to run.json.
// Two names never share a folder, also where a file system ignores case, and no name leads out of "reports/".
func ReportsPath(node string) string {
	const longest = 80
	plain := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-', r == '_':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, node)
	if plain == node && plain != "" && len(plain) <= longest {
		return "reports/" + plain
	}
	sum := sha256.Sum256([]byte(node))
	// A dot stands in no plain name, so what is made up can't collide with a node that is called so.
	return "reports/" + head(plain, longest) + "." + hex.EncodeToString(sum[:6])
}

// Title is what a summary calls the run: what was asked for, else the graph.
func (r Run) Title() string { return cmp.Or(r.Asked, r.Graph) }

// Causes returns the nodes that kept the run from passing of themselves: first those that failed or errored,
// then those that were inconclusive, each in the order in which they ended. What was skipped or cancelled is no cause.
// An error of the run itself comes before them all, as an errored node in the name of the graph.
func (r Run) Causes() []Node {
	var causes []Node
	for _, n := range r.Nodes {
		if n.Verdict == graph.Failed || n.Verdict == graph.Errored || n.Verdict == graph.Inconclusive {
			causes = append(causes, n)
		}
	}
	rank := func(n Node) int {
		if n.Verdict == graph.Inconclusive {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(causes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), r.ended(a).Compare(r.ended(b)))
	})
	if r.Error != "" {
		causes = slices.Insert(causes, 0, Node{
			Name: r.Graph, Verdict: graph.Errored, Reason: oneLine(r.Error), Error: r.Error,
		})
	}
	return causes
}

// ended is when a node ended; one that never ran counts from the run's start.
func (r Run) ended(n Node) time.Time {
	started := r.Started
	if n.Started != nil {
		started = *n.Started
	}
	return started.Add(time.Duration(n.Seconds * float64(time.Second)))
}

// Node returns the record of the node of that name.
func (r Run) Node(name string) (Node, bool) {
	i := slices.IndexFunc(r.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return r.Nodes[i], true
}

// Findings returns the findings of all nodes, in the order of [SortFindings].
func (r Run) Findings() []Finding {
	var all []Finding
	for _, n := range r.Nodes {
		all = append(all, n.Details...)
	}
	SortFindings(all)
	return all
}

// Tools returns the versions of all tools that ran.
func (r Run) Tools() map[string]string {
	tools := map[string]string{}
	for _, n := range r.Nodes {
		maps.Copy(tools, n.Tools)
	}
	return tools
}

// Encode returns r as the content of run.json.
func (r Run) Encode() ([]byte, error) {
	if r.Nodes == nil {
		r.Nodes = []Node{}
	}
	nodes := make([]Node, len(r.Nodes))
	for i, n := range r.Nodes {
		if n.Metrics == nil {
			n.Metrics = map[string]float64{}
		}
		nodes[i] = n
	}
	r.Nodes = nodes
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode run record: %w", err)
	}
	return b.Bytes(), nil
}

// DecodeRun reads the content of run.json. Fields that it doesn't know are passed over, because v1 may gain some;
// another schema, an unknown verdict, a record without nodes and anything after the record are errors.
func DecodeRun(data []byte) (Run, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var run Run
	if err := dec.Decode(&run); err != nil {
		if errors.Is(err, io.EOF) {
			return Run{}, fmt.Errorf("read run record: %w", ErrEmpty)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Run{}, fmt.Errorf("read run record: %w", ErrTruncated)
		}
		return Run{}, fmt.Errorf("read run record: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Run{}, fmt.Errorf("read run record: there is more in the file after the record")
	}
	if run.Schema != RunSchema {
		return Run{}, fmt.Errorf("read run record: its schema is %q, and only %q can be read", run.Schema, RunSchema)
	}
	if !run.Verdict.Valid() {
		return Run{}, fmt.Errorf("read run record: it has no verdict")
	}
	if run.Nodes == nil {
		return Run{}, fmt.Errorf("read run record: it has no nodes")
	}
	for i, n := range run.Nodes {
		if n.Name == "" || !n.Verdict.Valid() {
			return Run{}, fmt.Errorf("read run record: node %d lacks a name or a verdict", i)
		}
	}
	return run, nil
}

// seconds rounds to the millisecond: more digits are noise, and make records hard to read.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// head returns the first n bytes of s, cut at a character's border.
func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// tail returns the last n lines of s, and whether any were left out.
func tail(s string, n int) (string, bool) {
	s = strings.TrimRight(s, "\n")
	lines := strings.Split(s, "\n")
	if len(lines) <= n {
		return s, false
	}
	return strings.Join(lines[len(lines)-n:], "\n"), true
}
