package graph_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

var seeds = flag.Int("seeds", 500, "how many random graphs are run")

// specimen is a random node, kept beside the graph so that the run can be judged by rules written down a second time.
type specimen struct {
	handle       graph.Handle
	name         string
	needs, after []int
	behaviour    behaviour
	unmet        bool
	always       bool
	attempts     int
	lock         string

	calls    atomic.Int32
	returned atomic.Bool
}

type behaviour int

const (
	passes behaviour = iota
	takesTime
	fails
	skips
	isInconclusive
	errs
	panics
	goexits
	timesOut // heeds its cancellation
	heals    // fails with a transient error, save at its last attempt
	neverHeals
	stubborn // ignores its cancellation until the run is over
	behaviours
)

// verdict is how a step of that behaviour ends, if it runs and nobody interrupts it.
func (b behaviour) verdict() graph.Verdict {
	switch b {
	case fails:
		return graph.Failed
	case skips:
		return graph.Skipped
	case isInconclusive:
		return graph.Inconclusive
	case errs, panics, goexits, timesOut, neverHeals, stubborn:
		return graph.Errored
	default:
		return graph.Passed
	}
}

// world is a random graph and what its steps saw.
type world struct {
	graph       *graph.Graph
	nodes       []*specimen
	parallelism int
	running     atomic.Int32
	locks       map[string]*atomic.Int32
	release     chan struct{} // lets stubborn steps end

	mu       sync.Mutex
	mistakes []string
}

func (w *world) mistake(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mistakes = append(w.mistakes, fmt.Sprintf(format, args...))
}

func newWorld(rng *rand.Rand, odd bool) *world {
	w := &world{graph: graph.New("random"), locks: map[string]*atomic.Int32{}, release: make(chan struct{})}
	size := 1 + rng.IntN(40)
	density := rng.Float64() * 0.3
	for i := range size {
		s := &specimen{name: fmt.Sprintf("n%d", i), attempts: 1, unmet: rng.IntN(10) == 0, always: rng.IntN(8) == 0}
		if rng.IntN(3) == 0 {
			s.behaviour = behaviour(rng.IntN(int(behaviours)))
		} else {
			s.behaviour = behaviour(rng.IntN(2))
		}
		if s.behaviour == stubborn && !odd {
			s.behaviour = passes
		}
		var opts []graph.Option
		for j := range i {
			if rng.Float64() >= density {
				continue
			}
			if rng.IntN(2) == 0 {
				s.needs = append(s.needs, j)
				opts = append(opts, graph.Needs(w.nodes[j].handle))
			} else {
				s.after = append(s.after, j)
				opts = append(opts, graph.After(w.nodes[j].handle))
			}
		}
		if s.always {
			opts = append(opts, graph.Always())
		}
		switch s.behaviour {
		case heals, neverHeals:
			s.attempts = 2 + rng.IntN(3)
			opts = append(opts, graph.Retry(s.attempts, time.Duration(rng.IntN(2))*50*time.Microsecond))
		case timesOut, stubborn:
			opts = append(opts, graph.Timeout(time.Millisecond))
		default:
			if rng.IntN(4) == 0 {
				opts = append(opts, graph.Timeout(time.Minute), graph.Retry(3, time.Millisecond))
			}
		}
		// A lock that a stubborn step holds makes those behind it errored, or not, by chance: such steps take none.
		if s.behaviour != stubborn && rng.IntN(5) == 0 {
			s.lock = fmt.Sprintf("property %d", rng.IntN(3))
			if w.locks[s.lock] == nil {
				w.locks[s.lock] = new(atomic.Int32)
			}
			opts = append(opts, graph.Serial(s.lock))
		}
		opts = append(opts, graph.When(!s.unmet, "unmet"))
		rng.Shuffle(len(opts), func(a, b int) { opts[a], opts[b] = opts[b], opts[a] })
		w.nodes = append(w.nodes, s)
		s.handle = graph.Add(w.graph, s.name, func(ctx context.Context) (judged, error) { return w.step(ctx, s) }, opts...)
	}
	return w
}

// step is what every node runs: it checks from within what must hold while a step runs.
func (w *world) step(ctx context.Context, s *specimen) (judged, error) {
	call := int(s.calls.Add(1))
	if call > s.attempts {
		w.mistake("%s was called %d times", s.name, call)
	}
	if s.behaviour != stubborn { // one that was left running does not count
		if n := int(w.running.Add(1)); w.parallelism > 0 && n > w.parallelism {
			w.mistake("%d steps at once", n)
		}
		defer w.running.Add(-1)
	}
	if l := w.locks[s.lock]; l != nil {
		if l.Add(1) != 1 {
			w.mistake("%s shares its lock", s.name)
		}
		defer l.Add(-1)
	}
	defer s.returned.Store(true)
	for _, d := range s.needs {
		if !w.nodes[d].returned.Load() {
			w.mistake("%s ran before %s, which it needs", s.name, w.nodes[d].name)
		}
		if v := w.nodes[d].handle.(*graph.Node[judged]).Value(); v.reason != w.nodes[d].name {
			w.mistake("%s read a wrong value of %s", s.name, w.nodes[d].name)
		}
	}
	for _, d := range s.after {
		if o := w.nodes[d]; o.calls.Load() > 0 && !o.returned.Load() && o.behaviour != stubborn {
			w.mistake("%s ran before %s had ended", s.name, o.name)
		}
	}
	switch s.behaviour {
	case takesTime:
		select {
		case <-time.After(time.Duration(rand.IntN(300)) * time.Microsecond):
		case <-ctx.Done():
			return judged{}, ctx.Err()
		}
	case errs:
		return judged{}, errors.New("broken")
	case panics:
		panic("broken")
	case goexits:
		runtime.Goexit()
	case timesOut:
		<-ctx.Done()
		return judged{}, ctx.Err()
	case stubborn:
		<-w.release
	case heals, neverHeals:
		if s.behaviour == neverHeals || call < s.attempts {
			return judged{}, graph.Transient(errors.New("not yet"))
		}
	}
	return judged{s.behaviour.verdict(), s.name}, nil
}

// expected returns the verdicts of a run that keeps going and is not interrupted.
func (w *world) expected(only, skip []string) []graph.Verdict {
	selected := make([]bool, len(w.nodes))
	for i, s := range slices.Backward(w.nodes) {
		if len(only) == 0 || slices.Contains(only, s.name) {
			selected[i] = true
		}
		if selected[i] {
			for _, d := range s.needs {
				selected[d] = true
			}
		}
	}
	verdicts := make([]graph.Verdict, len(w.nodes))
	blocking := make([]bool, len(w.nodes))
	for i, s := range w.nodes {
		held, missing := false, false
		for _, d := range s.needs {
			held = held || blocking[d]
			missing = missing || verdicts[d] == graph.Skipped
		}
		for _, d := range s.after {
			held = held || blocking[d] && !s.always
		}
		if !selected[i] || slices.Contains(skip, s.name) || s.unmet || held || missing {
			verdicts[i], blocking[i] = graph.Skipped, held
			continue
		}
		verdicts[i] = s.behaviour.verdict()
		blocking[i] = slices.Contains([]graph.Verdict{graph.Failed, graph.Errored, graph.Inconclusive}, verdicts[i])
	}
	return verdicts
}

// watcher follows the events of a run and notes what breaks a rule.
type watcher struct {
	*world
	keepGoing bool
	started   map[string]bool
	ended     map[string]graph.Record
	stopped   bool
	running   int
}

func (o *watcher) observe(e graph.Event) {
	var s *specimen
	for _, n := range o.nodes {
		if n.name == e.Node {
			s = n
		}
	}
	_, over := o.ended[e.Node]
	if over {
		o.mistake("%s: %s after its end", e.Node, e.Kind)
	}
	switch e.Kind {
	case graph.Started:
		if o.started[e.Node] {
			o.mistake("%s started twice", e.Node)
		}
		o.started[e.Node] = true
		if o.running++; o.parallelism > 0 && o.running > o.parallelism {
			o.mistake("%d nodes run at once", o.running)
		}
		if o.stopped && !s.always {
			o.mistake("%s started after the stop", e.Node)
		}
		for _, d := range slices.Concat(s.needs, s.after) {
			r, ok := o.ended[o.nodes[d].name]
			switch {
			case !ok:
				o.mistake("%s started before %s had ended", s.name, r.Name)
			case slices.Contains(s.needs, d) && r.Verdict != graph.Passed:
				o.mistake("%s started though %s, which it needs, is %s", s.name, r.Name, r.Verdict)
			case !s.always && r.Verdict != graph.Passed && r.Verdict != graph.Skipped:
				o.mistake("%s started though %s is %s", s.name, r.Name, r.Verdict)
			}
		}
	case graph.Retrying:
		if !o.started[e.Node] {
			o.mistake("%s retries before its start", e.Node)
		}
	case graph.Ended:
		o.ended[e.Node] = e.Record
		if o.started[e.Node] {
			o.running--
		}
		if !e.Record.Verdict.Valid() {
			o.mistake("%s ended with %q", e.Node, e.Record.Verdict)
		}
		if e.Record.Verdict != graph.Passed && e.Record.Reason == "" {
			o.mistake("%s is %s without a reason", e.Node, e.Record.Verdict)
		}
		o.stopped = o.stopped || !o.keepGoing && (e.Record.Verdict == graph.Failed || e.Record.Verdict == graph.Errored)
	}
}

// TestRandomGraphs runs random graphs with random options. A seed that fails is a test of its own: -run 'TestRandomGraphs/seed=17$'.
func TestRandomGraphs(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			odd := seed%50 == 0 // these take long: they wait for the grace
			w := newWorld(rng, odd)
			o := &watcher{world: w, started: map[string]bool{}, ended: map[string]graph.Record{}}
			opts := []graph.RunOption{graph.Observe(o.observe), graph.Grace(time.Minute)}
			if odd {
				opts = append(opts, graph.Grace(100*time.Millisecond))
			}
			if o.keepGoing = rng.IntN(2) == 0; o.keepGoing {
				opts = append(opts, graph.KeepGoing())
			}
			if rng.IntN(2) == 0 {
				w.parallelism = 1 + rng.IntN(4)
				opts = append(opts, graph.Parallelism(w.parallelism))
			}
			var only, skip []string
			for _, s := range w.nodes {
				switch rng.IntN(20) {
				case 0:
					only = append(only, s.name)
				case 1:
					skip = append(skip, s.name)
				}
			}
			if rng.IntN(3) > 0 {
				only = nil
			}
			opts = append(opts, graph.Only(only...), graph.Skip(skip...))

			ctx, interrupt := context.WithCancel(context.Background())
			defer interrupt()
			interrupted := rng.IntN(3) == 0
			if interrupted {
				timer := time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, interrupt)
				defer timer.Stop()
			}

			plan := w.graph.Plan(opts...)
			r := w.graph.Run(ctx, opts...)

			close(w.release)
			require.Len(t, r.Nodes, len(w.nodes))
			require.Len(t, o.ended, len(w.nodes), "every node ends")
			for i, n := range r.Nodes {
				if strings.Contains(n.Reason, "left running") && w.nodes[i].behaviour != stubborn {
					require.True(t, odd)
					t.Log("the machine is so busy that an ordinary step did not end within the grace: the verdicts can't be foretold")
					return
				}
			}
			require.Empty(t, w.mistakes)
			require.NoError(t, r.Err)
			verdicts := make([]graph.Verdict, len(r.Nodes))
			for i, n := range r.Nodes {
				verdicts[i] = n.Verdict
				s := w.nodes[i]
				require.Equal(t, o.ended[n.Name], n, "the last event holds the record")
				require.Equal(t, s.calls.Load() > 0, o.started[n.Name], n.Name)
				require.Equal(t, o.started[n.Name], !n.Started.IsZero(), n.Name)
				require.Equal(t, int(s.calls.Load()), n.Attempts, n.Name)
				require.Equal(t, n.Stack != "", s.behaviour == panics && s.calls.Load() > 0, n.Name)
				if plan.Nodes[i].Skip != "" {
					require.Equal(t, graph.Skipped, n.Verdict, n.Name)
				}
				if s.calls.Load() > 0 && !interrupted && (o.keepGoing || s.always) {
					require.Equal(t, s.behaviour.verdict(), n.Verdict, n.Name)
				}
				require.Equal(t, strings.Contains(n.Reason, "left running"), s.behaviour == stubborn && s.calls.Load() > 0, "%s %s: %s", n.Name, n.Verdict, n.Reason)
			}
			if o.keepGoing && !interrupted {
				require.Equal(t, w.expected(only, skip), verdicts)
			}
			worst := graph.Worst(verdicts...)
			if interrupted && worst == graph.Inconclusive && slices.Contains(verdicts, graph.Cancelled) {
				worst = graph.Cancelled
			}
			require.Equal(t, worst, r.Verdict)
			if !interrupted && (worst == graph.Failed || worst == graph.Errored) {
				first := r.Cause()[0]
				for _, n := range r.Nodes {
					if strings.HasPrefix(n.Reason, "not started") {
						require.Equal(t, fmt.Sprintf("not started, because %s %s", first.Name, first.Verdict), n.Reason)
					}
				}
			}
		})
	}
}
