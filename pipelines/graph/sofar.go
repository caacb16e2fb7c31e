package graph

import (
	"cmp"
	"context"
	"slices"
)

// SoFar returns how the run has gone by the time that a step started, for steps that report on it: the records of the
// nodes that the step's own node comes after, in the order of the graph, and the verdict that they give.
// An [Always] node that is also [Last] sees all the others.
//
// ctx is the step's. Outside of a step, SoFar returns nil.
func SoFar(ctx context.Context) *Result {
	s, ok := ctx.Value(soFarKey{}).(*soFar)
	if !ok {
		return nil
	}
	before := slices.Concat(s.node.needs, s.node.after)
	slices.SortFunc(before, func(a, b *node) int { return cmp.Compare(a.index, b.index) })
	records := make([]Record, len(before))
	for i, d := range before {
		// These have ended, and nothing changes a record after that: the step may read it while the run goes on.
		records[i] = s.run.states[d.index].record
	}
	return s.run.summary(records, s.interrupted, s.err)
}

type soFarKey struct{}

// soFar is what a step may know of its run.
type soFar struct {
	run         *run
	node        *node
	interrupted bool
	err         error
}
