package drift

import (
	"fmt"
	"slices"
	"time"
)

// Mode says what is done about critical drift.
type Mode string

// The modes.
const (
	// No retrains nothing.
	No Mode = "no"
	// Inline trains in the same run.
	Inline Mode = "inline"
	// Dispatched asks the CI host to train.
	Dispatched Mode = "dispatch"
)

// Modes lists the modes.
var Modes = []Mode{No, Inline, Dispatched}

// Policy says when critical drift has the model trained again.
type Policy struct {
	// Mode is no by default.
	Mode Mode
	// Cooldown is the time after a retraining in which there is no other one; a day by default.
	Cooldown time.Duration
	// Budget is the number of retrainings in any seven days; 2 by default.
	Budget int
}

const week = 7 * 24 * time.Hour

func (p Policy) cooldown() time.Duration {
	if p.Cooldown > 0 {
		return p.Cooldown
	}
	return 24 * time.Hour
}

func (p Policy) budget() int {
	if p.Budget > 0 {
		return p.Budget
	}
	return 2
}

// Retraining is a retraining that was decided on, or why there was none.
type Retraining struct {
	Mode Mode `json:"mode"`
	// Started says that it counts against cooldown and budget.
	Started bool      `json:"started"`
	Time    time.Time `json:"time"`
	// State is none, claimed (about to start), dispatched, or the verdict of the training; one that surely could not be started is
	// failed and not started.
	State  string `json:"state"`
	Reason string `json:"reason"`
	// URL leads to the run that trains, where that is known.
	URL string `json:"url,omitempty"`
}

// Decide says whether the model is to be trained again because of what was found, given what earlier runs have done.
func (p Policy) Decide(found Result, past History, now time.Time) Retraining {
	none := func(format string, args ...any) Retraining {
		return Retraining{Mode: p.Mode, Time: now, State: "none", Reason: fmt.Sprintf(format, args...)}
	}
	critical := slices.DeleteFunc(slices.Clone(found.Alerts), func(a Alert) bool { return a.Level != Critical })
	if len(critical) == 0 {
		return none("no critical drift")
	}
	if i := slices.IndexFunc(critical, Alert.Contract); i >= 0 {
		return none("the table is unfit (%s: %s), and training on it would not help: repair the data", critical[i].Subject, critical[i].Said)
	}
	if p.Mode == No || p.Mode == "" {
		return none("retraining is off: choose --retrain inline or dispatch")
	}
	var recent []time.Time
	for _, e := range past.Entries {
		if e.Retraining != nil && e.Retraining.Started {
			recent = append(recent, e.Retraining.Time)
		}
	}
	if past.Recovered != nil {
		// Nothing is known of the time before, so the worst is assumed.
		recent = append(recent, *past.Recovered)
	}
	// A time in the future is another machine's wrong clock, and counts as now.
	for i := range recent {
		if recent[i].After(now) {
			recent[i] = now
		}
	}
	slices.SortFunc(recent, time.Time.Compare)
	if n := len(recent); n > 0 {
		if free := recent[n-1].Add(p.cooldown()); free.After(now) {
			return none("cooldown: the last retraining began on %s, and the next may on %s", stamp(recent[n-1]), stamp(free))
		}
	}
	recent = slices.DeleteFunc(recent, func(t time.Time) bool { return !t.After(now.Add(-week)) })
	if past.Recovered != nil {
		recent = slices.DeleteFunc(recent, func(t time.Time) bool { return t.Equal(*past.Recovered) })
	}
	if len(recent) >= p.budget() {
		return none("budget: %d retrainings in the last seven days are the most; the next may begin on %s", len(recent), stamp(recent[len(recent)-p.budget()].Add(week)))
	}
	return Retraining{Mode: p.Mode, Started: true, Time: now, State: "claimed", Reason: fmt.Sprintf("critical: %s", critical[0].Subject)}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Claim writes the run into the history and decides, in one change of it, whether to retrain: of two runs at once, one
// sees what the other has decided.
func (p Policy) Claim(l Ledger, found Result) func(*History) Retraining {
	return func(h *History) Retraining {
		decided := p.Decide(found, *h, l.Now)
		entry := found.Entry
		if decided.State != "none" || found.Severity == Critical {
			entry.Retraining = &decided
		}
		h.add(entry)
		return decided
	}
}
