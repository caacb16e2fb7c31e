package graph

// decide lets n run or ends it, now that all before it have ended.
func (r *run) decide(n *node) {
	st := &r.states[n.index]
	if blocks := r.blocked(n); blocks != "" {
		st.blocks = blocks
	}
	switch {
	case r.skips[n.index].reason != "":
		// What comes after n is held back all the same: skipping a node does not undo the failure before it.
		st.inherited = r.skips[n.index].inherited
		r.end(n, Skipped, r.skips[n.index].reason)
		return
	case st.blocks != "":
		r.end(n, Skipped, st.blocks)
		return
	}
	for _, d := range n.needs {
		ds := &r.states[d.index]
		switch ds.record.Verdict {
		case Skipped:
			k := skip{reason: ds.record.Reason, inherited: ds.inherited}.dependant(d)
			st.inherited = k.inherited
			r.end(n, Skipped, k.reason)
			return
		case Cancelled:
			if n.always {
				st.inherited = true
				r.end(n, Skipped, "needs "+d.name+", which was cancelled")
				return
			}
		}
	}
	switch {
	case r.halted != "" && !n.always:
		r.notStarted(n)
	case n.serial != "":
		r.enqueue(n)
	default:
		st.phase = queued
		r.ready.push(n)
	}
}

// blocked returns what holds n back among the nodes before it; an Always node is only held back by what it needs.
func (r *run) blocked(n *node) string {
	for _, d := range n.needs {
		if b := r.states[d.index].blocks; b != "" {
			return b
		}
	}
	if n.always {
		return ""
	}
	for _, d := range n.after {
		if b := r.states[d.index].blocks; b != "" {
			return b
		}
	}
	return ""
}

// notStarted ends a node that never ran because the run was stopped.
func (r *run) notStarted(n *node) {
	r.end(n, Cancelled, "not started, because "+r.halted)
}

// end gives n its verdict, and what follows its turn.
func (r *run) end(n *node, verdict Verdict, reason string) {
	st := &r.states[n.index]
	r.ended++
	r.left--
	st.phase = over
	st.record.Verdict, st.record.Reason, st.record.order = verdict, reason, r.ended
	if st.blocks == "" {
		st.blocks = r.blocksWhatFollows(n, verdict)
	}
	r.endSpan(n)
	r.emit(n, Ended)
	if (verdict == Failed || verdict == Errored) && !r.keepGoing {
		r.halt(n.name + " " + string(verdict))
	}
	for _, d := range n.dependents {
		if ds := &r.states[d.index]; ds.pending > 1 {
			ds.pending--
		} else {
			ds.pending = 0
			r.decidable = append(r.decidable, d)
		}
	}
}

// blocksWhatFollows returns what holds back the nodes after n; empty if nothing does.
func (r *run) blocksWhatFollows(n *node, verdict Verdict) string {
	switch verdict {
	case Failed, Errored:
		return n.name + " " + string(verdict)
	case Inconclusive:
		return n.name + " was inconclusive"
	case Cancelled:
		// When the run is stopped, what follows is cancelled as well, which says more than skipped.
		if r.halted == "" {
			return n.name + " was cancelled"
		}
	}
	return ""
}
