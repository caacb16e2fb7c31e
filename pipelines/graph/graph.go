package graph

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
)

// Graph is a set of nodes and the order between them.
// It is built by one goroutine with [Add], and not changed once it runs.
type Graph struct {
	name  string
	nodes []*node
	// lasts counts the [Last] nodes, which stand at the end of nodes.
	lasts int
	// wrong are the mistakes made while building, which Check reports.
	wrong []error

	running sync.Mutex
	last    atomic.Pointer[run]
}

// New returns an empty graph. The name is what plans, spans and reports call it.
func New(name string) *Graph { return &Graph{name: name} }

// Name returns the graph's name.
func (g *Graph) Name() string { return g.name }

// Node is a step in a graph whose run ends in a value of type T.
type Node[T any] struct{ n *node }

// Handle is a node of whatever type, as an edge names it. Only a [Node] is one.
type Handle interface {
	// Name returns the node's name.
	Name() string
	ref() *node
}

// node is what the runner and the plan know of a step.
type node struct {
	spec
	graph *Graph
	index int
	name  string
	run   func(context.Context) (value any, err error)

	// needs and after hold each dependency once; one that is both is in needs.
	needs, after []*node
	// dependents are the nodes that have this one in needs or after.
	dependents []*node
	// seenBy is the newest node that named this one, so that naming it twice is noticed without a set.
	seenBy *node
}

// Add adds a step to g and returns its handle.
//
// The step runs at most once a [Graph.Run], unless [Retry] says otherwise, and must return soon after its context is
// cancelled; see [Grace]. The context ends with the step, so nothing that the step leaves behind may depend on it.
// When it returns an error the node is errored, or cancelled where its context was; when its value is [Judged],
// the value says how the node ended; else the node has passed. A step that returns without an error is believed to have
// done its work, also when its context was cancelled meanwhile.
//
// A mistake in the arguments (an empty or a duplicate name, a nil step, the handle of another graph) is no panic here:
// [Graph.Check] reports it, and Run runs nothing.
func Add[T any](g *Graph, name string, run func(context.Context) (T, error), opts ...Option) *Node[T] {
	n := &node{graph: g, name: name}
	if run == nil {
		g.wrong = append(g.wrong, fmt.Errorf("node %q has no step to run: pass a function to Add", name))
	} else {
		n.run = func(ctx context.Context) (any, error) {
			v, err := run(ctx)
			if err != nil && reflect.ValueOf(&v).Elem().IsZero() {
				return nil, err
			}
			return v, err
		}
	}
	for _, o := range opts {
		if o != nil {
			o(&n.spec)
		}
	}
	n.link()
	g.insert(n)
	return &Node[T]{n}
}

// insert puts n in its place: in the order of Add, but before the Last nodes, which come after it.
func (g *Graph) insert(n *node) {
	first := len(g.nodes) - g.lasts
	if n.last {
		for _, d := range g.nodes[:first] {
			n.comesAfter(d)
		}
		n.index = len(g.nodes)
		g.nodes = append(g.nodes, n)
		g.lasts++
		return
	}
	n.index = first
	g.nodes = slices.Insert(g.nodes, first, n)
	for _, l := range g.nodes[first+1:] {
		l.index++
		l.comesAfter(n)
	}
}

// comesAfter adds an edge to d, unless n has one.
func (n *node) comesAfter(d *node) {
	if d.seenBy != n {
		d.seenBy = n
		d.dependents = append(d.dependents, n)
		n.after = append(n.after, d)
	}
}

// link turns the handles that the options gave into edges.
func (n *node) link() {
	n.needs = n.edges("Needs", n.needHandles)
	n.after = n.edges("After", n.afterHandles)
	n.needHandles, n.afterHandles = nil, nil
}

func (n *node) edges(option string, handles []Handle) []*node {
	edges := make([]*node, 0, len(handles))
	for _, h := range handles {
		d, err := deref(h)
		switch {
		case err == nil && d.graph != n.graph:
			err = fmt.Errorf("it belongs to graph %q", d.graph.name)
			fallthrough
		case err == nil && d.last && !n.last:
			if err == nil {
				err = fmt.Errorf("node %q runs last, after this one: make this one Last too", d.name)
			}
			fallthrough
		case err != nil:
			n.graph.wrong = append(n.graph.wrong, fmt.Errorf("node %q: wrong handle in %s: %w", n.name, option, err))
		case d.seenBy != n:
			d.seenBy = n
			d.dependents = append(d.dependents, n)
			edges = append(edges, d)
		}
	}
	return edges
}

// deref returns the node behind a handle.
func deref(h Handle) (*node, error) {
	if h != nil {
		if d := h.ref(); d != nil {
			return d, nil
		}
	}
	return nil, errors.New("it is nil; use what Add returned")
}

func (n *Node[T]) ref() *node {
	if n == nil {
		return nil
	}
	return n.n
}

// Name returns the node's name.
func (n *Node[T]) Name() string { return n.n.name }

// Value returns what the node's step returned.
//
// It is for steps that declare the edge with [Needs], and for the caller once [Graph.Run] has returned a passed record
// for the node. Read by anyone else it panics, and the message says what to add; in a step, that panic ends as errored.
//
// Go does not say which goroutine asks, so the rule that is kept is: the node has passed, and while the graph runs, some
// running step declares that it needs this node.
func (n *Node[T]) Value() T {
	// A nil value of an interface type T holds no T: hence the two-valued assertion.
	v, _ := n.n.value().(T)
	return v
}

func (n *node) value() any {
	r := n.graph.last.Load()
	if r == nil {
		panic(fmt.Errorf("the value of node %q was read before graph %q ran", n.name, n.graph.name))
	}
	return r.values.read(n)
}
