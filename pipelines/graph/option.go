package graph

import "time"

// alwaysTimeout bounds an [Always] node that has no [Timeout] of its own.
const alwaysTimeout = time.Minute

// Option says when and how a node runs. An option given twice adds to the first (After, Needs, When) or replaces it.
type Option func(*spec)

// spec is what a node's options say.
type spec struct {
	needHandles, afterHandles []Handle

	doc      string
	unmet    bool   // a When was false
	skip     string // the reason of the first When that was false
	timeout  time.Duration
	attempts int
	backoff  time.Duration
	always   bool
	serial   string
	last     bool
}

// limit returns the time after which the node is stopped; 0 means never.
func (s spec) limit() time.Duration {
	if s.timeout <= 0 && s.always {
		return alwaysTimeout
	}
	return max(s.timeout, 0)
}

// After makes the node run when all of nodes have ended passed, or skipped of their own accord.
//
// One that is failed, errored, inconclusive or cancelled, or that is held back by such a one, holds this node back too:
// it ends skipped, and its reason names the culprit. An [Always] node is not held back.
func After(nodes ...Handle) Option {
	return func(s *spec) { s.afterHandles = append(s.afterHandles, nodes...) }
}

// Needs makes the node run when all of nodes have ended passed, and lets its step read their values.
//
// If one was skipped, this node is skipped too. That holds for an [Always] node as well: what it needs does not exist.
func Needs(nodes ...Handle) Option {
	return func(s *spec) { s.needHandles = append(s.needHandles, nodes...) }
}

// When skips the node, with that reason, unless cond is true.
// Of several conditions, all must be true; the reason shown is that of the first one that is not.
func When(cond bool, reason string) Option {
	return func(s *spec) {
		if !cond && !s.unmet {
			s.unmet, s.skip = true, reason
		}
	}
}

// Timeout makes the node errored, with the reason "timed out after …", unless it has ended within d.
//
// The time counts from the node's start over all its attempts; waiting for a [Serial] lock or for a free place does not
// count. The step's context is cancelled at that time. 0 or less means no limit, the default.
func Timeout(d time.Duration) Option { return func(s *spec) { s.timeout = d } }

// Retry runs the step up to attempts times, for as long as it returns an error marked with [Transient].
//
// The first wait is backoff; every further one is twice as long, up to a minute (or backoff, where that is longer).
// Each is spread by up to half, up or down, so that steps that failed together do not come back together.
// A panic, a timeout and a verdict are never retried.
func Retry(attempts int, backoff time.Duration) Option {
	return func(s *spec) { s.attempts, s.backoff = attempts, backoff }
}

// Always makes the node run also after a failure, a fail-fast stop or an interrupt, once all before it have ended.
//
// It is for clean-up and notifications. Its context is not cancelled with the run's, and so it has a time limit in any
// case: its [Timeout], by default one minute.
func Always() Option { return func(s *spec) { s.always = true } }

// Last makes the node come after every other one, also after those that are added to the graph later.
//
// It is for what sums a run up, mostly together with [Always]. Several such nodes run in the order that their own edges
// give; a node that is not Last can't come after one that is.
func Last() Option { return func(s *spec) { s.last = true } }

// Serial keeps nodes with the same lock name from overlapping, in all graphs of this process.
//
// A step that holds the lock must not run a graph with a node that waits for the same one.
func Serial(lock string) Option { return func(s *spec) { s.serial = lock } }

// Doc describes the node in one line, for plans.
func Doc(text string) Option { return func(s *spec) { s.doc = text } }
