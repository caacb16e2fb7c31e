package load

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Record is what is kept of a run of a load test to compare later ones with.
type Record struct {
	// When, Commit and Images say what was tested.
	When   time.Time `json:"when"`
	Commit string    `json:"commit,omitempty"`
	// Script is the digest of the script with all that it reads: another script is another load.
	Script string `json:"script"`
	// Seconds that the test took.
	Seconds float64 `json:"seconds"`
	// Blocks are equal stretches of time, at most [maxBlocks].
	Blocks []Block `json:"blocks"`
}

// Block is what happened in a stretch of time.
type Block struct {
	Requests int `json:"n"`
	Failed   int `json:"failed,omitempty"`
	// Bins counts latencies; the bin i holds those around resolution^i milliseconds.
	Bins map[int]int `json:"bins"`
}

const (
	// resolution is the ratio of two neighbouring bins: latencies are kept to within 1 %.
	resolution = 1.02
	// maxBlocks bounds what a record takes in the cluster. Longer tests have longer blocks.
	maxBlocks = 120
	// minBlocks and minRequests are what a comparison takes.
	minBlocks   = 5
	minRequests = 200
	// resamples is how often the bootstrap draws.
	resamples = 1000
)

func bin(ms float64) int   { return int(math.Round(math.Log(max(ms, 0.01)) / math.Log(resolution))) }
func binned(i int) float64 { return math.Pow(resolution, float64(i)) }

// record sums up the samples of a run. The last second, which is only a part of one, counts with the one before it.
func record(samples []sample) Record {
	r := Record{}
	if len(samples) == 0 {
		return r
	}
	first, end := samples[0].at, samples[0].at
	for _, s := range samples {
		first, end = min(first, s.at), max(end, s.at)
	}
	r.Seconds = float64(end-first) / 1000
	count := min(maxBlocks, max(1, int(r.Seconds)))
	r.Blocks = make([]Block, count)
	for i := range r.Blocks {
		r.Blocks[i].Bins = map[int]int{}
	}
	for _, s := range samples {
		i := 0
		if end > first {
			i = min(count-1, int(float64(s.at-first)/float64(end-first)*float64(count)))
		}
		r.Blocks[i].Requests++
		if s.failed {
			r.Blocks[i].Failed++
		}
		r.Blocks[i].Bins[bin(s.ms)]++
	}
	return r
}

func (r Record) requests() int {
	n := 0
	for _, b := range r.Blocks {
		n += b.Requests
	}
	return n
}

// usable reports whether a run has enough in it to be compared.
func usable(r Record) bool { return len(r.Blocks) >= minBlocks && r.requests() >= minRequests }

// Tolerance says how much worse than the baseline a run may be. A field that is 0 has its default.
type Tolerance struct {
	// Margin is for latency and throughput, as a share; 0.10 by default.
	Margin float64
	// Milliseconds is a difference of latency that nobody minds; 1 by default.
	Milliseconds float64
	// ErrorRate is how much the share of failed requests may rise; 0.005 by default.
	ErrorRate float64
	// Alpha is the chance to call a run worse that is not, for each figure; 0.01 by default.
	Alpha float64
}

func (t Tolerance) filled() Tolerance {
	t.Margin = cmp.Or(t.Margin, 0.10)
	t.Milliseconds = cmp.Or(t.Milliseconds, 1)
	t.ErrorRate = cmp.Or(t.ErrorRate, 0.005)
	t.Alpha = cmp.Or(t.Alpha, 0.01)
	return t
}

// Comparison is a run beside its baseline.
type Comparison struct {
	// Compared is false when there was nothing to compare with, or too little; Reason says what.
	Compared bool `json:"compared"`
	// Worse is whether any of the figures is.
	Worse  bool   `json:"worse"`
	Reason string `json:"reason"`
	// Runs is how many accepted runs the baseline has.
	Runs    int      `json:"runs"`
	Figures []Figure `json:"figures,omitempty"`
}

// Figure is one measure of a run and of its baseline.
type Figure struct {
	// Name with its unit: p95 ms, requests/s, errors %.
	Name     string  `json:"name"`
	Baseline float64 `json:"baseline"`
	Current  float64 `json:"current"`
	// Low and High bound the change with the confidence of 1-2*alpha: a ratio, or for errors a difference.
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Worse bool    `json:"worse"`
}

// measure computes one figure of some blocks.
type measure struct {
	name  string
	of    func(total, seconds) float64
	ratio bool
	worse func(f Figure, t Tolerance) bool
}

type seconds float64

// total is a sum of blocks.
type total struct {
	requests, failed int
	bins             []int // from lowest on
	lowest           int
}

func (t total) quantile(q float64) float64 {
	rank, seen := int(math.Ceil(q*float64(t.requests))), 0
	for i, n := range t.bins {
		if seen += n; seen >= rank && n > 0 {
			return binned(t.lowest + i)
		}
	}
	return 0
}

func latencyMeasure(name string, q float64) measure {
	return measure{
		name: name, ratio: true,
		of: func(t total, _ seconds) float64 { return t.quantile(q) },
		worse: func(f Figure, t Tolerance) bool {
			return f.Low > 1+t.Margin && f.Current-f.Baseline > t.Milliseconds
		},
	}
}

var measures = []measure{
	latencyMeasure("p50 ms", 0.50), latencyMeasure("p95 ms", 0.95), latencyMeasure("p99 ms", 0.99),
	{
		name: "requests/s", ratio: true,
		of:    func(t total, s seconds) float64 { return float64(t.requests) / float64(s) },
		worse: func(f Figure, t Tolerance) bool { return f.High < 1-t.Margin },
	},
	{
		name:  "errors %",
		of:    func(t total, _ seconds) float64 { return 100 * float64(t.failed) / float64(max(1, t.requests)) },
		worse: func(f Figure, t Tolerance) bool { return f.Low > 100*t.ErrorRate },
	},
}

// Compare holds a run against the accepted runs before it, by a block bootstrap.
//
// Each draw takes one of the accepted runs and draws blocks of it and of the run, with replacement: what is near in time
// is alike, so whole stretches are drawn and not single requests (Künsch 1989, "The jackknife and the bootstrap for general
// stationary observations"). Runs differ from each other by more than their own scatter shows: the draw is moved by how
// far one of the accepted runs, taken at random, lies from their middle. A figure is worse if its change is beyond the
// margin in all but the share alpha of the draws. The draws are the same every time.
func Compare(run Record, accepted []Record, tolerance Tolerance) Comparison {
	t := tolerance.filled()
	same := slices.DeleteFunc(slices.Clone(accepted), func(r Record) bool { return r.Script != run.Script })
	switch {
	case len(accepted) == 0 && !usable(run):
		return Comparison{Reason: fmt.Sprintf("no baseline yet, and this run is too short to be one: it takes %d requests in %d seconds", minRequests, minBlocks)}
	case len(accepted) == 0:
		return Comparison{Reason: "no baseline yet"}
	case len(same) == 0:
		return Comparison{Reason: "the script is not the one that the baseline was made with"}
	}
	same = slices.DeleteFunc(same, func(r Record) bool { return !usable(r) })
	if !usable(run) || len(same) == 0 {
		return Comparison{Reason: fmt.Sprintf("too little to compare: a run needs %d requests in %d seconds", minRequests, minBlocks), Runs: len(same)}
	}
	c := Comparison{Compared: true, Runs: len(same)}
	lowest, width := span(append(slices.Clone(same), run))
	now := packed(run, lowest, width)
	then := make([]blocks, len(same))
	whole := make([][]float64, len(measures)) // by measure, of each accepted run as it was
	for i, r := range same {
		then[i] = packed(r, lowest, width)
		for m, measure := range measures {
			whole[m] = append(whole[m], measure.of(then[i].sum(nil), seconds(r.Seconds)))
		}
	}
	centers := make([]float64, len(measures))
	for m := range measures {
		centers[m] = median(whole[m])
	}

	rng := rand.New(rand.NewPCG(uint64(run.requests()), uint64(len(run.Blocks)))) // a draw that can be repeated is wanted
	changes := make([][]float64, len(measures))
	for range resamples {
		i, j := rng.IntN(len(same)), rng.IntN(len(same))
		before, after := then[i].sum(rng), now.sum(rng)
		for m, measure := range measures {
			was, is := measure.of(before, seconds(same[i].Seconds)), measure.of(after, seconds(run.Seconds))
			if measure.ratio {
				changes[m] = append(changes[m], ratio(is, was)*ratio(whole[m][j], centers[m]))
			} else {
				changes[m] = append(changes[m], is-was+whole[m][j]-centers[m])
			}
		}
	}
	current := now.sum(nil)
	var worse []string
	for m, measure := range measures {
		slices.Sort(changes[m])
		f := Figure{
			Name: measure.name, Baseline: centers[m], Current: measure.of(current, seconds(run.Seconds)),
			Low: changes[m][int(t.Alpha*resamples)], High: changes[m][int((1-t.Alpha)*resamples)-1],
		}
		if f.Worse = measure.worse(f, t); f.Worse {
			c.Worse = true
			worse = append(worse, fmt.Sprintf("%s is %s, and was %s", f.Name, figure(f.Current), figure(f.Baseline)))
		}
		c.Figures = append(c.Figures, f)
	}
	if c.Worse {
		c.Reason = "worse than the baseline: " + strings.Join(worse, "; ")
	} else {
		c.Reason = "no worse than the baseline"
	}
	return c
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 1
	}
	return a / b
}

// span is the range of bins that runs have.
func span(runs []Record) (lowest, width int) {
	lowest, highest := math.MaxInt, math.MinInt
	for _, r := range runs {
		for _, b := range r.Blocks {
			for i := range b.Bins {
				lowest, highest = min(lowest, i), max(highest, i)
			}
		}
	}
	return lowest, max(0, highest-lowest+1)
}

// blocks are a record's, in the form that is fast to draw from.
type blocks struct {
	lowest, width int
	all           []packedBlock
}

type packedBlock struct {
	requests, failed int
	bins             [][2]int // place and count
}

func packed(r Record, lowest, width int) blocks {
	p := blocks{lowest: lowest, width: width}
	for _, b := range r.Blocks {
		block := packedBlock{requests: b.Requests, failed: b.Failed}
		for at, n := range b.Bins {
			block.bins = append(block.bins, [2]int{at - lowest, n})
		}
		p.all = append(p.all, block)
	}
	return p
}

// sum adds up the blocks: as they are, or as many drawn at random with replacement.
func (b blocks) sum(rng *rand.Rand) total {
	t := total{lowest: b.lowest, bins: make([]int, b.width)}
	for i := range b.all {
		if rng != nil {
			i = rng.IntN(len(b.all))
		}
		block := b.all[i]
		t.requests += block.requests
		t.failed += block.failed
		for _, bin := range block.bins {
			t.bins[bin[0]] += bin[1]
		}
	}
	return t
}
