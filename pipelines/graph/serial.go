package graph

import "context"

// enqueue puts n in line for its lock.
func (r *run) enqueue(n *node) {
	r.states[n.index].phase = queued
	line := r.lines[n.serial]
	if line == nil {
		line = new(queue)
		r.lines[n.serial] = line
	}
	line.push(n)
	if line.first() == n {
		r.seek(n)
	}
}

// seek gets the lock for n, the first in its line.
func (r *run) seek(n *node) {
	l := lockNamed(n.serial)
	if l.try(n) {
		r.states[n.index].locked = true
		r.ready.push(n)
		return
	}
	ctx, cancel := r.live, context.CancelFunc(func() {})
	if n.always {
		ctx, cancel = context.WithTimeoutCause(r.lasting, n.limit(), &timeoutError{n.limit()})
	}
	go func() {
		defer cancel()
		r.box.put(message{node: n, locked: true, err: l.wait(ctx, n)})
	}()
}

// unlock lets the next in n's line have the lock, which n has given back, or gives back here because it never started.
func (r *run) unlock(n *node) {
	st := &r.states[n.index]
	if n.serial == "" {
		return
	}
	if st.locked && st.phase == queued {
		lockNamed(n.serial).release()
	}
	line := r.lines[n.serial]
	line.pop()
	if next := line.first(); next != nil {
		r.seek(next)
	}
}

// admit lets n wait for a place now that it has its lock, or ends it because it can't have it.
func (r *run) admit(n *node, err error) {
	st := &r.states[n.index]
	st.locked = err == nil
	switch {
	case r.halted != "" && !n.always:
		r.unlock(n)
		r.notStarted(n)
	case err != nil:
		r.unlock(n)
		st.record.Err = err
		r.end(n, Errored, firstLine(err))
	default:
		r.ready.push(n)
	}
}
