package graph

import (
	"context"
	"fmt"
	"sync"
)

// locks holds every lock that a node of this process ever named; there are few names, so none is ever removed.
var locks sync.Map // string -> *lock

// lock keeps nodes from overlapping, across runs.
type lock struct {
	name string
	// slot holds a token while the lock is taken; its waiters are served in the order in which they came.
	slot chan struct{}

	mu     sync.Mutex
	holder *node
	// lost is closed while the holder is a step that its run no longer waits for; lostTo names the last such node.
	lost   chan struct{}
	lostTo string
}

func lockNamed(name string) *lock {
	if l, ok := locks.Load(name); ok {
		return l.(*lock)
	}
	l, _ := locks.LoadOrStore(name, &lock{name: name, slot: make(chan struct{}, 1), lost: make(chan struct{})})
	return l.(*lock)
}

// try takes the lock for n if it is free.
func (l *lock) try(n *node) bool {
	select {
	case l.slot <- struct{}{}:
		l.hold(n)
		return true
	default:
		return false
	}
}

// wait takes the lock for n as soon as it is free. It gives up when ctx is done, and when the lock may never be free again.
func (l *lock) wait(ctx context.Context, n *node) error {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	select {
	case l.slot <- struct{}{}:
		l.hold(n)
		return nil
	case <-lost:
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Errorf("lock %q is still held by the step of %s, which ignored its cancellation", l.name, l.lostTo)
	case <-ctx.Done():
		return fmt.Errorf("waiting for lock %q: %w", l.name, context.Cause(ctx))
	}
}

func (l *lock) hold(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder = n
}

// release gives the lock back. Only its holder may call it.
func (l *lock) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder = nil
	select {
	case <-l.lost:
		l.lost = make(chan struct{})
	default:
	}
	<-l.slot
}

// abandon tells those who wait that n, if it still holds the lock, may never give it back.
func (l *lock) abandon(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == n {
		l.lostTo = n.name
		close(l.lost)
	}
}
