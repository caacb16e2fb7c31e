package graph_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judged is a step's value that says how the step ended.
type judged struct {
	verdict graph.Verdict
	reason  string
}

func (j judged) Judgement() (graph.Verdict, string) { return j.verdict, j.reason }

// ends returns a step that ends with that judgement.
func ends(verdict graph.Verdict, reason string) func(context.Context) (judged, error) {
	return func(context.Context) (judged, error) { return judged{verdict, reason}, nil }
}

// blocks is a step that runs until it is cancelled.
func blocks(ctx context.Context) (struct{}, error) {
	<-ctx.Done()
	return struct{}{}, ctx.Err()
}

func breaks(context.Context) (struct{}, error) {
	return struct{}{}, errors.New("registry is down\nsecond line")
}

// summary is what a table compares: the nodes' verdicts and reasons.
func summary(r *graph.Result) map[string]string {
	s := make(map[string]string)
	for _, n := range r.Nodes {
		s[n.Name] = string(n.Verdict)
		if n.Reason != "" {
			s[n.Name] += ": " + n.Reason
		}
	}
	return s
}

func TestRunVerdicts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		build   func(g *graph.Graph)
		options []graph.RunOption
		want    map[string]string
		verdict graph.Verdict
	}{
		"nothing to do": {
			build: func(*graph.Graph) {}, want: map[string]string{}, verdict: graph.Skipped,
		},
		"all pass": {
			build: func(g *graph.Graph) {
				a := graph.Add(g, "a", nothing)
				graph.Add(g, "b", ends(graph.Passed, ""), graph.After(a, a), graph.Needs(a))
			},
			want:    map[string]string{"a": "passed", "b": "passed"},
			verdict: graph.Passed,
		},
		"an error is errored, with its first line": {
			build:   func(g *graph.Graph) { graph.Add(g, "a", breaks) },
			want:    map[string]string{"a": "errored: registry is down"},
			verdict: graph.Errored,
		},
		"a failure holds back what follows, by name, however far": {
			build: func(g *graph.Graph) {
				lint := graph.Add(g, "lint", ends(graph.Failed, "3 findings"))
				test := graph.Add(g, "test", nothing, graph.After(lint))
				graph.Add(g, "publish", nothing, graph.Needs(test))
			},
			want:    map[string]string{"lint": "failed: 3 findings", "test": "skipped: lint failed", "publish": "skipped: lint failed"},
			verdict: graph.Failed,
		},
		"a node skipped by its condition lets others follow it, but not those that need it": {
			build: func(g *graph.Graph) {
				build := graph.Add(g, "build", nothing, graph.When(true, "no"), graph.When(false, "no Dockerfile"), graph.When(false, "later"))
				publish := graph.Add(g, "publish", nothing, graph.Needs(build))
				deploy := graph.Add(g, "deploy", nothing, graph.Needs(publish))
				graph.Add(g, "notify", nothing, graph.After(deploy))
			},
			want: map[string]string{
				"build": "skipped: no Dockerfile", "publish": "skipped: needs build, which was skipped: no Dockerfile",
				"deploy": "skipped: needs build, which was skipped: no Dockerfile", "notify": "passed",
			},
			verdict: graph.Passed,
		},
		"a step that finds nothing to do is like a skipped one": {
			build: func(g *graph.Graph) {
				test := graph.Add(g, "test", ends(graph.Skipped, "no tests"))
				graph.Add(g, "coverage", nothing, graph.Needs(test))
				graph.Add(g, "build", nothing, graph.After(test))
			},
			want: map[string]string{
				"test": "skipped: no tests", "coverage": "skipped: needs test, which was skipped: no tests", "build": "passed",
			},
			verdict: graph.Passed,
		},
		"skipping a node does not undo the failure before it": {
			build: func(g *graph.Graph) {
				lint := graph.Add(g, "lint", ends(graph.Failed, "3 findings"))
				test := graph.Add(g, "test", nothing, graph.After(lint))
				graph.Add(g, "deploy", nothing, graph.After(test))
			},
			options: []graph.RunOption{graph.KeepGoing(), graph.Skip("test")},
			want:    map[string]string{"lint": "failed: 3 findings", "test": "skipped: skipped on request", "deploy": "skipped: lint failed"},
			verdict: graph.Failed,
		},
		"inconclusive holds back, and stops nothing else": {
			build: func(g *graph.Graph) {
				canary := graph.Add(g, "canary", ends(graph.Inconclusive, "12 samples of 100"))
				graph.Add(g, "promote", nothing, graph.After(canary))
				graph.Add(g, "docs", nothing)
			},
			options: []graph.RunOption{graph.Parallelism(1)},
			want:    map[string]string{"canary": "inconclusive: 12 samples of 100", "promote": "skipped: canary was inconclusive", "docs": "passed"},
			verdict: graph.Inconclusive,
		},
		"fail-fast starts nothing new, save Always nodes that have what they need": {
			build: func(g *graph.Graph) {
				lint := graph.Add(g, "lint", breaks)
				other := graph.Add(g, "other", nothing)
				graph.Add(g, "clean", nothing, graph.After(lint, other), graph.Always())
				graph.Add(g, "remove", nothing, graph.Needs(other), graph.Always())
				graph.Add(g, "undo", nothing, graph.Needs(lint), graph.Always())
			},
			options: []graph.RunOption{graph.Parallelism(1)},
			want: map[string]string{
				"lint": "errored: registry is down", "other": "cancelled: not started, because lint errored",
				"clean": "passed", "remove": "skipped: needs other, which was cancelled", "undo": "skipped: lint errored",
			},
			verdict: graph.Errored,
		},
		"fail-fast cancels what runs": {
			build: func(g *graph.Graph) {
				slow := graph.Add(g, "slow", blocks)
				graph.Add(g, "lint", ends(graph.Failed, "3 findings"))
				graph.Add(g, "next", nothing, graph.After(slow))
			},
			want: map[string]string{
				"slow": "cancelled: stopped, because lint failed", "lint": "failed: 3 findings",
				"next": "cancelled: not started, because lint failed",
			},
			verdict: graph.Failed,
		},
		"an error without a message": {
			build: func(g *graph.Graph) {
				graph.Add(g, "a", func(context.Context) (int, error) { return 0, errors.New(" \n") })
			},
			want:    map[string]string{"a": "errored: an error without a message"},
			verdict: graph.Errored,
		},
		"keep-going runs what does not depend on the failure": {
			build: func(g *graph.Graph) {
				lint := graph.Add(g, "lint", ends(graph.Failed, "3 findings"))
				graph.Add(g, "test", nothing, graph.After(lint))
				graph.Add(g, "build", nothing)
			},
			options: []graph.RunOption{graph.Parallelism(1), graph.KeepGoing()},
			want:    map[string]string{"lint": "failed: 3 findings", "test": "skipped: lint failed", "build": "passed"},
			verdict: graph.Failed,
		},
		"only selects what is needed, not what is merely before": {
			build: func(g *graph.Graph) {
				lint := graph.Add(g, "lint", breaks)
				base := graph.Add(g, "base", nothing)
				build := graph.Add(g, "build", nothing, graph.After(lint), graph.Needs(base))
				graph.Add(g, "publish", nothing, graph.Needs(build))
				graph.Add(g, "notify", nothing, graph.Always())
			},
			options: []graph.RunOption{graph.Only("publish")},
			want: map[string]string{
				"lint": "skipped: not selected", "base": "passed", "build": "passed", "publish": "passed", "notify": "skipped: not selected",
			},
			verdict: graph.Passed,
		},
		"what needs a node skipped on request is skipped": {
			build: func(g *graph.Graph) {
				build := graph.Add(g, "build", nothing)
				graph.Add(g, "publish", nothing, graph.Needs(build))
			},
			options: []graph.RunOption{graph.Skip("build"), graph.Only()},
			want:    map[string]string{"build": "skipped: skipped on request", "publish": "skipped: needs build, which was skipped on request"},
			verdict: graph.Skipped,
		},
		"a timeout is errored": {
			build:   func(g *graph.Graph) { graph.Add(g, "slow", blocks, graph.Timeout(5*time.Millisecond)) },
			want:    map[string]string{"slow": "errored: timed out after 5ms"},
			verdict: graph.Errored,
		},
		"a step that returns nothing wrong after its time is errored": {
			build: func(g *graph.Graph) {
				graph.Add(g, "slow", func(ctx context.Context) (int, error) { <-ctx.Done(); return 1, nil }, graph.Timeout(5*time.Millisecond))
			},
			want:    map[string]string{"slow": "errored: timed out after 5ms"},
			verdict: graph.Errored,
		},
		"a step that cancels itself is errored": {
			build: func(g *graph.Graph) {
				graph.Add(g, "odd", func(context.Context) (int, error) { return 0, context.Canceled })
			},
			want:    map[string]string{"odd": "errored: context canceled"},
			verdict: graph.Errored,
		},
		"a step that says it was cancelled holds back what follows": {
			build: func(g *graph.Graph) {
				odd := graph.Add(g, "odd", ends(graph.Cancelled, "by the user"))
				graph.Add(g, "next", nothing, graph.After(odd))
			},
			want:    map[string]string{"odd": "cancelled: by the user", "next": "skipped: odd was cancelled"},
			verdict: graph.Cancelled,
		},
		"an unknown verdict is errored": {
			build:   func(g *graph.Graph) { graph.Add(g, "odd", ends("", "")) },
			want:    map[string]string{"odd": `errored: the step returned the unknown verdict ""`},
			verdict: graph.Errored,
		},
		"a step that ends its goroutine is errored": {
			build: func(g *graph.Graph) {
				graph.Add(g, "odd", func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
			},
			want: map[string]string{
				"odd": "errored: the step ended its goroutine instead of returning: it called runtime.Goexit, perhaps through testing.T.FailNow",
			},
			verdict: graph.Errored,
		},
		"an Always node's own limit holds": {
			build: func(g *graph.Graph) {
				lint := graph.Add(g, "lint", breaks)
				graph.Add(g, "clean", blocks, graph.After(lint), graph.Always(), graph.Timeout(5*time.Millisecond))
			},
			want:    map[string]string{"lint": "errored: registry is down", "clean": "errored: timed out after 5ms"},
			verdict: graph.Errored,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := graph.New("g")
			tt.build(g)
			require.NoError(t, g.Check(tt.options...))
			r := g.Run(t.Context(), tt.options...)
			require.Equal(t, tt.want, summary(r))
			require.Equal(t, tt.verdict, r.Verdict)
			require.NoError(t, r.Err)
		})
	}
}

func TestValueReachesTheNextStep(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	digest := graph.Add(g, "build", func(context.Context) (string, error) { return "sha256:1", nil })
	none := graph.Add(g, "none", func(context.Context) (error, error) { return nil, nil })
	graph.Add(g, "publish", func(context.Context) (int, error) {
		if none.Value() != nil {
			return 0, errors.New("a nil value must stay nil")
		}
		return len(digest.Value()), nil
	}, graph.Needs(digest, none))

	r := g.Run(t.Context())
	require.Equal(t, graph.Passed, r.Verdict)
	require.Equal(t, g.Name(), r.Graph)
	publish, ok := r.Node("publish")
	require.True(t, ok)
	require.Equal(t, 8, publish.Value)
	require.Equal(t, "build", digest.Name())
	require.Equal(t, "sha256:1", digest.Value(), "the caller may read it after the run")
	_, ok = r.Node("no such")
	require.False(t, ok)
}

func TestValueIsGuarded(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	build := graph.Add(g, "build", func(context.Context) (string, error) { return "sha256:1", nil })
	require.PanicsWithError(t, `the value of node "build" was read before graph "g" ran`, func() { build.Value() })
	graph.Add(g, "publish", func(context.Context) (string, error) { return build.Value(), nil }, graph.After(build))
	failed := graph.Add(g, "failed", ends(graph.Failed, "no"), graph.After(build))

	r := g.Run(t.Context(), graph.KeepGoing())
	publish, _ := r.Node("publish")
	require.Equal(t, graph.Errored, publish.Verdict)
	require.Contains(t, publish.Reason, `the value of node "build" was read by a step that does not declare it: add graph.Needs`)
	require.Contains(t, publish.Stack, "TestValueIsGuarded")
	require.PanicsWithError(t, `the value of node "failed" was read, but that node has not passed: look at its record first`, func() { failed.Value() })
}

func TestPanicIsRecorded(t *testing.T) {
	t.Parallel()
	cause := errors.New("index is corrupt")
	g := graph.New("g")
	graph.Add(g, "text", func(context.Context) (int, error) { panic("boom\nmore") }, graph.Retry(3, 0))
	graph.Add(g, "error", func(context.Context) (int, error) { panic(fmt.Errorf("read: %w", cause)) })
	graph.Add(g, "runtime", func(context.Context) (int, error) { var none []int; return none[1], nil })
	graph.Add(g, "judgement", func(context.Context) (*judged, error) { return nil, nil })

	r := g.Run(t.Context(), graph.KeepGoing())
	require.Equal(t, graph.Errored, r.Verdict)
	for _, n := range r.Nodes {
		require.Equal(t, graph.Errored, n.Verdict, n.Name)
		require.Equal(t, 1, n.Attempts, n.Name)
		require.Contains(t, n.Stack, "graph_test.", n.Name)
		require.NotContains(t, n.Stack, "debug.Stack", "the stack begins where the panic was raised")
	}
	require.Equal(t, "panic: boom", r.Nodes[0].Reason)
	require.ErrorIs(t, r.Nodes[1].Err, cause)
	require.Equal(t, "panic: runtime error: index out of range [1] with length 0", r.Nodes[2].Reason)
}

func TestPartialValueOfAnErrorIsKept(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	graph.Add(g, "some", func(context.Context) (string, error) { return "half a report", errors.New("broke") })
	graph.Add(g, "none", func(context.Context) (string, error) { return "", errors.New("broke") })
	r := g.Run(t.Context(), graph.KeepGoing())
	require.Equal(t, "half a report", r.Nodes[0].Value)
	require.Nil(t, r.Nodes[1].Value)
}

func TestRetry(t *testing.T) {
	t.Parallel()
	flaky := func(failures int, err error) func(context.Context) (int, error) {
		calls := 0
		return func(context.Context) (int, error) {
			if calls++; calls <= failures {
				return 0, err
			}
			return calls, nil
		}
	}
	down := graph.Transient(fmt.Errorf("push: %w", errors.New("connection refused")))
	g := graph.New("g")
	graph.Add(g, "heals", flaky(2, down), graph.Retry(3, time.Millisecond))
	graph.Add(g, "stays", flaky(9, fmt.Errorf("publish: %w", down)), graph.Retry(3, 0))
	graph.Add(g, "permanent", flaky(9, errors.New("denied")), graph.Retry(3, time.Millisecond))
	graph.Add(g, "unasked", flaky(9, down))
	graph.Add(g, "late", flaky(1<<30, down), graph.Retry(1<<30, time.Hour), graph.Timeout(5*time.Millisecond))

	var retries []string
	r := g.Run(t.Context(), graph.KeepGoing(), graph.Observe(func(e graph.Event) {
		if e.Kind == graph.Retrying {
			retries = append(retries, fmt.Sprintf("%s %d: %s", e.Node, e.Record.Attempts, e.Record.Reason))
		}
	}))
	require.Equal(t, map[string]string{
		"heals": "passed", "stays": "errored: publish: push: connection refused", "permanent": "errored: denied",
		"unasked": "errored: push: connection refused", "late": "errored: timed out after 5ms",
	}, summary(r))
	attempts := map[string]int{}
	for _, n := range r.Nodes {
		attempts[n.Name] = n.Attempts
	}
	require.Equal(t, map[string]int{"heals": 3, "stays": 3, "permanent": 1, "unasked": 1, "late": 1}, attempts)
	require.ElementsMatch(t, []string{
		"heals 1: push: connection refused", "heals 2: push: connection refused",
		"stays 1: publish: push: connection refused", "stays 2: publish: push: connection refused",
		"late 1: push: connection refused",
	}, retries)
	late, _ := r.Node("late")
	require.ErrorIs(t, late.Err, context.DeadlineExceeded)
	require.True(t, graph.IsTransient(late.Err), "what the step said last is kept")
	require.NoError(t, graph.Transient(nil))
	require.False(t, graph.IsTransient(errors.New("denied")))
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	causes := map[string]func(context.Context) (context.Context, func()){
		"the run was interrupted": func(ctx context.Context) (context.Context, func()) {
			return context.WithCancel(ctx)
		},
		"the run's time was up": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			context.AfterFunc(ctx, cancel)
			return ctx, func() {}
		},
		"received SIGTERM": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			return ctx, func() { cancel(errors.New("received SIGTERM")) }
		},
	}
	for reason, derive := range causes {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := derive(t.Context())
			g := graph.New("g")
			first := graph.Add(g, "first", ends(graph.Inconclusive, "too few samples"))
			slow := graph.Add(g, "slow", func(ctx context.Context) (struct{}, error) { interrupt(); return blocks(ctx) })
			graph.Add(g, "next", nothing, graph.After(slow))
			graph.Add(g, "clean", func(ctx context.Context) (struct{}, error) {
				deadline, ok := ctx.Deadline()
				if !ok || time.Until(deadline) > time.Minute {
					return struct{}{}, errors.New("the clean-up is not bounded")
				}
				return struct{}{}, ctx.Err()
			}, graph.After(first, slow), graph.Always())

			r := g.Run(ctx)
			require.Equal(t, map[string]string{
				"first": "inconclusive: too few samples", "slow": "cancelled: stopped, because " + reason,
				"next": "cancelled: not started, because " + reason, "clean": "passed",
			}, summary(r))
			require.Equal(t, graph.Cancelled, r.Verdict)
			require.Empty(t, r.Cause())
		})
	}
}

func TestInterruptedBeforeTheStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := graph.New("g")
	graph.Add(g, "a", func(context.Context) (int, error) { panic("must not run") })
	graph.Add(g, "clean", nothing, graph.Always())
	r := g.Run(ctx)
	require.Equal(t, map[string]string{"a": "cancelled: not started, because the run was interrupted", "clean": "passed"}, summary(r))
	require.Equal(t, graph.Cancelled, r.Verdict)
}

func TestInterruptAfterTheLastNodeChangesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	g := graph.New("g")
	graph.Add(g, "a", func(context.Context) (int, error) { cancel(); return 1, nil })
	require.Equal(t, graph.Passed, g.Run(ctx).Verdict)
}

// A step that ignores its cancellation is given up after the grace, and its lock is not given away.
func TestStepThatIgnoresItsCancellation(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var left sync.WaitGroup
	left.Add(2)
	stubborn := func(context.Context) (string, error) {
		defer left.Done()
		<-release
		return "late", nil
	}
	t.Run("timeout", func(t *testing.T) {
		g := graph.New("g")
		slow := graph.Add(g, "slow", stubborn, graph.Timeout(5*time.Millisecond), graph.Serial("stubborn"))
		graph.Add(g, "same lock", nothing, graph.Serial("stubborn"))
		graph.Add(g, "other", nothing)
		graph.Add(g, "next", nothing, graph.After(slow))
		r := g.Run(t.Context(), graph.KeepGoing(), graph.Grace(10*time.Millisecond))
		require.Equal(t, map[string]string{
			"slow":      "errored: timed out after 5ms; the step ignored its cancellation for 10ms and was left running",
			"same lock": `errored: lock "stubborn" is still held by the step of slow, which ignored its cancellation`,
			"other":     "passed", "next": "skipped: slow errored",
		}, summary(r))
		require.GreaterOrEqual(t, r.Nodes[0].Duration, 15*time.Millisecond)
		require.Panics(t, func() { slow.Value() })
	})
	t.Run("interrupt", func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		g := graph.New("g")
		slow := graph.Add(g, "slow", func(ctx context.Context) (string, error) { interrupt(); return stubborn(ctx) }, graph.Timeout(time.Hour))
		graph.Add(g, "clean", nothing, graph.After(slow), graph.Always())
		r := g.Run(ctx, graph.Grace(10*time.Millisecond))
		require.Equal(t, map[string]string{
			"slow":  "cancelled: stopped, because the run was interrupted; the step ignored its cancellation for 10ms and was left running",
			"clean": "passed",
		}, summary(r))
		require.Equal(t, graph.Cancelled, r.Verdict)
	})
	close(release)
	left.Wait()

	// Once the step has ended after all, its lock is free again.
	g := graph.New("g")
	graph.Add(g, "same lock", nothing, graph.Serial("stubborn"))
	require.Eventually(t, func() bool { return g.Run(t.Context()).Verdict == graph.Passed }, 5*time.Second, time.Millisecond)
}

// Nodes with one lock never overlap, not even across graphs.
func TestSerial(t *testing.T) {
	t.Parallel()
	var inside, most, total atomic.Int32
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			g := graph.New("g")
			for j := range 25 {
				graph.Add(g, fmt.Sprint(j), func(context.Context) (int32, error) {
					most.Store(max(most.Load(), inside.Add(1)))
					time.Sleep(100 * time.Microsecond)
					total.Add(1)
					return inside.Add(-1), nil
				}, graph.Serial("serial test"))
			}
			if v := g.Run(t.Context(), graph.Parallelism(i)).Verdict; v != graph.Passed {
				t.Errorf("graph %d: %s", i, v)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, most.Load())
	require.EqualValues(t, 100, total.Load())
}

// Whoever waits for a lock is reached by an interrupt; an Always node waits on, within its limit.
func TestInterruptWhileWaitingForALock(t *testing.T) {
	t.Parallel()
	held, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	holder := graph.New("holder")
	graph.Add(holder, "hold", func(context.Context) (int, error) { close(held); <-release; return 0, nil }, graph.Serial("wait test"))
	go func() { defer close(done); holder.Run(context.Background()) }()
	<-held

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	g := graph.New("g")
	graph.Add(g, "first", nothing, graph.Serial("wait test"))
	graph.Add(g, "second", nothing, graph.Serial("wait test"))
	graph.Add(g, "bounded", nothing, graph.Serial("wait test"), graph.Always(), graph.Timeout(5*time.Millisecond))
	graph.Add(g, "clean", func(context.Context) (int, error) { return 0, nil }, graph.Serial("wait test"), graph.Always())
	freed := graph.Observe(func(e graph.Event) {
		if e.Node == "bounded" && e.Kind == graph.Ended {
			close(release)
		}
	})
	require.Equal(t, map[string]string{
		"first":   "cancelled: not started, because the run's time was up",
		"second":  "cancelled: not started, because the run's time was up",
		"bounded": `errored: waiting for lock "wait test": timed out after 5ms`,
		"clean":   "passed",
	}, summary(g.Run(ctx, freed)))
	<-done
}

func TestParallelism(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{1, 3} {
		var inside, most atomic.Int32
		g := graph.New("g")
		for i := range 30 {
			graph.Add(g, fmt.Sprint(i), func(context.Context) (struct{}, error) {
				now := inside.Add(1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				return struct{}{}, nil
			})
		}
		require.Equal(t, graph.Passed, g.Run(t.Context(), graph.Parallelism(bound)).Verdict)
		require.EqualValues(t, bound, most.Load())
	}
	// Without a bound, all of them run at once: each waits for all others.
	var all sync.WaitGroup
	all.Add(30)
	g := graph.New("g")
	for i := range 30 {
		graph.Add(g, fmt.Sprint(i), func(context.Context) (struct{}, error) { all.Done(); all.Wait(); return struct{}{}, nil })
	}
	require.Equal(t, graph.Passed, g.Run(t.Context(), graph.Parallelism(0)).Verdict)
}

func TestCauseIsInTheOrderOfTheFailures(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	second := make(chan struct{})
	graph.Add(g, "second", func(context.Context) (judged, error) { <-second; return judged{graph.Failed, "2"}, nil })
	first := graph.Add(g, "first", breaks)
	graph.Add(g, "third", nothing, graph.After(first))
	r := g.Run(t.Context(), graph.KeepGoing(), graph.Observe(func(e graph.Event) {
		if e.Node == "first" && e.Kind == graph.Ended {
			close(second)
		}
	}))
	var names []string
	for _, c := range r.Cause() {
		names = append(names, c.Name)
	}
	require.Equal(t, []string{"first", "second"}, names)
}

func TestObserver(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	a := graph.Add(g, "a", nothing)
	b := graph.Add(g, "b", nothing, graph.When(false, "no"), graph.After(a))
	graph.Add(g, "c", ends(graph.Failed, "3 findings"), graph.After(b))
	var events []string
	r := g.Run(t.Context(),
		graph.Observe(func(graph.Event) { panic("observer is broken") }),
		graph.Observe(func(e graph.Event) {
			events = append(events, fmt.Sprint(e.Node, " ", e.Kind, " ", e.Record.Verdict))
			require.Equal(t, e.Node, e.Record.Name)
		}))
	require.Equal(t, []string{"a started ", "a ended passed", "b ended skipped", "c started ", "c ended failed"}, events)
	require.Equal(t, graph.Errored, r.Verdict)
	require.ErrorContains(t, r.Err, "observer is broken")
	require.Equal(t, "g", r.Cause()[0].Name)
	require.Equal(t, "c", r.Cause()[1].Name)
}

func TestAGraphCanRunAgain(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	n := 0
	a := graph.Add(g, "a", func(context.Context) (int, error) { n++; return n, nil })
	for i := range 3 {
		require.Equal(t, graph.Passed, g.Run(t.Context()).Verdict)
		require.Equal(t, i+1, a.Value())
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { g.Run(t.Context()) })
	}
	wg.Wait()
	require.Equal(t, 11, n, "runs of one graph do not overlap")
}

func TestAGraphDoesNotRunItself(t *testing.T) {
	t.Parallel()
	outer, inner := graph.New("outer"), graph.New("inner")
	graph.Add(inner, "a", func(ctx context.Context) (struct{}, error) { return struct{}{}, outer.Run(ctx).Err })
	graph.Add(outer, "a", func(ctx context.Context) (struct{}, error) { return struct{}{}, inner.Run(ctx).Cause()[0].Err })
	require.Equal(t, map[string]string{
		"a": `errored: graph "outer" is run by one of its own steps: a step may only run another graph`,
	}, summary(outer.Run(t.Context())))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	other := graph.New("other")
	foreign := graph.Add(other, "foreign", nothing)
	many := graph.New("many")
	for i := range 25 {
		graph.Add(many, fmt.Sprintf("node-%02d", i), nothing)
	}
	var none *graph.Node[int]
	tests := map[string]struct {
		build   func(g *graph.Graph)
		options []graph.RunOption
		want    string
	}{
		"unknown, misspelt":    {options: []graph.RunOption{graph.Skip("pubish")}, want: `skip: graph "g" has no node "pubish"; did you mean "publish"?`},
		"unknown, swapped":     {options: []graph.RunOption{graph.Only("litn")}, want: `only: graph "g" has no node "litn"; did you mean "lint"?`},
		"unknown, cut short":   {options: []graph.RunOption{graph.Only("stag")}, want: `only: graph "g" has no node "stag"; did you mean "deploy-staging"?`},
		"unknown, in capitals": {options: []graph.RunOption{graph.Only("LINT")}, want: `only: graph "g" has no node "LINT"; did you mean "lint"?`},
		"unknown altogether":   {options: []graph.RunOption{graph.Only("xyz")}, want: `only: graph "g" has no node "xyz"; it has lint, publish, deploy-staging`},
		"empty":                {options: []graph.RunOption{graph.Only("")}, want: `only: graph "g" has no node ""; it has lint, publish, deploy-staging`},
		"both":                 {options: []graph.RunOption{graph.Only("lnt"), graph.Skip("xyz")}, want: "only: graph \"g\" has no node \"lnt\"; did you mean \"lint\"?\nskip: graph \"g\" has no node \"xyz\"; it has lint, publish, deploy-staging"},
		"duplicate":            {build: func(g *graph.Graph) { graph.Add(g, "lint", nothing) }, want: `two nodes are named "lint": names must be unique`},
		"no name":              {build: func(g *graph.Graph) { graph.Add(g, "", nothing) }, want: "a node has no name: pass one to Add"},
		"control characters":   {build: func(g *graph.Graph) { graph.Add(g, "a\x1b[31m", nothing) }, want: `node name "a\x1b[31m" holds characters that can't be printed`},
		"no step":              {build: func(g *graph.Graph) { graph.Add[int](g, "a", nil) }, want: `node "a" has no step to run: pass a function to Add`},
		"nil handle":           {build: func(g *graph.Graph) { graph.Add(g, "a", nothing, graph.After(nil)) }, want: `node "a": wrong handle in After: it is nil; use what Add returned`},
		"typed nil handle":     {build: func(g *graph.Graph) { graph.Add(g, "a", nothing, graph.Needs(none), nil) }, want: `node "a": wrong handle in Needs: it is nil; use what Add returned`},
		"foreign handle":       {build: func(g *graph.Graph) { graph.Add(g, "a", nothing, graph.Needs(foreign)) }, want: `node "a": wrong handle in Needs: it belongs to graph "other"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := graph.New("g")
			graph.Add(g, "lint", func(context.Context) (int, error) { panic("must not run") })
			graph.Add(g, "publish", nothing)
			graph.Add(g, "deploy-staging", nothing)
			if tt.build != nil {
				tt.build(g)
			}
			require.EqualError(t, g.Check(tt.options...), tt.want)
			g.Plan(tt.options...)

			r := g.Run(t.Context(), tt.options...)
			require.Equal(t, graph.Errored, r.Verdict)
			require.EqualError(t, r.Err, tt.want)
			require.Len(t, r.Cause(), 1)
			for _, n := range r.Nodes {
				require.Equal(t, graph.Skipped, n.Verdict)
				require.Contains(t, n.Reason, "nothing ran: ")
			}
		})
	}
	require.ErrorContains(t, many.Check(graph.Only("xyz")), "node-18, node-19 and 5 more")
	require.ErrorContains(t, graph.New("none").Check(graph.Only("a")), "it has no nodes")
}

func TestLeavesNothing(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	lint := graph.Add(g, "lint", nothing)
	build := graph.Add(g, "build", nothing, graph.After(lint))
	graph.Add(g, "publish", nothing, graph.Needs(build))
	graph.Add(g, "upload", nothing, graph.When(false, "no token"))
	for name, test := range map[string]struct {
		options []graph.RunOption
		want    bool
	}{
		"no options":                        {nil, false},
		"one selected":                      {[]graph.RunOption{graph.Only("lint")}, false},
		"selected and skipped":              {[]graph.RunOption{graph.Only("lint"), graph.Skip("lint")}, true},
		"what the selected one needs":       {[]graph.RunOption{graph.Only("publish"), graph.Skip("build")}, true},
		"all skipped by name":               {[]graph.RunOption{graph.Skip("lint", "build", "publish", "upload")}, true},
		"one that would not run by itself":  {[]graph.RunOption{graph.Only("upload")}, false},
		"left, which is nobody's mistake":   {[]graph.RunOption{graph.Leave("done", "lint", "build", "publish")}, false},
		"selected, and left out by a Leave": {[]graph.RunOption{graph.Only("lint"), graph.Leave("done", "lint")}, false},
	} {
		require.Equal(t, test.want, g.LeavesNothing(test.options...), name)
	}
	require.False(t, graph.New("none").LeavesNothing(graph.Only("a")))
}

func TestLeave(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	lint := graph.Add(g, "lint", func(context.Context) (int, error) { panic("must not run") })
	graph.Add(g, "test", nothing, graph.After(lint))
	graph.Add(g, "upload", nothing, graph.Needs(lint))
	graph.Add(g, "other", nothing)
	options := []graph.RunOption{graph.Leave("passed before", "lint"), graph.Leave("it is old", "other"), graph.Skip("other")}
	require.NoError(t, g.Check(options...))
	want := map[string]string{
		"lint": "passed before", "test": "", "upload": "needs lint, which was skipped: passed before", "other": graph.OnRequest,
	}
	for _, n := range g.Plan(options...).Nodes {
		require.Equal(t, want[n.Name], n.Skip, n.Name)
	}
	result := g.Run(t.Context(), options...)
	require.Equal(t, graph.Passed, result.Verdict)
	for _, n := range result.Nodes {
		require.Equal(t, want[n.Name], n.Reason, n.Name)
	}
	require.EqualError(t, g.Check(graph.Leave("why", "tset")), `leave: graph "g" has no node "tset"; did you mean "test"?`)
}

// What a step starts with its context does not outlive the step.
func TestContextEndsWithTheStep(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	contexts := make([]graph.Handle, 0, 3)
	step := func(ctx context.Context) (context.Context, error) { return ctx, nil }
	var nodes []*graph.Node[context.Context]
	for name, opts := range map[string][]graph.Option{"plain": nil, "limited": {graph.Timeout(time.Hour)}, "always": {graph.Always()}} {
		nodes = append(nodes, graph.Add(g, name, step, opts...))
		contexts = append(contexts, nodes[len(nodes)-1])
	}
	graph.Add(g, "next", func(context.Context) (int, error) {
		for _, n := range nodes {
			if n.Value().Err() == nil {
				return 0, errors.New("the context of " + n.Name() + " is still alive")
			}
		}
		return 0, nil
	}, graph.Needs(contexts...))
	require.Equal(t, graph.Passed, g.Run(t.Context()).Verdict)
}
