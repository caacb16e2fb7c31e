package graph

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// maxBackoff bounds the wait between two attempts, unless the first wait is longer.
const maxBackoff = time.Minute

// errGoexit is the error of a step that neither returned nor panicked.
var errGoexit = errors.New("the step ended its goroutine instead of returning: it called runtime.Goexit, perhaps through testing.T.FailNow")

// timeoutError is the cause of a context that ends because its node's time is up.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string { return "timed out after " + shortDuration(e.limit) }

func (e *timeoutError) Unwrap() error { return context.DeadlineExceeded }

// panicError is what a step panicked with.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// outcome is how a step ended.
type outcome struct {
	verdict  Verdict
	reason   string
	value    any
	err      error
	stack    string
	attempts int
	ended    time.Time
}

// perform runs n's step until it has ended for good and then calls done, come what may.
// late is the cause of ctx if n's own time is up; retrying is called before the wait for every further attempt.
func (n *node) perform(ctx context.Context, late *timeoutError, retrying func(error, int), done func(*outcome)) {
	out := new(outcome)
	returned := false
	defer func() {
		if !returned {
			out.verdict, out.reason, out.err = Errored, firstLine(errGoexit), errGoexit
		}
		out.ended = time.Now()
		done(out)
	}()
	if n.attempts > 1 {
		n.retry(ctx, out, retrying)
	} else {
		n.call(ctx, out)
	}
	out.conclude(context.Cause(ctx), late)
	returned = true
}

// retry calls n's step until it returns anything but a transient error, or has been called often enough.
func (n *node) retry(ctx context.Context, out *outcome, retrying func(error, int)) {
	var waits backoff.BackOff = &backoff.ZeroBackOff{}
	if n.backoff > 0 {
		waits = &backoff.ExponentialBackOff{
			InitialInterval:     n.backoff,
			RandomizationFactor: 0.5,
			Multiplier:          2,
			MaxInterval:         max(maxBackoff, n.backoff),
		}
	}
	// The last call's outcome is what counts: of the library's own result only the end matters.
	_, _ = backoff.Retry(ctx, func() (struct{}, error) {
		n.call(ctx, out)
		if out.err != nil && (out.stack != "" || !IsTransient(out.err)) {
			return struct{}{}, backoff.Permanent(out.err)
		}
		return struct{}{}, out.err
	},
		backoff.WithBackOff(waits),
		backoff.WithMaxTries(uint(n.attempts)),
		backoff.WithMaxElapsedTime(0), // the node's timeout bounds it
		backoff.WithNotify(func(err error, _ time.Duration) { retrying(err, out.attempts) }),
	)
}

// call calls n's step once.
func (n *node) call(ctx context.Context, out *outcome) {
	*out = outcome{attempts: out.attempts + 1}
	defer func() {
		if p := recover(); p != nil {
			out.err, out.stack = &panicError{p}, stack()
		}
	}()
	if out.value, out.err = n.run(ctx); out.err != nil {
		return
	}
	out.verdict = Passed
	if j, ok := out.value.(Judged); ok {
		out.verdict, out.reason = j.Judgement()
	}
}

// stack returns the stack of the panic that is being recovered, from where it was raised.
// The Go runtime leaves out the middle of a very deep one, so it is never large.
func stack() string {
	s := string(debug.Stack())
	if _, raised, ok := strings.Cut(s, "\npanic("); ok {
		if _, raised, ok = strings.Cut(raised, "\n"); ok {
			if _, raised, ok = strings.Cut(raised, "\n"); ok {
				s = raised
			}
		}
	}
	return s
}

// conclude turns what the last call returned into a verdict. cause is why the step's context has ended, nil if it hasn't.
func (out *outcome) conclude(cause error, late *timeoutError) {
	switch {
	case out.stack != "":
		out.verdict, out.reason = Errored, firstLine(out.err)
	case late != nil && errors.Is(cause, late):
		// A step that returns without an error this late may have been cut short: it can't be told from one that was not.
		out.verdict, out.reason = Errored, late.Error()
		if out.err == nil || errors.Is(out.err, context.DeadlineExceeded) {
			out.err = late
		} else {
			out.err = fmt.Errorf("%w\n%w", late, out.err)
		}
	case out.err != nil && cause != nil:
		out.verdict = Cancelled
	case out.err != nil:
		out.verdict, out.reason = Errored, firstLine(out.err)
	case !out.verdict.Valid():
		out.err = fmt.Errorf("the step returned the unknown verdict %q", out.verdict)
		out.verdict, out.reason = Errored, firstLine(out.err)
	}
}
