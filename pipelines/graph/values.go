package graph

import (
	"fmt"
	"sync"
)

// values holds what the nodes returned, and who may read it. It is shared with the steps.
type values struct {
	mu      sync.RWMutex
	over    bool
	entries []valueEntry
}

type valueEntry struct {
	value   any
	passed  bool
	readers int // running steps that need the value
}

func (v *values) init(nodes int) { v.entries = make([]valueEntry, nodes) }

// open lets n's step read what it needs.
func (v *values) open(n *node) { v.count(n, 1) }

func (v *values) count(n *node, by int) {
	if len(n.needs) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, d := range n.needs {
		v.entries[d.index].readers += by
	}
}

// close ends what open began, and keeps the value of n.
func (v *values) close(n *node, value any, passed bool) {
	v.count(n, -1)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.entries[n.index].value, v.entries[n.index].passed = value, passed
}

func (v *values) finish() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
}

func (v *values) read(n *node) any {
	v.mu.RLock()
	defer v.mu.RUnlock()
	e := v.entries[n.index]
	if !v.over && e.readers == 0 {
		panic(fmt.Errorf("the value of node %q was read by a step that does not declare it: add graph.Needs with that node's handle to the options of the step", n.name))
	}
	if !e.passed {
		panic(fmt.Errorf("the value of node %q was read, but that node has not passed: look at its record first", n.name))
	}
	return e.value
}
