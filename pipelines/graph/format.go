package graph

import (
	"strings"
	"time"

	"golang.org/x/text/width"
)

// shortDuration writes d without the zero units that [time.Duration.String] ends in: 5m, not 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// firstLine returns the first line of the error's message that says something.
func firstLine(err error) string {
	if line := oneLine(err.Error()); line != "" {
		return line
	}
	return "an error without a message"
}

// oneLine returns the first line of s that is not blank.
func oneLine(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// cells returns how many columns s takes on a terminal with a fixed pitch.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n++
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}

// pad fills s up with blanks to n columns.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(n-cells(s), 0)) }

// cut shortens s to n columns, with an ellipsis for what is left out.
func cut(s string, n int) string {
	if cells(s) <= n {
		return s
	}
	room := n - 1
	for i, r := range s {
		if room -= cells(string(r)); room < 0 {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

// wrap breaks s into at most lines lines of at most n columns, as even as they get; what does not fit is cut.
func wrap(s string, n, lines int) []string {
	best := fill(s, n, lines)
	for n--; n > 0 && len(best) > 1; n-- {
		narrower := fill(s, n, lines)
		if len(narrower) > len(best) || strings.Join(narrower, " ") != strings.Join(best, " ") {
			break
		}
		best = narrower
	}
	return best
}

// fill breaks s into lines, each as full as it gets.
func fill(s string, n, lines int) []string {
	var out []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case cells(line)+1+cells(word) <= n || len(out) == lines-1:
			line += " " + word // the last line takes all the rest, to be cut
		default:
			out, line = append(out, cut(line, n)), word
		}
	}
	if line != "" {
		out = append(out, cut(line, n))
	}
	return out
}
