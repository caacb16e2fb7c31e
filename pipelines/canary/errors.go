package canary

import (
	"fmt"

	"github.com/aclements/go-moremath/stats"
)

// errorRate compares the shares of failed requests by Fisher's exact test, one-sided: it holds for the few errors that
// there are, where an approximation would not.
func errorRate(stable, canary Sample, r Rules) Check {
	c := Check{Name: "errors", Stable: stable.ErrorRate(), Canary: canary.ErrorRate(), PWorse: 1, PEqual: 1}
	if min(stable.Requests(), canary.Requests()) < r.MinRequests {
		return c
	}
	c.PWorse = greater(canary.Errors, canary.Requests(), stable.Errors, stable.Requests())
	figures := fmt.Sprintf("%d of %d requests failed (%.2f %%), against %d of %d (%.2f %%) of the stable version",
		canary.Errors, canary.Requests(), 100*c.Canary, stable.Errors, stable.Requests(), 100*c.Stable)
	c.Outcome, c.Reason = Promote, "errors are equal or fewer: "+figures
	if c.PWorse < r.Alpha && c.Canary > c.Stable+r.ErrorMargin {
		c.Outcome = Abort
		c.Reason = fmt.Sprintf("the canary fails more often: %s (p %s)", figures, p(c.PWorse))
	}
	return c
}

// greater is the p-value of Fisher's exact test for the alternative that a of n is a larger share than b of m: the chance
// of a or more among the n, when all a+b fell on n and m at random.
func greater(a, n, b, m int) float64 {
	if a == 0 {
		return 1
	}
	// Counted from the other side, where the sum is of the small terms alone and nothing is lost to rounding.
	return stats.HypergeometicDist{N: n + m, K: a + b, Draws: m}.CDF(float64(b))
}
