package graph

import (
	"errors"
	"fmt"
)

// emit tells the observers what has happened to n.
func (r *run) emit(n *node, kind EventKind) {
	if len(r.observers) > 0 {
		r.observe(Event{Node: n.name, Kind: kind, Record: r.states[n.index].record})
	}
}

// observe tells the observers, and drops one that panics.
func (r *run) observe(e Event) {
	for i := 0; i < len(r.observers); {
		if err := tell(r.observers[i], e); err != nil {
			r.err = errors.Join(r.err, err)
			r.observers = append(r.observers[:i:i], r.observers[i+1:]...)
			continue
		}
		i++
	}
}

// tell calls an observer, and turns its panic into an error.
func tell(observer func(Event), e Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("observer of the run: %w\n%s", &panicError{p}, stack())
		}
	}()
	observer(e)
	return nil
}
