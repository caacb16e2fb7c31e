package load

import (
	_ "embed"
	"fmt"
	"html/template"
	"strings"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is the report for people.
func (t Test) page(run Record, result Result, unread string, own bool) (string, error) {
	var b strings.Builder
	err := pageTemplate.Execute(&b, map[string]any{
		"Test": t, "Run": run, "Result": result, "Verdict": string(result.Verdict), "Unread": unread, "Own": own,
		"Latency": chart("ms", latencies(run)),
		"Cores":   chart("cores", pods(result.Profiles, func(p Point) float64 { return p.Cores })),
		"Memory":  chart("MiB", pods(result.Profiles, func(p Point) float64 { return p.Memory })),
	})
	if err != nil {
		return "", fmt.Errorf("write the load test's page: %w", err)
	}
	return b.String(), nil
}

// line is a line of a chart.
type line struct {
	name   string
	x, y   []float64
	colour string
}

var colours = []string{"#0969da", "#bf3989", "#1a7f37", "#9a6700", "#8250df", "#cf222e"}

// latencies are p50 and p95 of each block.
func latencies(run Record) []line {
	if len(run.Blocks) == 0 {
		return nil
	}
	p50, p95 := line{name: "p50", colour: colours[0]}, line{name: "p95", colour: colours[1]}
	lowest, width := span([]Record{run})
	length := run.Seconds / float64(len(run.Blocks))
	for i, block := range run.Blocks {
		if block.Requests == 0 {
			continue
		}
		sum := packed(Record{Blocks: []Block{block}}, lowest, width).sum(nil)
		at := (float64(i) + 0.5) * length
		p50.x, p50.y = append(p50.x, at), append(p50.y, sum.quantile(0.5))
		p95.x, p95.y = append(p95.x, at), append(p95.y, sum.quantile(0.95))
	}
	return []line{p50, p95}
}

func pods(profiles []Profile, of func(Point) float64) []line {
	var all []line
	for i, p := range profiles {
		l := line{name: p.Pod, colour: colours[i%len(colours)]}
		for _, point := range p.Points {
			l.x, l.y = append(l.x, point.Seconds), append(l.y, of(point))
		}
		all = append(all, l)
	}
	return all
}

// chart draws lines over seconds.
func chart(unit string, lines []line) template.HTML {
	const width, height, left, bottom, top = 800.0, 220.0, 56.0, 24.0, 12.0
	var right, highest float64
	for _, l := range lines {
		for i := range l.x {
			right, highest = max(right, l.x[i]), max(highest, l.y[i])
		}
	}
	if right == 0 || highest == 0 {
		return ""
	}
	highest *= 1.05
	x := func(v float64) float64 { return left + v/right*(width-left-12) }
	y := func(v float64) float64 { return height - bottom - v/highest*(height-bottom-top) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s over time">`, width, height+16*float64(len(lines)), unit)
	for i := range 5 {
		v := highest * float64(i) / 4
		fmt.Fprintf(&b, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#8883"/><text x="%.0f" y="%.1f" text-anchor="end">%.3g</text>`,
			left, width-12, y(v), y(v), left-6, y(v)+4, v)
	}
	fmt.Fprintf(&b, `<text x="%.0f" y="%.0f">%s</text><text x="%.0f" y="%.0f" text-anchor="end">%.0f s</text>`, left+4, top+8, unit, width-12, height-6, right)
	for i, l := range lines {
		var points []string
		for j := range l.x {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(l.x[j]), y(l.y[j])))
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`, l.colour, strings.Join(points, " "))
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" style="fill:%s">%s</text>`, left, height+12+16*float64(i), l.colour, template.HTMLEscapeString(l.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // every text in it is escaped or our own
}
