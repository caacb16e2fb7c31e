package load

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// simulated is a run of a service: 30 s at 50 requests a second, latencies as the exponential of a normal distribution
// around 20 ms, a burst of noise that lasts some seconds, and an effect of the whole run, which another run won't have.
func simulated(rng *rand.Rand, factor, failing, between float64) Record {
	effect := math.Exp(between * rng.NormFloat64())
	var samples []sample
	burst := rng.IntN(25)
	for i := range 30 * 50 {
		second := i / 50
		ms := 20 * factor * effect * math.Exp(0.5*rng.NormFloat64())
		if second >= burst && second < burst+3 {
			ms *= 1.3
		}
		samples = append(samples, sample{at: 1_000_000 + int64(i)*20, ms: ms, failed: rng.Float64() < failing})
	}
	return record(samples)
}

// TestCompareRates simulates runs whose truth is known, and holds the rule to what it promises. With -v it prints the table
// that the documentation has.
func TestAShortRunIsNoBaseline(t *testing.T) {
	t.Parallel()
	short := record([]sample{{at: 1, ms: 5}, {at: 900, ms: 5}})
	require.Contains(t, Compare(short, nil, Tolerance{}).Reason, "no baseline yet, and this run is too short to be one: it takes")
}

func TestCompareRates(t *testing.T) {
	if testing.Short() {
		t.Skip("many trials, which take minutes with the race detector")
	}
	t.Parallel()
	const trials = 40
	rng := rand.New(rand.NewPCG(3, 4))
	t.Logf("%8s %14s %10s %8s %10s", "accepted", "runs differ by", "slower by", "errors", "called worse")
	for _, test := range []struct {
		accepted                 int
		between, factor, failing float64
		least, most              float64
	}{
		{1, 0, 1, 0.001, 0, 0.02},
		{1, 0.03, 1, 0.001, 0, 0.05},
		{5, 0.03, 1, 0.001, 0, 0.03},
		{5, 0.06, 1, 0.001, 0, 0.07},
		{1, 0.03, 1.3, 0.001, 0.9, 1},
		{5, 0.03, 1.3, 0.001, 0.9, 1},
		{5, 0.03, 1.5, 0.001, 1, 1},
		{5, 0.03, 1, 0.03, 0.9, 1},
	} {
		worse := 0.0
		for range trials {
			var accepted []Record
			for range test.accepted {
				accepted = append(accepted, simulated(rng, 1, 0.001, test.between))
			}
			c := Compare(simulated(rng, test.factor, test.failing, test.between), accepted, Tolerance{})
			require.True(t, c.Compared, c.Reason)
			if c.Worse {
				worse += 1.0 / trials
			}
		}
		t.Logf("%8d %13.0f%% %9.0f%% %7.1f%% %9.0f%%", test.accepted, 100*test.between, 100*(test.factor-1), 100*test.failing, 100*worse)
		require.GreaterOrEqual(t, worse, test.least-1e-9, "%+v", test)
		require.LessOrEqual(t, worse, test.most+1e-9, "%+v", test)
	}
}

func TestCompareNeedsSomething(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	run := simulated(rng, 1, 0, 0)
	require.Equal(t, "no baseline yet", Compare(run, nil, Tolerance{}).Reason)
	other := run
	other.Script = "another"
	require.Contains(t, Compare(run, []Record{other}, Tolerance{}).Reason, "the script is not the one")
	short := record([]sample{{at: 1, ms: 5}, {at: 2, ms: 6}})
	for _, c := range []Comparison{Compare(short, []Record{run}, Tolerance{}), Compare(run, []Record{short}, Tolerance{}), Compare(Record{}, []Record{run}, Tolerance{})} {
		require.False(t, c.Compared)
		require.False(t, c.Worse)
		require.Contains(t, c.Reason, "too little to compare: a run needs 200 requests in 5 seconds")
	}
}

func TestCompareSaysWhat(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 8))
	base := []Record{simulated(rng, 1, 0, 0)}
	c := Compare(simulated(rng, 2, 0, 0), base, Tolerance{})
	require.True(t, c.Worse)
	require.Regexp(t, `^worse than the baseline: p50 ms is 4\d\.\d+, and was 2\d\.?\d*; p95 ms is `, c.Reason)
	require.False(t, Compare(simulated(rng, 2, 0, 0), base, Tolerance{Margin: 1.5}).Worse, "as slow as is allowed")
	require.False(t, Compare(simulated(rng, 0.5, 0, 0), base, Tolerance{}).Worse, "faster")
	require.Equal(t, c, Compare(simulated2(7, 8, 2), base, Tolerance{}), "the same question has the same answer")
}

// simulated2 is the second run that a source of random numbers gives.
func simulated2(a, b uint64, factor float64) Record {
	rng := rand.New(rand.NewPCG(a, b))
	simulated(rng, 1, 0, 0)
	return simulated(rng, factor, 0, 0)
}

func TestRecord(t *testing.T) {
	t.Parallel()
	var samples []sample
	for i := range 1000 {
		samples = append(samples, sample{at: int64(i) * 10, ms: float64(i%100 + 1), failed: i%50 == 0})
	}
	r := record(samples)
	require.InDelta(t, 9.99, r.Seconds, 1e-9)
	require.Len(t, r.Blocks, 9)
	require.Equal(t, 1000, r.requests())
	lowest, width := span([]Record{r})
	whole := packed(r, lowest, width).sum(nil)
	require.Equal(t, 20, whole.failed)
	require.InEpsilon(t, 50, whole.quantile(0.5), 0.015)
	require.InEpsilon(t, 95, whole.quantile(0.95), 0.015)
	require.Empty(t, record(nil).Blocks)

	long := record([]sample{{at: 0, ms: 1}, {at: 3_600_000, ms: 1}})
	require.Len(t, long.Blocks, maxBlocks)
}
