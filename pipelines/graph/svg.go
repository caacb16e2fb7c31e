package graph

import (
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The measures of the drawing, in pixels. A letter of the fixed-pitch fonts named is 0.6 em wide.
const (
	margin    = 24.0
	columnGap = 72.0
	headRoom  = 78.0 // above the boxes: title and stages
	footRoom  = 56.0 // below: the legend
	padding   = 12.0

	nameSize, nameLine = 14.0, 20.0
	noteSize, noteLine = 11.5, 16.0
	letter             = 0.602

	maxNameCells  = 34
	minWidth      = 150.0
	noteCells     = 34
	maxNoteLines  = 3
	monospace     = `ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace`
	ink, soft     = "#1c2430", "#5b6675"
	frame, accent = "#8592a3", "#2457a6"
	amber         = "#b7791f"
)

// box is a node as it is drawn.
type box struct {
	name  string
	notes []string
}

func boxOf(n PlanNode) box {
	b := box{name: cut(n.Name, maxNameCells)}
	var text []string
	if n.Skip != "" {
		text = append(text, n.skipNote())
	}
	if doc := oneLine(n.Doc); doc != "" {
		text = append(text, doc)
	}
	if n.Skip == "" {
		limits := n.limits()
		if n.Always {
			limits = slices.Insert(limits, 0, "always runs")
		}
		text = append(text, strings.Join(limits, ", "))
	}
	for _, t := range text {
		b.notes = append(b.notes, wrap(t, noteCells, maxNoteLines)...)
	}
	return b
}

func (b box) height() float64 { return 2*padding + nameLine + noteLine*float64(len(b.notes)) }

func (b box) width() float64 {
	w := math.Max(minWidth, 2*padding+letter*nameSize*float64(cells(b.name)))
	for _, n := range b.notes {
		w = math.Max(w, 2*padding+letter*noteSize*float64(cells(n)))
	}
	return math.Ceil(w)
}

// SVG returns the plan as a drawing that needs nothing but itself: no scripts, fonts or style sheets from elsewhere.
// The stages are columns; a solid arrow carries a value, a dashed one gives the order alone; a skipped node has a dashed
// frame and says why. An order that follows from other arrows is left out where the graph has at most 1000 nodes.
func (p Plan) SVG() string {
	boxes := make([]box, len(p.Nodes))
	heights := make([]float64, len(p.Nodes))
	for i, n := range p.Nodes {
		boxes[i] = boxOf(n)
		heights[i] = boxes[i].height()
	}
	l := arrange(p.Nodes, heights)
	d := newDrawing(p, l, boxes)

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s" font-family="%s">`+"\n",
		d.width, d.height, d.width, d.height, escape("Plan of "+p.Graph), monospace)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape("Plan of "+p.Graph))
	b.WriteString("<defs>\n")
	for _, m := range [][2]string{{"value", accent}, {"order", frame}} {
		fmt.Fprintf(&b, `<marker id="millrace-%s" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 8 4 0 7.5z" fill="%s"/></marker>`+"\n", m[0], m[1])
	}
	b.WriteString("</defs>\n")
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="#ffffff"/>`+"\n", d.width, d.height)
	fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" font-size="18" font-weight="600" fill="%s">%s</text>`+"\n", margin, margin+16, ink, escape(p.Graph))
	for i, x := range d.x {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" font-size="%.1f" fill="%s">stage %d</text>`+"\n", x, headRoom-10, noteSize, soft, i+1)
	}
	for _, r := range l.routes {
		d.route(&b, r)
	}
	for i, n := range p.Nodes {
		d.box(&b, n, boxes[i], l.places[i])
	}
	d.legend(&b, p)
	b.WriteString("</svg>\n")
	return b.String()
}

// drawing holds where things are.
type drawing struct {
	width, height float64
	top           float64   // added to the layout's heights
	x, w          []float64 // left edge and width of each column
}

func newDrawing(p Plan, l *layout, boxes []box) *drawing {
	d := &drawing{x: make([]float64, len(l.columns)), w: make([]float64, len(l.columns))}
	low, high := math.Inf(1), math.Inf(-1)
	for i, pl := range l.places {
		d.w[pl.column] = math.Max(d.w[pl.column], boxes[i].width())
	}
	for _, column := range l.columns {
		for _, pl := range column {
			low, high = math.Min(low, pl.y-pl.height/2), math.Max(high, pl.y+pl.height/2)
		}
	}
	x := margin
	for i := range d.x {
		d.x[i] = x
		x += d.w[i] + columnGap
	}
	d.width = math.Max(x-columnGap+margin, 2*margin+letter*18*float64(cells(p.Graph)))
	d.width = math.Ceil(math.Max(d.width, 560)) // room for the legend
	if len(l.places) == 0 {
		low, high = 0, 0
	}
	d.top = headRoom - low
	d.height = math.Ceil(headRoom + high - low + footRoom)
	return d
}

// route draws an edge; it runs level through the columns between and bends in the gaps.
func (d *drawing) route(b *strings.Builder, r route) {
	kind, colour, dash := "order", frame, ` stroke-dasharray="5 4"`
	if r.value {
		kind, colour, dash = "value", accent, ""
	}
	first := r.via[0]
	x, y := d.x[first.column]+d.w[first.column], first.y+d.top
	fmt.Fprintf(b, `<path d="M%.1f %.1f`, x, y)
	for _, p := range r.via[1:] {
		px, py := d.x[p.column], p.y+d.top
		last := p == r.via[len(r.via)-1]
		if last {
			px -= 2 // the arrow's tip
		}
		bend := (px - x) / 2
		if limit := columnGap; bend > limit {
			bend = limit
		}
		fmt.Fprintf(b, "C%.1f %.1f %.1f %.1f %.1f %.1f", x+bend, y, px-bend, py, px, py)
		if x, y = px, py; !last {
			x += d.w[p.column]
			fmt.Fprintf(b, "H%.1f", x)
		}
	}
	fmt.Fprintf(b, `" fill="none" stroke="%s" stroke-width="1.5"%s marker-end="url(#millrace-%s)"/>`+"\n", colour, dash, kind)
}

func (d *drawing) box(b *strings.Builder, n PlanNode, bx box, p *place) {
	x, y, w := d.x[p.column], p.y-p.height/2+d.top, d.w[p.column]
	fill, stroke, dash, text := "#eef4fc", accent, "", ink
	switch {
	case n.Skip != "":
		fill, stroke, dash, text = "#f6f7f9", "#9aa4b2", ` stroke-dasharray="5 4"`, soft
	case n.Always:
		fill, stroke = "#fff8e6", amber
	}
	fmt.Fprintf(b, "<g><title>%s</title>\n", escape(strings.Join(append([]string{n.Name}, n.notes()...), "\n")))
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="8" fill="%s" stroke="%s" stroke-width="1.5"%s/>`+"\n", x, y, w, p.height, fill, stroke, dash)
	y += padding + nameSize
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" font-size="%.0f" font-weight="600" fill="%s">%s</text>`+"\n", x+padding, y, nameSize, text, escape(bx.name))
	y += nameLine - 2
	for _, note := range bx.notes {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" font-size="%.1f" fill="%s">%s</text>`+"\n", x+padding, y, noteSize, soft, escape(note))
		y += noteLine
	}
	b.WriteString("</g>\n")
}

// legend explains the arrows and frames that are there.
func (d *drawing) legend(b *strings.Builder, p Plan) {
	var value, order, skipped, always bool
	for _, n := range p.Nodes {
		value = value || len(n.Needs) > 0
		order = order || len(n.After) > 0
		skipped = skipped || n.Skip != ""
		always = always || n.Always && n.Skip == ""
	}
	x, y := margin, d.height-margin
	entry := func(shown bool, sample, text string) {
		if !shown {
			return
		}
		fmt.Fprintf(b, sample, x, y-4)
		fmt.Fprintf(b, "\n"+`<text x="%.1f" y="%.1f" font-size="%.1f" fill="%s">%s</text>`+"\n", x+36, y, noteSize, soft, text)
		x += 36 + letter*noteSize*float64(cells(text)) + 24
	}
	arrow := func(colour, dash, kind string) string {
		return `<path d="M%.1f %.1fh28" fill="none" stroke="` + colour + `" stroke-width="1.5"` + dash + ` marker-end="url(#millrace-` + kind + `)"/>`
	}
	entry(value, arrow(accent, "", "value"), "needs the value")
	entry(order, arrow(frame, ` stroke-dasharray="5 4"`, "order"), "runs after")
	square := func(fill, stroke, dash string) string {
		return `<path d="M%.1f %.1fm1 -6h26v12h-26z" fill="` + fill + `" stroke="` + stroke + `" stroke-width="1.5"` + dash + `/>`
	}
	entry(skipped, square("#f6f7f9", "#9aa4b2", ` stroke-dasharray="5 4"`), "skipped")
	entry(always, square("#fff8e6", amber, ""), "always runs")
}

// escape makes s fit for the text and the attributes of the drawing.
func escape(s string) string {
	var b strings.Builder
	// The builder never fails, and bytes that XML forbids are replaced.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}
