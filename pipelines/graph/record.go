package graph

import (
	"cmp"
	"slices"
	"time"
)

// Record says how one node ended.
type Record struct {
	// Name is the node's name.
	Name string
	// Verdict is how the node ended; in the events Started and Retrying it is empty.
	Verdict Verdict
	// Reason says in one line why the verdict is what it is. It may be empty when passed.
	Reason string
	// Err is the step's error; nil unless the node is errored or cancelled.
	Err error
	// Stack is the stack of a step that panicked.
	Stack string
	// Started is when the step started; zero when it never did.
	Started time.Time
	// Duration is the time from the start to the end, over all attempts and the waits between them.
	Duration time.Duration
	// Attempts counts how often the step was run; 0 when it never was.
	Attempts int
	// Value is what the step returned; nil if it never ran, or returned an error and nothing else.
	Value any

	// order counts the nodes in the order in which they ended, from 1.
	order int
}

// Result says how a run ended.
type Result struct {
	// Graph is the graph's name.
	Graph string
	// Verdict is the worst of the nodes' verdicts. A run that its context stopped is cancelled, unless a node failed or errored.
	Verdict Verdict
	// Started is when the run started.
	Started time.Time
	// Duration is the time from the start of the run to the end of its last node.
	Duration time.Duration
	// Nodes are in the order of Add.
	Nodes []Record
	// Err is set, and the verdict errored, when the run itself went wrong rather than a node: [Graph.Check] found a
	// mistake and so nothing ran, or an observer panicked.
	Err error
}

// Node returns the record of the node of that name.
func (r *Result) Node(name string) (Record, bool) {
	i := slices.IndexFunc(r.Nodes, func(n Record) bool { return n.Name == name })
	if i < 0 {
		return Record{}, false
	}
	return r.Nodes[i], true
}

// Cause returns the nodes that failed or errored of themselves, the first to do so first.
// An error of the run itself comes before them, as a record in the name of the graph.
func (r *Result) Cause() []Record {
	var causes []Record
	for _, n := range r.Nodes {
		if n.Verdict == Failed || n.Verdict == Errored {
			causes = append(causes, n)
		}
	}
	slices.SortStableFunc(causes, func(a, b Record) int { return cmp.Compare(a.order, b.order) })
	if r.Err != nil {
		causes = slices.Insert(causes, 0, Record{
			Name: r.Graph, Verdict: Errored, Reason: firstLine(r.Err), Err: r.Err, Started: r.Started,
		})
	}
	return causes
}

// EventKind says what has happened to a node.
type EventKind string

// The kinds of events. A node that never starts has only the last.
const (
	// Started means that the node's step starts.
	Started EventKind = "started"
	// Retrying means that an attempt ended with a transient error, which the record holds, and another will follow.
	Retrying EventKind = "retrying"
	// Ended means that the node has its verdict. Every node has exactly one such event.
	Ended EventKind = "ended"
)

// Event is something that has happened to a node during a run.
type Event struct {
	// Node is the node's name.
	Node string
	// Kind is what happened.
	Kind EventKind
	// Record is what is known of the node by then.
	Record Record
}
