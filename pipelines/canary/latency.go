package canary

import (
	"fmt"
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"
)

// Quantile returns the quantile q, from 0 to 1, of values in ascending order, between neighbours by straight lines
// (type 7 of Hyndman and Fan, the default of R and NumPy). It is NaN without values.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// latency tests the canary's latencies against the stable version's, made worse by the margin, with a one-sided
// Mann-Whitney test either way: significantly above is worse, significantly below is equal or better.
func latency(stable, canary Sample, r Rules) Check {
	c := Check{Name: "latency", PWorse: 1, PEqual: 1}
	if min(stable.Requests(), canary.Requests()) < r.MinRequests {
		return c // volume says so
	}
	c.Stable = Quantile(slices.Sorted(slices.Values(stable.Latencies)), 0.5)
	c.Canary = Quantile(slices.Sorted(slices.Values(canary.Latencies)), 0.5)
	allowed := worsened(stable, r)
	c.PWorse = rankTest(canary.Latencies, allowed, stats.LocationGreater)
	c.PEqual = rankTest(canary.Latencies, allowed, stats.LocationLess)
	figures := fmt.Sprintf("median %.1f ms, against %.1f ms of the stable version", c.Canary, c.Stable)
	switch {
	case c.PWorse < r.Alpha:
		c.Outcome = Abort
		c.Reason = fmt.Sprintf("the canary is slower by more than %.0f %%: %s (p %s)", 100*r.Margin, figures, p(c.PWorse))
	case c.PEqual < r.Beta:
		c.Outcome = Promote
		c.Reason = fmt.Sprintf("latency is equal or better: %s (p %s)", figures, p(c.PEqual))
	default:
		c.Outcome = Inconclusive
		c.Reason = fmt.Sprintf("whether the canary is slower by more than %.0f %% can't be told yet: %s", 100*r.Margin, figures)
	}
	return c
}

// rankTest is the p-value of the Mann-Whitney test; 1 where there is nothing to rank.
func rankTest(x, y []float64, alternative stats.LocationHypothesis) float64 {
	result, err := stats.MannWhitneyUTest(x, y, alternative)
	if err != nil {
		return 1 // all values are the same
	}
	return result.P
}

// tail tests whether more of the canary's requests are slow: a version whose every twentieth request hangs has the same
// ranks otherwise. Slow is above the 95th percentile of the canary and the stable version, made worse by the margin,
// together: both have the same share of that if the canary is slower by just the margin.
func tail(stable, canary Sample, r Rules) Check {
	c := Check{Name: "tail", PWorse: 1, PEqual: 1}
	if min(stable.Requests(), canary.Requests()) < r.MinRequests {
		return c
	}
	allowed := worsened(stable, r)
	border := Quantile(slices.Sorted(slices.Values(slices.Concat(allowed, canary.Latencies))), 0.95)
	a, b := above(canary.Latencies, border), above(allowed, border)
	c.Canary, c.Stable = float64(a)/float64(canary.Requests()), float64(b)/float64(stable.Requests())
	c.PWorse = greater(a, canary.Requests(), b, stable.Requests())
	figures := fmt.Sprintf("%.1f %% of the canary's requests take longer than %.1f ms, and %.1f %% would still count as equal",
		100*c.Canary, border, 100*c.Stable)
	c.Outcome, c.Reason = Promote, figures
	if c.PWorse < r.Alpha && c.Canary > c.Stable+r.TailMargin {
		c.Outcome = Abort
		c.Reason = fmt.Sprintf("more of the canary's requests are slow: %s (p %s)", figures, p(c.PWorse))
	}
	return c
}

// worsened returns the latencies that a version may have that counts as equal to the stable one.
func worsened(stable Sample, r Rules) []float64 {
	allowed := make([]float64, len(stable.Latencies))
	for i, l := range stable.Latencies {
		allowed[i] = max(l*(1+r.Margin), l+r.Resolution)
	}
	return allowed
}

// above counts the values that are above a border.
func above(values []float64, border float64) int {
	n := 0
	for _, v := range values {
		if v > border {
			n++
		}
	}
	return n
}

// p prints a p-value for people.
func p(value float64) string {
	if value < 0.0001 {
		return "< 0.0001"
	}
	return fmt.Sprintf("= %.4f", value)
}
