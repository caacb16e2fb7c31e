package graph

import (
	"cmp"
	"math/big"
	"slices"
)

// layout places a plan's nodes in columns, a column a stage, so that edges are short and seldom cross.
//
// It is the layered method of Sugiyama, Tagawa and Toda (1981): an edge over several columns gets a bend in each column
// between, the order in a column follows the mean place of the neighbours, and so do the heights.
type layout struct {
	columns [][]*place
	places  []*place // of the plan's nodes, in its order
	routes  []route
}

// place is a node, or a bend of an edge, in a column.
type place struct {
	column int
	order  int
	height float64
	y      float64 // of the middle
	before []*place
	behind []*place
}

// route is an edge: its end points and the bends between.
type route struct {
	via   []*place
	value bool
}

const (
	rowGap     = 18.0
	bendHeight = 4.0
	sweeps     = 8
	// maxBends bounds the drawing of very large graphs; beyond it, long edges run straight.
	maxBends = 40_000
	// maxReduced bounds the search for edges that follow from others, which takes quadratic memory.
	maxReduced = 1000
)

// arrange lays the nodes out; heights are those of their boxes.
func arrange(nodes []PlanNode, heights []float64) *layout {
	l := &layout{places: make([]*place, len(nodes))}
	index := make(map[string]int, len(nodes))
	for i, n := range nodes {
		index[n.Name] = i
		l.places[i] = l.add(n.Stage-1, heights[i])
	}
	bends := 0
	implied := impliedOrder(nodes, index)
	for i, n := range nodes {
		for _, edges := range []struct {
			names []string
			value bool
		}{{n.Needs, true}, {n.After, false}} {
			for _, name := range edges.names {
				if j, ok := index[name]; ok && (edges.value || !implied(j, i)) {
					bends += l.connect(l.places[j], l.places[i], edges.value, bends < maxBends)
				}
			}
		}
	}
	for sweep := range sweeps {
		l.sweep(sweep%2 == 0, func(column []*place, beside func(*place) []*place) { reorder(column, beside) })
	}
	for _, column := range l.columns {
		y := 0.0
		for _, p := range column {
			p.y = y + p.height/2
			y += p.height + rowGap
		}
	}
	for sweep := range sweeps + 1 {
		l.sweep(sweep%2 == 0, level)
	}
	return l
}

// impliedOrder returns a function that says whether the edge from node i to node j follows from others.
// It knows of none in a graph of more than maxReduced nodes.
func impliedOrder(nodes []PlanNode, index map[string]int) func(i, j int) bool {
	if len(nodes) > maxReduced {
		return func(int, int) bool { return false }
	}
	// reach[j] holds the nodes before j, and far[j] those of them with another node between.
	reach, far := make([]big.Int, len(nodes)), make([]big.Int, len(nodes))
	for j, n := range nodes {
		for _, name := range slices.Concat(n.Needs, n.After) {
			// A plan made by hand may be in any order; only what came before is known.
			if i, ok := index[name]; ok && i < j {
				far[j].Or(&far[j], &reach[i])
				reach[j].SetBit(&reach[j], i, 1)
			}
		}
		reach[j].Or(&reach[j], &far[j])
	}
	return func(i, j int) bool { return far[j].Bit(i) == 1 }
}

func (l *layout) add(column int, height float64) *place {
	for len(l.columns) <= column {
		l.columns = append(l.columns, nil)
	}
	p := &place{column: column, height: height, order: len(l.columns[column])}
	l.columns[column] = append(l.columns[column], p)
	return p
}

// connect adds an edge and returns the number of bends that it got.
func (l *layout) connect(from, to *place, value, bend bool) int {
	r := route{via: []*place{from}, value: value}
	last := from
	if bend {
		for column := from.column + 1; column < to.column; column++ {
			p := l.add(column, bendHeight)
			join(last, p)
			r.via = append(r.via, p)
			last = p
		}
	}
	join(last, to)
	r.via = append(r.via, to)
	l.routes = append(l.routes, r)
	return len(r.via) - 2
}

func join(a, b *place) {
	a.behind = append(a.behind, b)
	b.before = append(b.before, a)
}

// sweep calls f for each column from left to right with the neighbours on its left, or the other way round.
func (l *layout) sweep(right bool, f func(column []*place, beside func(*place) []*place)) {
	if right {
		for _, column := range l.columns {
			f(column, func(p *place) []*place { return p.before })
		}
		return
	}
	for _, column := range slices.Backward(l.columns) {
		f(column, func(p *place) []*place { return p.behind })
	}
}

// reorder sorts a column by the mean order of the neighbours.
func reorder(column []*place, beside func(*place) []*place) {
	mean := make(map[*place]float64, len(column))
	for _, p := range column {
		mean[p] = average(beside(p), func(q *place) float64 { return float64(q.order) }, float64(p.order))
	}
	slices.SortStableFunc(column, func(a, b *place) int { return cmp.Compare(mean[a], mean[b]) })
	for i, p := range column {
		p.order = i
	}
}

// level moves each place of a column as near as it can to the mean height of its neighbours, without a change of order
// or an overlap. That is least squares under an order: neighbours that would overlap are moved as one block.
func level(column []*place, beside func(*place) []*place) {
	type block struct {
		sum   float64
		count int
	}
	var blocks []block
	offsets := make([]float64, len(column))
	for i, p := range column {
		if i > 0 {
			offsets[i] = offsets[i-1] + (column[i-1].height+p.height)/2 + rowGap
		}
		want := average(beside(p), func(q *place) float64 { return q.y }, p.y)
		blocks = append(blocks, block{want - offsets[i], 1})
		for k := len(blocks) - 1; k > 0; k-- {
			a, b := blocks[k-1], blocks[k]
			if a.sum/float64(a.count) <= b.sum/float64(b.count) {
				break
			}
			blocks[k-1] = block{a.sum + b.sum, a.count + b.count}
			blocks = blocks[:k]
		}
	}
	i := 0
	for _, b := range blocks {
		for range b.count {
			column[i].y = b.sum/float64(b.count) + offsets[i]
			i++
		}
	}
}

func average(places []*place, of func(*place) float64, otherwise float64) float64 {
	if len(places) == 0 {
		return otherwise
	}
	sum := 0.0
	for _, p := range places {
		sum += of(p)
	}
	return sum / float64(len(places))
}
