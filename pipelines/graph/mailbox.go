package graph

import "sync"

// mailbox carries messages from the steps to the runner. Putting one in never blocks, so that a step which the run no
// longer waits for can still end.
type mailbox struct {
	mu       sync.Mutex
	messages []message
	closed   bool
	// wake holds a token while there are messages.
	wake chan struct{}
}

// message is something that the runner must know of a node; nil pointers stand for what did not happen.
type message struct {
	node     *node
	retrying *Record  // another attempt will follow
	done     *outcome // the step has returned
	overdue  bool     // the step has not returned within the grace after its timeout
	locked   bool     // the wait for the lock is over
	err      error    // why the lock could not be had
	expired  bool     // the grace after the stop of the run is over; node is nil
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) put(msg message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.messages = append(m.messages, msg)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take returns all messages, oldest first, and keeps spare as the room for the next ones.
func (m *mailbox) take(spare []message) []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.messages
	m.messages = spare[:0]
	return taken
}

// close drops all messages from now on.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.messages = true, nil
}
