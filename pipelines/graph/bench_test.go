package graph_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// benchNodes is the size that the scheduler is held to: under 1 s and under 100 MB.
const benchNodes = 10_000

func nothing(context.Context) (struct{}, error) { return struct{}{}, nil }

// BenchmarkRun10k builds and runs graphs of 10,000 steps that do nothing. Each B/op is the memory of one whole graph and run.
func BenchmarkRun10k(b *testing.B) {
	shapes := []struct {
		name  string
		build func() *graph.Graph
	}{
		{"chain", func() *graph.Graph {
			g := graph.New("chain")
			var last graph.Handle
			for i := range benchNodes {
				var opts []graph.Option
				if last != nil {
					opts = append(opts, graph.Needs(last))
				}
				last = graph.Add(g, fmt.Sprint(i), nothing, opts...)
			}
			return g
		}},
		{"fan-out and in", func() *graph.Graph {
			g := graph.New("fan")
			first := graph.Add(g, "first", nothing)
			all := make([]graph.Handle, 0, benchNodes)
			for i := range benchNodes - 2 {
				all = append(all, graph.Add(g, fmt.Sprint(i), nothing, graph.Needs(first)))
			}
			graph.Add(g, "last", nothing, graph.After(all...))
			return g
		}},
		{"random", func() *graph.Graph {
			g := graph.New("random")
			rng := rand.New(rand.NewPCG(1, 2))
			all := make([]graph.Handle, 0, benchNodes)
			for i := range benchNodes {
				var opts []graph.Option
				for range min(i, rng.IntN(6)) {
					opts = append(opts, graph.After(all[rng.IntN(len(all))]))
				}
				all = append(all, graph.Add(g, fmt.Sprint(i), nothing, opts...))
			}
			return g
		}},
		{"all options", func() *graph.Graph {
			g := graph.New("options")
			all := make([]graph.Handle, 0, benchNodes)
			for i := range benchNodes {
				opts := []graph.Option{graph.Timeout(time.Hour), graph.Retry(3, time.Second), graph.Doc("no-op")}
				if i > 10 {
					opts = append(opts, graph.Needs(all[i-10]), graph.Always())
				}
				all = append(all, graph.Add(g, fmt.Sprint(i), nothing, opts...))
			}
			return g
		}},
		{"one lock", func() *graph.Graph {
			g := graph.New("lock")
			for i := range benchNodes {
				graph.Add(g, fmt.Sprint(i), nothing, graph.Serial("bench"))
			}
			return g
		}},
	}
	for _, shape := range shapes {
		for _, parallelism := range []int{0, 4} {
			b.Run(fmt.Sprintf("%s/parallelism=%d", shape.name, parallelism), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if v := shape.build().Run(context.Background(), graph.Parallelism(parallelism)).Verdict; v != graph.Passed {
						b.Fatal(v)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/graph")
			})
		}
	}
}

// BenchmarkPlan10k draws a plan of 10,000 nodes in each form.
func BenchmarkPlan10k(b *testing.B) {
	g := graph.New("random")
	rng := rand.New(rand.NewPCG(1, 2))
	var all []graph.Handle
	for i := range benchNodes {
		var opts []graph.Option
		for range min(i, rng.IntN(6)) {
			opts = append(opts, graph.After(all[rng.IntN(len(all))]))
		}
		all = append(all, graph.Add(g, fmt.Sprint(i), nothing, opts...))
	}
	for name, draw := range map[string]func(graph.Plan) string{
		"text": graph.Plan.Text, "mermaid": graph.Plan.Mermaid, "svg": graph.Plan.SVG,
		"json": func(p graph.Plan) string { data, _ := p.JSON(); return string(data) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				draw(g.Plan())
			}
		})
	}
}
