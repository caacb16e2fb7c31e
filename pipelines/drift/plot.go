package drift

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plot is a picture of a distribution then and now, in the units of its view box.
type plot struct {
	Width, Height int
	Label         string
	Caption       string
	// Then are the reference's bars. What is now is a stepped line over numbers, and bars of its own for categories.
	Then, Now []bar
	Path      string
	Texts     []text
}

type bar struct{ X, Y, W, H float64 }

type text struct {
	X, Y   float64
	Anchor string
	Text   string
}

// picture draws p; a small one has no texts.
func picture(name string, p *Plot, small bool) *plot {
	if p == nil || len(p.Reference) == 0 || len(p.Reference) != len(p.Current) {
		return nil
	}
	d := &plot{Width: 380, Height: 150, Label: "distribution of " + name + " in the reference and now"}
	if small {
		d.Width, d.Height = 144, 34
	}
	if len(p.Edges) == len(p.Reference)+1 {
		d.histogram(p, small)
		return d
	}
	if small {
		d.columns(p)
	} else {
		d.rows(p)
	}
	return d
}

func highest(p *Plot) float64 {
	top := 0.0
	for i := range p.Reference {
		top = max(top, p.Reference[i], p.Current[i])
	}
	if top <= 0 {
		return 1
	}
	return top
}

func (d *plot) histogram(p *Plot, small bool) {
	bottom := float64(d.Height)
	if !small {
		bottom -= 18
		d.Texts = []text{
			{0, float64(d.Height) - 4, "start", figure(p.Edges[0])},
			{float64(d.Width) / 2, float64(d.Height) - 4, "middle", figure((p.Edges[0] + p.Edges[len(p.Edges)-1]) / 2)},
			{float64(d.Width), float64(d.Height) - 4, "end", figure(p.Edges[len(p.Edges)-1])},
		}
		d.Caption = fmt.Sprintf("share of the rows by value; the highest bar has %.0f %%", highest(p)*100)
	}
	w, top := float64(d.Width)/float64(len(p.Reference)), highest(p)
	var path strings.Builder
	for i := range p.Reference {
		h := p.Reference[i] / top * (bottom - 4)
		d.Then = append(d.Then, bar{round(float64(i) * w), round(bottom - h), round(w * .94), round(h)})
		y := round(bottom - p.Current[i]/top*(bottom-4))
		letter := "L"
		if i == 0 {
			letter = "M"
		}
		fmt.Fprintf(&path, "%s%g %gL%g %g", letter, round(float64(i)*w), y, round(float64(i+1)*w), y)
	}
	d.Path = path.String()
}

// columns are the categories of a small picture: two bars side by side each.
func (d *plot) columns(p *Plot) {
	w, top, bottom := float64(d.Width)/float64(len(p.Reference)), highest(p), float64(d.Height)
	for i := range p.Reference {
		x, then, now := float64(i)*w, p.Reference[i]/top*(bottom-2), p.Current[i]/top*(bottom-2)
		d.Then = append(d.Then, bar{round(x + w*.08), round(bottom - then), round(w * .4), round(then)})
		d.Now = append(d.Now, bar{round(x + w*.5), round(bottom - now), round(w * .4), round(now)})
	}
}

// rows are the categories with their names: two bars below each other each.
func (d *plot) rows(p *Plot) {
	const line, left, right = 26, 140, 44
	d.Height = line * len(p.Reference)
	top := highest(p)
	for i := range p.Reference {
		y, name := float64(i*line), ""
		if i < len(p.Labels) {
			name = p.Labels[i]
		}
		if runes := []rune(name); len(runes) > 22 {
			name = string(runes[:21]) + "…"
		}
		scale := float64(d.Width-left-right) / top
		d.Then = append(d.Then, bar{left, y + 2, round(p.Reference[i] * scale), 9})
		d.Now = append(d.Now, bar{left, y + 12, round(p.Current[i] * scale), 9})
		d.Texts = append(d.Texts, text{left - 6, y + 15, "end", name},
			text{round(left + max(p.Reference[i], p.Current[i])*scale + 4), y + 15, "start", fmt.Sprintf("%.0f %%", p.Current[i]*100)})
	}
	d.Caption = "share of the rows by category"
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// figure writes a number with the digits that count.
func figure(v float64) string {
	switch size := math.Abs(v); {
	case size < 1e-12:
		return "0"
	case size >= 1000 && size < 1e7:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
