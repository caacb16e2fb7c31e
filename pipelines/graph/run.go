package graph

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
)

// Run runs the graph and returns how it ended, once every node has its verdict.
//
// Cancelling ctx cancels the running steps and starts no others but [Always] nodes, for which Run still waits.
// Run returns with no goroutine of its own left, save those of steps that ignore their cancellation; see [Grace].
//
// When [Graph.Check] finds a mistake, nothing runs: every node is skipped, and the result is errored, with Err set.
// A graph runs once at a time: Run waits for another run of the same graph to end. Build the graph again to run it twice
// side by side.
func (g *Graph) Run(ctx context.Context, opts ...RunOption) *Result {
	s := settingsOf(opts)
	if err := g.check(s); err != nil {
		return g.refuse(err)
	}
	if ctx.Value(runningKey{g}) != nil {
		return g.refuse(fmt.Errorf("graph %q is run by one of its own steps: a step may only run another graph", g.name))
	}
	g.running.Lock()
	defer g.running.Unlock()

	r := newRun(ctx, g, s)
	g.last.Store(r)
	r.loop()
	return r.result()
}

// runningKey marks the contexts of the steps of a graph.
type runningKey struct{ *Graph }

// refuse returns the result of a run that was not begun.
func (g *Graph) refuse(err error) *Result {
	result := &Result{Graph: g.name, Verdict: Errored, Started: time.Now(), Err: err}
	for _, n := range g.nodes {
		result.Nodes = append(result.Nodes, Record{
			Name: n.name, Verdict: Skipped, Reason: "nothing ran: " + firstLine(err),
		})
	}
	return result
}

// run is one run of a graph. All of it belongs to the goroutine that called Run, save the mailbox and values.
type run struct {
	settings
	graph   *Graph
	tracer  trace.Tracer
	span    trace.Span
	started time.Time

	// ctx is the caller's, with the graph's span; live ends with it or when the run is stopped; lasting with neither.
	ctx, live, lasting context.Context
	stop               context.CancelCauseFunc

	box    *mailbox
	values values
	states []state
	skips  []skip

	// decidable are the nodes all of whose dependencies have ended.
	decidable []*node
	// ready are the nodes that only wait for a free place. Those that hold a lock are among them.
	ready queue
	// lines are the nodes that wait for a lock, by its name. The first of each has the lock, or waits for it.
	lines map[string]*queue

	running int // steps that the run waits for
	left    int // nodes without a verdict
	ended   int

	// halted says why nothing new may start; empty while it may.
	halted      string
	interrupted bool
	graceOver   *time.Timer
	err         error
}

// state is what the run knows of a node.
type state struct {
	record Record
	phase  phase
	// pending counts the dependencies that have not ended.
	pending int
	// blocks says why nodes after this one are held back, such as "lint failed"; empty if they aren't.
	blocks string
	// inherited says that the node was skipped because one that it needs was.
	inherited bool
	locked    bool
	ctx       context.Context
	cancel    context.CancelFunc
	late      *timeoutError
	overdue   *time.Timer
	span      trace.Span
}

type phase uint8

const (
	waiting phase = iota
	queued        // for a lock or for a free place
	running
	over
)

func newRun(ctx context.Context, g *Graph, s settings) *run {
	r := &run{
		settings: s,
		graph:    g,
		tracer:   otel.Tracer(tracerName),
		started:  time.Now(),
		box:      newMailbox(),
		states:   make([]state, len(g.nodes)),
		skips:    s.skips(g.nodes),
		lines:    make(map[string]*queue),
		left:     len(g.nodes),
	}
	r.values.init(len(g.nodes))
	r.ctx, r.span = r.tracer.Start(context.WithValue(ctx, runningKey{g}, true), g.name)
	r.live, r.stop = context.WithCancelCause(r.ctx)
	r.lasting = context.WithoutCancel(r.ctx)
	for _, n := range g.nodes {
		st := &r.states[n.index]
		st.record.Name = n.name
		if st.pending = len(n.needs) + len(n.after); st.pending == 0 {
			r.decidable = append(r.decidable, n)
		}
	}
	return r
}

// loop runs until every node has its verdict.
func (r *run) loop() {
	var messages []message
	for {
		r.heed()
		r.advance()
		if r.left == 0 {
			break
		}
		interrupt := r.ctx.Done()
		if r.halted != "" {
			interrupt = nil // it has been heeded, or makes no difference any more
		}
		select {
		case <-r.box.wake:
		case <-interrupt:
		}
		messages = r.box.take(messages)
		// A step that ended because ctx did must find the run stopped for that reason.
		r.heed()
		for i := range messages {
			r.receive(&messages[i])
			messages[i] = message{}
		}
	}
	r.box.close()
	if r.graceOver != nil {
		r.graceOver.Stop()
	}
	r.stop(context.Canceled)
	r.values.finish()
}

// heed stops the run if the caller's context has ended.
func (r *run) heed() {
	if r.ctx.Err() == nil || r.interrupted {
		return
	}
	r.interrupted = true
	reason := "the run was interrupted"
	switch cause := context.Cause(r.ctx); {
	case errors.Is(cause, context.DeadlineExceeded):
		reason = "the run's time was up"
	case firstLine(cause) != context.Canceled.Error(): // it has words of its own
		reason = firstLine(cause)
	}
	r.halt(reason)
}

// halt cancels the running steps and keeps others from starting, save Always nodes. Only the first reason counts.
func (r *run) halt(reason string) {
	if r.halted != "" {
		return
	}
	r.halted = reason
	r.stop(errors.New(reason))
	r.graceOver = time.AfterFunc(r.grace, func() { r.box.put(message{expired: true}) })
	// The nodes that wait for a lock or a place would find out only when they get it. The lines come first: else a lock
	// that a ready node gives back would go to a node that may no longer start. The first of a line is left in it: it runs,
	// or it is ready, or it waits for the lock with a context that has now ended.
	for _, name := range slices.Sorted(maps.Keys(r.lines)) {
		line := r.lines[name]
		first := line.first()
		for _, n := range line.removeIf(func(n *node) bool { return n != first && !n.always }) {
			r.notStarted(n)
		}
	}
	for _, n := range r.ready.removeIf(func(n *node) bool { return !n.always }) {
		r.unlock(n)
		r.notStarted(n)
	}
}

// advance decides on nodes and starts steps until nothing more can be done without a message.
func (r *run) advance() {
	for {
		for len(r.decidable) > 0 {
			batch := r.decidable
			r.decidable = nil
			for _, n := range batch {
				r.decide(n)
			}
		}
		n := r.ready.first()
		if n == nil || r.parallelism > 0 && r.running >= r.parallelism {
			return
		}
		if r.heed(); r.ready.first() != n {
			continue
		}
		r.ready.pop()
		r.start(n)
	}
}

// receive acts on a message.
func (r *run) receive(m *message) {
	if m.expired {
		for _, n := range r.graph.nodes {
			if r.states[n.index].phase == running && !n.always {
				r.abandon(n, false)
			}
		}
		return
	}
	n, st := m.node, &r.states[m.node.index]
	switch {
	case st.phase == over:
		// The step had been given up.
	case m.retrying != nil:
		r.observe(Event{Node: n.name, Kind: Retrying, Record: *m.retrying})
		st.span.AddEvent("retry", trace.WithAttributes(attrReason.String(m.retrying.Reason), attrAttempts.Int(m.retrying.Attempts)))
		st.record.Attempts = m.retrying.Attempts
	case m.overdue:
		r.abandon(n, true)
	case m.locked:
		r.admit(n, m.err)
	case m.done != nil:
		out := m.done
		if out.verdict == Cancelled && out.reason == "" {
			out.reason = "stopped, because " + r.halted
		}
		st.record.Err, st.record.Stack, st.record.Value, st.record.Attempts = out.err, out.stack, out.value, out.attempts
		r.finish(n, out.verdict, out.reason, out.ended)
	}
}

// result sums the run up.
func (r *run) result() *Result {
	records := make([]Record, len(r.states))
	for i := range r.states {
		records[i] = r.states[i].record
	}
	res := r.summary(records, r.interrupted, r.err)
	endGraphSpan(r.span, res.Verdict)
	return res
}

// summary says how a run with these records has gone. It reads nothing of r that changes.
func (r *run) summary(records []Record, interrupted bool, err error) *Result {
	res := &Result{Graph: r.graph.name, Started: r.started, Duration: time.Since(r.started), Nodes: records, Err: err}
	verdicts := make([]Verdict, len(records))
	stopped := false
	for i, record := range records {
		verdicts[i] = record.Verdict
		stopped = stopped || interrupted && record.Verdict == Cancelled
	}
	res.Verdict = Worst(verdicts...)
	if stopped && res.Verdict != Failed && res.Verdict != Errored {
		res.Verdict = Cancelled
	}
	if err != nil {
		res.Verdict = Errored
	}
	return res
}
