package graph_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the tests with -update to write it")
	require.Equal(t, string(want), got, "run the tests with -update if the change is meant")
}

// delivery is a graph with all that a plan can show.
func delivery() *graph.Graph {
	g := graph.New("delivery")
	lint := graph.Add(g, "lint", nothing, graph.Doc("Five Python linters, side by side"), graph.Timeout(10*time.Minute))
	test := graph.Add(g, "test", nothing, graph.After(lint), graph.Doc("pytest with coverage, at least 80 %"), graph.Timeout(30*time.Minute))
	security := graph.Add(g, "security", nothing, graph.After(lint), graph.Doc("bandit and safety"), graph.Retry(3, time.Second))
	build := graph.Add(g, "build", nothing, graph.After(lint), graph.Doc("Every Dockerfile of the source tree"), graph.Timeout(90*time.Minute))
	publish := graph.Add(g, "publish", nothing, graph.Needs(build), graph.After(test, security),
		graph.Retry(5, 2*time.Second), graph.Serial("registry"))
	staging := graph.Add(g, "deploy-staging", nothing, graph.Needs(publish), graph.Serial("cluster"), graph.Timeout(90*time.Second))
	smoke := graph.Add(g, "smoke", nothing, graph.Needs(staging), graph.Doc(`GET /health, then "one real" prediction & its <schema>`), graph.Timeout(2*time.Hour))
	production := graph.Add(g, "deploy-production", nothing, graph.Needs(publish), graph.After(smoke), graph.Serial("cluster"),
		graph.When(false, "only on a version tag"))
	graph.Add(g, "verify", nothing, graph.Needs(production))
	graph.Add(g, "notify", nothing, graph.After(lint, test, security, build, publish, production), graph.Always(),
		graph.Doc("Tells the channel how it went"))
	return g
}

// plans are the plans that the golden files hold.
func plans() map[string]graph.Plan {
	unicode := graph.New("多言語")
	data := graph.Add(unicode, "データ", nothing, graph.Doc("読み込み"))
	graph.Add(unicode, `a "quoted" <name> & more`, nothing, graph.Needs(data), graph.Doc("two lines:\nthis one is left out"))

	return map[string]graph.Plan{
		"delivery":      delivery().Plan(),
		"delivery-only": delivery().Plan(graph.Only("publish"), graph.Skip("build")),
		"empty":         graph.New("empty").Plan(),
		"unicode":       unicode.Plan(),
	}
}

func TestPlanGolden(t *testing.T) {
	for name, plan := range plans() {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".txt", plan.Text())
			golden(t, name+".mmd", plan.Mermaid())
			golden(t, name+".svg", plan.SVG())
			data, err := plan.JSON()
			require.NoError(t, err)
			golden(t, name+".json", string(data))
		})
	}
}

// What a plan says it will skip is what a run skips, with the same reason.
func TestPlanAgreesWithTheRun(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]graph.RunOption{
		nil,
		{graph.Only("publish"), graph.Skip("build")},
		{graph.Only("smoke")},
		{graph.Skip("lint", "publish")},
	} {
		plan, r := delivery().Plan(opts...), delivery().Run(t.Context(), opts...)
		for i, n := range plan.Nodes {
			require.Equal(t, n.Name, r.Nodes[i].Name)
			require.Equal(t, n.Skip, r.Nodes[i].Reason)
			require.Equal(t, n.Skip != "", r.Nodes[i].Verdict == graph.Skipped)
		}
	}
}

func TestPlanRunsNothing(t *testing.T) {
	t.Parallel()
	g := graph.New("g")
	graph.Add(g, "a", func(context.Context) (int, error) { panic("must not run") })
	p := g.Plan()
	p.Text()
	p.Mermaid()
	p.SVG()
	_, err := p.JSON()
	require.NoError(t, err)
}

func TestPlanJSONReadsBack(t *testing.T) {
	t.Parallel()
	want := delivery().Plan(graph.Only("smoke"))
	data, err := want.JSON()
	require.NoError(t, err)
	var got graph.Plan
	require.NoError(t, json.Unmarshal(data, &got))
	require.Equal(t, want, got)
	require.Error(t, json.Unmarshal([]byte(`{"nodes":[{"name":1}]}`), &got))
}

// The drawing is well-formed, asks for nothing from elsewhere and keeps the boxes of a column apart, whatever the graph.
func TestSVGOfRandomGraphs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		g := graph.New("random \x00 \xff <&>")
		var all []graph.Handle
		for i := range 1 + rng.IntN(40) {
			var opts []graph.Option
			for _, h := range all {
				if rng.IntN(6) == 0 {
					opts = append(opts, graph.After(h))
				}
			}
			all = append(all, graph.Add(g, fmt.Sprintf("node %d %s", i, strings.Repeat("é&", rng.IntN(40))), nothing,
				append(opts, graph.Doc(strings.Repeat("word ", rng.IntN(60))))...))
		}
		svg := g.Plan().SVG()
		require.Equal(t, 1, strings.Count(svg, "://"), "only the namespace")

		type rect struct {
			X, Y, Width, Height float64
		}
		var boxes []rect
		var size rect
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			start, ok := token.(xml.StartElement)
			if !ok || start.Name.Local != "rect" {
				continue
			}
			var r rect
			for _, a := range start.Attr {
				for name, field := range map[string]*float64{"x": &r.X, "y": &r.Y, "width": &r.Width, "height": &r.Height} {
					if a.Name.Local == name {
						_, err := fmt.Sscan(a.Value, field)
						require.NoError(t, err)
					}
				}
			}
			if size == (rect{}) {
				size = r
				continue
			}
			require.True(t, r.X >= 0 && r.Y >= 0 && r.X+r.Width <= size.Width && r.Y+r.Height <= size.Height, "seed %d: a box is cut off", seed)
			for _, o := range boxes {
				apart := r.X >= o.X+o.Width || o.X >= r.X+r.Width || r.Y >= o.Y+o.Height || o.Y >= r.Y+r.Height
				require.True(t, apart, "seed %d: two boxes overlap", seed)
			}
			boxes = append(boxes, r)
		}
		require.Len(t, boxes, len(all))
	}
}

// A graph too large for bends and for leaving out implied edges is drawn all the same, with every edge.
func TestSVGOfALargeGraph(t *testing.T) {
	t.Parallel()
	g := graph.New("large")
	first := graph.Add(g, "first", nothing)
	last := first
	edges := 0
	for i := range 1100 {
		last = graph.Add(g, fmt.Sprint(i), nothing, graph.Needs(last), graph.After(first))
		edges += min(i+1, 2)
	}
	require.Equal(t, edges, strings.Count(g.Plan().SVG(), "marker-end")-2, "two more are in the legend")
}
