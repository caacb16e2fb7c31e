package graph_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

func TestSoFar(t *testing.T) {
	t.Parallel()
	require.Nil(t, graph.SoFar(t.Context()))

	g := graph.New("g")
	var seen *graph.Result
	graph.Add(g, "notify", func(ctx context.Context) (int, error) { seen = graph.SoFar(ctx); return 0, nil }, graph.Last(), graph.Always())
	lint := graph.Add(g, "lint", ends(graph.Failed, "3 findings"))
	graph.Add(g, "test", nothing, graph.After(lint))
	r := g.Run(t.Context())

	require.Equal(t, graph.Failed, r.Verdict)
	require.Equal(t, "g", seen.Graph)
	require.Equal(t, graph.Failed, seen.Verdict)
	require.Equal(t, r.Started, seen.Started)
	require.Equal(t, r.Nodes[:2], seen.Nodes, "the node itself has not ended")
	require.Equal(t, "lint", seen.Cause()[0].Name)
	require.Equal(t, "notify", r.Nodes[2].Name)
}

// A step sees what it comes after, and nothing of what runs beside it.
func TestSoFarIsWhatWasBefore(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	a := graph.Add(g, "a", nothing)
	graph.Add(g, "beside", nothing)
	var names []string
	graph.Add(g, "b", func(ctx context.Context) (int, error) {
		for _, n := range graph.SoFar(ctx).Nodes {
			names = append(names, n.Name)
		}
		return 0, nil
	}, graph.Needs(a))
	require.Equal(t, graph.Passed, g.Run(t.Context()).Verdict)
	require.Equal(t, []string{"a"}, names)
}

func TestSoFarOfAnInterruptedRun(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	g := graph.New("g")
	var seen *graph.Result
	graph.Add(g, "notify", func(ctx context.Context) (int, error) { seen = graph.SoFar(ctx); return 0, ctx.Err() }, graph.Last(), graph.Always())
	graph.Add(g, "slow", func(ctx context.Context) (int, error) { interrupt(); <-ctx.Done(); return 0, ctx.Err() })
	r := g.Run(ctx)
	require.Equal(t, graph.Cancelled, r.Verdict)
	require.Equal(t, graph.Cancelled, seen.Verdict)
}

func TestNothingComesAfterLast(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	last := graph.Add(g, "notify", nothing, graph.Last())
	graph.Add(g, "late", nothing, graph.After(last))
	require.ErrorContains(t, g.Check(), `node "late": wrong handle in After: node "notify" runs last, after this one`)

	g = graph.New("g")
	clean := graph.Add(g, "clean", nothing, graph.Last())
	graph.Add(g, "notify", nothing, graph.Last(), graph.After(clean))
	require.NoError(t, g.Check())
}

// Wherever Last nodes are added, they start when all others have ended, and no edge is lost or doubled.
func TestLastInRandomGraphs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		g := graph.New("random")
		var ordinary, last []graph.Handle
		want := map[string]int{} // edges by node
		for i := range 1 + rng.IntN(30) {
			name, pool := fmt.Sprint(i), ordinary
			isLast := rng.IntN(5) == 0
			var opts []graph.Option
			if isLast {
				opts = append(opts, graph.Last())
				pool = last
			}
			for _, h := range pool {
				if rng.IntN(4) == 0 {
					opts = append(opts, graph.After(h, h))
					want[name]++
				}
			}
			h := graph.Add(g, name, nothing, opts...)
			if isLast {
				last = append(last, h)
			} else {
				ordinary = append(ordinary, h)
			}
		}
		for _, h := range last {
			want[h.Name()] += len(ordinary)
		}
		plan := g.Plan()
		for i, n := range plan.Nodes {
			require.Len(t, n.After, want[n.Name], "seed %d, node %s", seed, n.Name)
			if i < len(ordinary) {
				require.Equal(t, ordinary[i].Name(), n.Name)
			} else {
				require.Equal(t, last[i-len(ordinary)].Name(), n.Name)
			}
		}
		ended := 0
		r := g.Run(t.Context(), graph.Observe(func(e graph.Event) {
			switch e.Kind {
			case graph.Started:
				for _, h := range last {
					require.True(t, e.Node != h.Name() || ended >= len(ordinary), "seed %d: %s starts before the others have ended", seed, e.Node)
				}
			case graph.Ended:
				ended++
			}
		}))
		require.NoError(t, r.Err)
		require.NotEqual(t, graph.Errored, r.Verdict)
	}
}
