package canary

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

func TestFisherKnownAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, n, b, m int
		want       float64
	}{
		{3, 4, 1, 4, 17.0 / 70},               // Fisher's lady tasting tea
		{4, 4, 0, 4, 1.0 / 70},                // and when she has all cups right
		{11, 14, 1, 10, 0.00137972808863862},  // the studying of Wikipedia's article on the test
		{0, 10, 5, 10, 1},                     // none is never more
		{5, 10, 5, 10, 0.6718591006516704},    // equal shares
		{10, 1000, 0, 1000, 0.00095473258266}, // C(1000,10)/C(2000,10)
	} {
		require.InDelta(t, test.want, greater(test.a, test.n, test.b, test.m), 1e-9, "%+v", test)
	}
}

func TestQuantileKnownAnswers(t *testing.T) {
	t.Parallel()
	values := []float64{1, 2, 3, 4, 10}
	require.InDelta(t, 3, Quantile(values, 0.5), 1e-12)
	require.InDelta(t, 8.8, Quantile(values, 0.95), 1e-12) // numpy.quantile([1,2,3,4,10], 0.95)
	require.InDelta(t, 1, Quantile(values, 0), 1e-12)
	require.InDelta(t, 10, Quantile(values, 1), 1e-12)
	require.True(t, math.IsNaN(Quantile(nil, 0.5)))
}

// repeated returns the values over and over, n in all.
func repeated(n int, values ...float64) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = values[i%len(values)]
	}
	return all
}

func TestDecide(t *testing.T) {
	t.Parallel()
	base := repeated(600, 20, 22, 24, 26, 28, 30)
	scaled := func(factor float64) []float64 {
		all := make([]float64, len(base))
		for i, l := range base {
			all[i] = l * factor
		}
		return all
	}
	hanging := append([]float64{}, base...)
	for i := range 60 {
		hanging[i*10] = 900
	}
	for name, test := range map[string]struct {
		stable, canary Sample
		rules          Rules
		want           Outcome
		reason         string
	}{
		"the same":             {Sample{Latencies: base}, Sample{Latencies: base}, Rules{}, Promote, "latency is equal or better"},
		"faster":               {Sample{Latencies: base}, Sample{Latencies: scaled(0.5)}, Rules{}, Promote, "latency is equal or better: median 12.5 ms, against 25.0 ms"},
		"slower by a half":     {Sample{Latencies: base}, Sample{Latencies: scaled(1.5)}, Rules{}, Abort, "the canary is slower by more than 10 %: median 37.5 ms, against 25.0 ms"},
		"slower, as allowed":   {Sample{Latencies: base}, Sample{Latencies: scaled(1.5)}, Rules{Margin: 0.7}, Promote, ""},
		"slower by the margin": {Sample{Latencies: base}, Sample{Latencies: scaled(1.10)}, Rules{}, Inconclusive, "can't be told yet"},
		"a difference of no account": {
			Sample{Latencies: repeated(600, 0.20, 0.22, 0.24)}, Sample{Latencies: repeated(600, 0.60, 0.62, 0.64)}, Rules{}, Promote, ""},
		"every tenth hangs": {Sample{Latencies: base}, Sample{Latencies: hanging}, Rules{}, Abort, "more of the canary's requests are slow"},
		"too little":        {Sample{Latencies: base}, Sample{Latencies: scaled(9)[:499]}, Rules{}, Inconclusive, "too little data: 499 requests to the canary and 600"},
		"nothing":           {Sample{}, Sample{}, Rules{MaxP95: 1}, Inconclusive, "too little data: 0 requests"},
		"errors":            {Sample{Latencies: base}, Sample{Latencies: base, Errors: 12}, Rules{}, Abort, "the canary fails more often: 12 of 600 requests failed (2.00 %), against 0 of 600"},
		"as many errors":    {Sample{Latencies: base, Errors: 12}, Sample{Latencies: base, Errors: 12}, Rules{}, Promote, ""},
		"one error":         {Sample{Latencies: base}, Sample{Latencies: base, Errors: 1}, Rules{}, Promote, ""},
		"both are bad": {
			Sample{Latencies: base, Errors: 90}, Sample{Latencies: base, Errors: 90}, Rules{MaxErrorRate: 0.05}, Abort,
			"the canary's error rate is 15.00 %, and 5.00 % is the most that is allowed"},
		"both are slow": {
			Sample{Latencies: base}, Sample{Latencies: base}, Rules{MaxP95: 25, MaxP99: 50}, Abort,
			"the canary's p95 is 30.0 ms, and 25.0 ms is the most that is allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Decide(test.stable, test.canary, test.rules)
			require.Equal(t, test.want, got.Outcome, got.Reason)
			require.Contains(t, got.Reason, test.reason)
			require.NotEmpty(t, got.Checks)
		})
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	require.Equal(t, Inconclusive, Join().Outcome)
	require.Equal(t, Inconclusive, Join(Check{}).Outcome)
	got := Join(Check{Outcome: Promote, Reason: "a"}, Check{Outcome: Inconclusive, Reason: "b"}, Check{Outcome: Abort, Reason: "c"}, Check{Outcome: Abort, Reason: "d"})
	require.Equal(t, Abort, got.Outcome)
	require.Equal(t, "c; d", got.Reason)
	require.Equal(t, []graph.Verdict{graph.Passed, graph.Failed, graph.Inconclusive},
		[]graph.Verdict{Promote.Verdict(), Abort.Verdict(), Inconclusive.Verdict()})
}

// service draws what a service does with n requests: latencies as the exponential of a normal distribution around 20 ms,
// which services' are much like, made slower by a factor; share of them fail.
func service(rng *rand.Rand, n int, factor, share float64) Sample {
	s := Sample{Latencies: make([]float64, n)}
	for i := range s.Latencies {
		s.Latencies[i] = 20 * factor * math.Exp(0.5*rng.NormFloat64())
		if rng.Float64() < share {
			s.Errors++
		}
	}
	return s
}

// TestRates simulates canaries whose truth is known, and holds the decision to its promises. With -v it prints the table
// that the documentation has.
func TestRates(t *testing.T) {
	if testing.Short() {
		t.Skip("many trials, which take minutes with the race detector")
	}
	t.Parallel()
	const trials = 400
	rng := rand.New(rand.NewPCG(1, 2))
	t.Logf("%8s %8s %8s %10s %8s %14s", "requests", "slower", "errors", "promoted", "aborted", "inconclusive")
	for _, test := range []struct {
		n             int
		factor, share float64
		check         func(promoted, aborted float64)
	}{
		{500, 1, 0.001, func(promoted, aborted float64) {
			require.LessOrEqual(t, aborted, 0.02)
			require.Greater(t, promoted, 0.8)
		}},
		{1000, 1, 0.001, func(promoted, aborted float64) {
			require.LessOrEqual(t, aborted, 0.02)
			require.Greater(t, promoted, 0.95)
		}},
		{3000, 1, 0.001, func(promoted, aborted float64) {
			require.LessOrEqual(t, aborted, 0.02)
			require.Greater(t, promoted, 0.99)
		}},
		// At the margin itself, either mistake is as rare as it is said to be.
		{500, 1.1, 0.001, func(promoted, aborted float64) {
			require.LessOrEqual(t, aborted, 0.05)
			require.LessOrEqual(t, promoted, 0.08)
		}},
		{3000, 1.1, 0.001, func(promoted, aborted float64) {
			require.LessOrEqual(t, aborted, 0.05)
			require.LessOrEqual(t, promoted, 0.08)
		}},
		{500, 1.2, 0.001, func(promoted, _ float64) { require.LessOrEqual(t, promoted, 0.01) }},
		{1000, 1.2, 0.001, func(promoted, _ float64) { require.LessOrEqual(t, promoted, 0.01) }},
		{3000, 1.2, 0.001, func(_, aborted float64) { require.Greater(t, aborted, 0.95) }},
		{500, 1.3, 0.001, func(_, aborted float64) { require.Greater(t, aborted, 0.9) }},
		{1000, 1.3, 0.001, func(_, aborted float64) { require.Greater(t, aborted, 0.99) }},
		{500, 1.5, 0.001, func(_, aborted float64) { require.Greater(t, aborted, 0.99) }},
		{500, 1, 0.02, func(_, aborted float64) { require.Greater(t, aborted, 0.5) }},
		{1000, 1, 0.02, func(_, aborted float64) { require.Greater(t, aborted, 0.9) }},
		{500, 1, 0.05, func(_, aborted float64) { require.Greater(t, aborted, 0.99) }},
	} {
		counts := map[Outcome]float64{}
		for range trials {
			counts[Decide(service(rng, test.n, 1, 0.001), service(rng, test.n, test.factor, test.share), Rules{}).Outcome] += 1.0 / trials
		}
		t.Logf("%8d %7.0f%% %7.1f%% %9.1f%% %7.1f%% %13.1f%%", test.n, 100*(test.factor-1), 100*test.share,
			100*counts[Promote], 100*counts[Abort], 100*counts[Inconclusive])
		test.check(counts[Promote], counts[Abort])
	}
}
