// Package canary decides whether a new version of a service may take the place of the old one, from what both did with
// the same load at the same time. Its functions are pure: who calls them drives the load.
package canary

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// Sample is what one version did with its share of the load.
type Sample struct {
	// Latencies are those of all requests, in milliseconds.
	Latencies []float64
	// Errors is how many of the requests failed.
	Errors int
}

// Requests is how many requests there were.
func (s Sample) Requests() int { return len(s.Latencies) }

// ErrorRate is the share of the requests that failed, from 0 to 1; 0 without any.
func (s Sample) ErrorRate() float64 {
	if s.Requests() == 0 {
		return 0
	}
	return float64(s.Errors) / float64(s.Requests())
}

// Rules say what counts as worse. A field that is 0 has its default.
type Rules struct {
	// MinRequests is how many requests each side must have had; 500 by default.
	MinRequests int
	// Margin is how much slower a version may be, as a share, and still count as equal; 0.10 by default.
	Margin float64
	// Resolution is the difference in milliseconds that nobody minds, whatever share it is; 1 by default.
	Resolution float64
	// TailMargin is how much larger the share of slow requests may be, and still count as equal; 0.02 by default.
	// Slow is what takes longer than the 95th percentile of both sides together, of the stable one made worse by Margin.
	TailMargin float64
	// ErrorMargin is how much higher the error rate may be, and still count as equal; 0.005 by default.
	ErrorMargin float64
	// Alpha is the chance to abort a version that is no worse than the margin, in each of the tests; 0.01 by default.
	Alpha float64
	// Beta is the chance to promote a version that is slower than the margin; 0.05 by default.
	Beta float64
	// MaxErrorRate is the error rate above which a version is worse, whatever the other one does; no bound if 0.
	MaxErrorRate float64
	// MaxP95 and MaxP99 are latencies in milliseconds above which a version is worse; no bound if 0.
	MaxP95, MaxP99 float64
}

// Filled returns r with the defaults in it.
func (r Rules) Filled() Rules {
	r.MinRequests = cmp.Or(r.MinRequests, 500)
	r.Margin = cmp.Or(r.Margin, 0.10)
	r.Resolution = cmp.Or(r.Resolution, 1)
	r.TailMargin = cmp.Or(r.TailMargin, 0.02)
	r.ErrorMargin = cmp.Or(r.ErrorMargin, 0.005)
	r.Alpha = cmp.Or(r.Alpha, 0.01)
	r.Beta = cmp.Or(r.Beta, 0.05)
	return r
}

// Outcome is what is to be done with a canary.
type Outcome string

// The outcomes.
const (
	// Promote: the canary is better than the stable version, or equal to it within the margin.
	Promote Outcome = "promote"
	// Abort: it is worse.
	Abort Outcome = "abort"
	// Inconclusive: the data don't tell. Wait for more, or ask a person.
	Inconclusive Outcome = "inconclusive"
)

// Verdict is the outcome as a node's.
func (o Outcome) Verdict() graph.Verdict {
	switch o {
	case Promote:
		return graph.Passed
	case Abort:
		return graph.Failed
	default:
		return graph.Inconclusive
	}
}

// Check is one of the comparisons behind a decision.
type Check struct {
	// Name is requests, latency, tail, errors, or a query's name.
	Name string `json:"name"`
	// Outcome is what this check alone would have done.
	Outcome Outcome `json:"outcome"`
	// Stable and Canary are what was compared, in the unit that Reason names.
	Stable float64 `json:"stable"`
	Canary float64 `json:"canary"`
	// PWorse is the p-value of "worse than the margin"; PEqual that of "within the margin". 1 where no test was made.
	PWorse float64 `json:"pWorse"`
	PEqual float64 `json:"pEqual"`
	// Reason says it in one line.
	Reason string `json:"reason"`
}

// Decision is what is to be done, and why.
type Decision struct {
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason"`
	Checks  []Check `json:"checks"`
}

// Decide compares a canary with the stable version.
//
// Abort, if any check says that the canary is worse; promote, if all say that it is not; inconclusive otherwise. The
// absolute bounds hold for the canary alone, so that a stable version that is as bad does not excuse it.
func Decide(stable, canary Sample, rules Rules) Decision {
	r := rules.Filled()
	return Join(volume(stable, canary, r), latency(stable, canary, r), tail(stable, canary, r), errorRate(stable, canary, r), bounds(canary, r))
}

// Join makes one decision of checks: the worst outcome, with the reasons for it. A check without an outcome does not count.
func Join(checks ...Check) Decision {
	checks = slices.DeleteFunc(checks, func(c Check) bool { return c.Outcome == "" })
	if len(checks) == 0 {
		return Decision{Outcome: Inconclusive, Reason: "nothing was compared"}
	}
	for _, outcome := range []Outcome{Abort, Inconclusive, Promote} {
		var reasons []string
		for _, c := range checks {
			if c.Outcome == outcome {
				reasons = append(reasons, c.Reason)
			}
		}
		if len(reasons) > 0 {
			return Decision{Outcome: outcome, Reason: strings.Join(reasons, "; "), Checks: checks}
		}
	}
	return Decision{Outcome: Inconclusive, Reason: "no check has an outcome that is known", Checks: checks}
}

// volume holds back a decision on too little data.
func volume(stable, canary Sample, r Rules) Check {
	c := Check{Name: "requests", Stable: float64(stable.Requests()), Canary: float64(canary.Requests()), PWorse: 1, PEqual: 1}
	if min(stable.Requests(), canary.Requests()) < r.MinRequests {
		c.Outcome = Inconclusive
		c.Reason = fmt.Sprintf("too little data: %d requests to the canary and %d to the stable version, and each needs %d",
			canary.Requests(), stable.Requests(), r.MinRequests)
		return c
	}
	c.Outcome = Promote
	c.Reason = fmt.Sprintf("%d requests to the canary, %d to the stable version", canary.Requests(), stable.Requests())
	return c
}

// bounds holds the canary to what no version may do.
func bounds(canary Sample, r Rules) Check {
	c := Check{Name: "bounds", PWorse: 1, PEqual: 1}
	if r.MaxErrorRate == 0 && r.MaxP95 == 0 && r.MaxP99 == 0 || canary.Requests() < r.MinRequests {
		return c
	}
	sorted := slices.Sorted(slices.Values(canary.Latencies))
	var over []string
	exceeds := func(what string, value, bound float64, format string) {
		if bound > 0 && value > bound {
			over = append(over, fmt.Sprintf("%s is "+format+", and "+format+" is the most that is allowed", what, value, bound))
		}
	}
	exceeds("the canary's error rate", 100*canary.ErrorRate(), 100*r.MaxErrorRate, "%.2f %%")
	exceeds("the canary's p95", Quantile(sorted, 0.95), r.MaxP95, "%.1f ms")
	exceeds("the canary's p99", Quantile(sorted, 0.99), r.MaxP99, "%.1f ms")
	c.Outcome, c.Reason = Promote, "within the bounds"
	if len(over) > 0 {
		c.Outcome, c.Reason = Abort, strings.Join(over, "; ")
	}
	return c
}
