package graph

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// start runs n's step in a goroutine of its own.
func (r *run) start(n *node) {
	st := &r.states[n.index]
	st.phase = running
	st.record.Started = time.Now()
	r.running++
	r.values.open(n)
	r.emit(n, Started)

	ctx := r.live
	if n.always {
		ctx = r.lasting
	}
	ctx = context.WithValue(ctx, soFarKey{}, &soFar{r, n, r.interrupted, r.err})
	ctx, st.span = r.tracer.Start(ctx, n.name, trace.WithTimestamp(st.record.Started))
	if d := n.limit(); d > 0 {
		st.late = &timeoutError{d}
		ctx, st.cancel = context.WithTimeoutCause(ctx, d, st.late)
		st.overdue = time.AfterFunc(d+r.grace, func() { r.box.put(message{node: n, overdue: true}) })
	} else {
		ctx, st.cancel = context.WithCancel(ctx)
	}
	st.ctx = ctx
	// The step may outlive the run: it gets what it needs by value, and reaches the run only through the mailbox.
	box, started, late := r.box, st.record.Started, st.late
	go n.perform(ctx, late,
		func(err error, attempts int) {
			box.put(message{node: n, retrying: &Record{
				Name: n.name, Reason: firstLine(err), Err: err,
				Started: started, Duration: time.Since(started), Attempts: attempts,
			}})
		},
		func(out *outcome) {
			if n.serial != "" {
				lockNamed(n.serial).release()
			}
			box.put(message{node: n, done: out})
		})
}

// abandon records a step that does not heed its cancellation, and waits for it no longer.
// overdue says that the node's own time and the grace after it are over.
func (r *run) abandon(n *node, overdue bool) {
	st := &r.states[n.index]
	left := fmt.Sprintf("; the step ignored its cancellation for %s and was left running", shortDuration(r.grace))
	verdict, reason := Cancelled, "stopped, because "+r.halted
	// On a busy machine the timer of the context may come after the one of the grace: then there is no cause yet.
	cause := context.Cause(st.ctx)
	if st.late != nil && (errors.Is(cause, st.late) || overdue && cause == nil) {
		verdict, reason = Errored, st.late.Error()
	}
	st.record.Err = errors.New(reason + left)
	st.record.Attempts = max(st.record.Attempts, 1)
	if n.serial != "" {
		lockNamed(n.serial).abandon(n)
	}
	r.finish(n, verdict, reason+left, time.Now())
}

// finish ends a node whose step has run.
func (r *run) finish(n *node, verdict Verdict, reason string, ended time.Time) {
	st := &r.states[n.index]
	st.cancel()
	if st.overdue != nil {
		st.overdue.Stop()
	}
	st.record.Duration = ended.Sub(st.record.Started)
	r.running--
	r.values.close(n, st.record.Value, verdict == Passed)
	r.unlock(n)
	r.end(n, verdict, reason)
}
