package graph

// queue holds nodes, first in first out.
type queue struct {
	nodes []*node
	head  int
}

func (q *queue) push(n *node) { q.nodes = append(q.nodes, n) }

// first returns the node that came first, nil if there is none.
func (q *queue) first() *node {
	if q.head == len(q.nodes) {
		return nil
	}
	return q.nodes[q.head]
}

// pop removes the first node. The queue must not be empty.
func (q *queue) pop() {
	q.nodes[q.head] = nil
	if q.head++; q.head == len(q.nodes) {
		q.nodes, q.head = q.nodes[:0], 0
	}
}

// removeIf removes the nodes for which unwanted is true, and returns them in order.
func (q *queue) removeIf(unwanted func(*node) bool) (removed []*node) {
	var kept []*node
	for _, n := range q.nodes[q.head:] {
		if unwanted(n) {
			removed = append(removed, n)
		} else {
			kept = append(kept, n)
		}
	}
	q.nodes, q.head = kept, 0
	return removed
}
