package notify

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

const ellipsis = "…"

// clock is how times are written; they are in UTC.
const clock = "2006-01-02 15:04:05 UTC"

// cut shortens text to at most limit bytes once each of its characters is written by encode, and ends what was cut in
// an ellipsis. It never cuts within what people see as one character, nor within what encode made of it.
//
// The limits that it serves are stated in characters, mostly without saying which: what is short enough in bytes is so
// by any count.
func cut(text string, limit int, encode func(string) string) string {
	text = strings.ToValidUTF8(text, "?")
	var b strings.Builder
	fits := 0 // the length up to which an ellipsis still fits
	for each := graphemes.FromString(text); each.Next(); {
		c := encode(each.Value())
		if b.Len()+len(c) > limit {
			return b.String()[:fits] + ellipsis
		}
		b.WriteString(c)
		if b.Len()+len(ellipsis) <= limit {
			fits = b.Len()
		}
	}
	return b.String()
}

func asIs(s string) string { return s }

// line makes text one line without control characters.
func line(text string) string {
	return strings.Join(strings.Fields(printable(text)), " ")
}

// printable drops what is no text, and puts question marks for what was none when it came.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case r >= ' ' && r != 0x7f || r == '\n' || r == '\t':
			return r
		}
		return -1
	}, text)
}

// symbol stands for a verdict at the beginning of a line.
func symbol(v graph.Verdict) string {
	switch v {
	case graph.Passed:
		return "✅"
	case graph.Failed:
		return "❌"
	case graph.Skipped, graph.Cancelled:
		return "⏹️"
	default:
		return "⚠️"
	}
}

// summary is what every form of a message shows as names and values, in this order; what is not known is left out.
func (m Message) summary() []Fact {
	took, ended := "", ""
	if m.Seconds > 0 {
		took = report.FormatSeconds(m.Seconds)
	}
	if !m.Time.IsZero() {
		ended = m.Time.Format(clock)
	}
	var facts []Fact
	for _, f := range []Fact{
		{"Verdict", string(m.Verdict)}, {"Environment", m.Where}, {"Repository", m.Repository}, {"Ref", m.Ref},
		{"Commit", shortCommit(m)}, {"Author", m.Author}, {"Took", took},
		{"Ended", ended},
	} {
		if f.Value = line(f.Value); f.Value != "" {
			facts = append(facts, f)
		}
	}
	return facts
}

func shortCommit(m Message) string {
	sha := m.Commit
	if len(sha) > 7 {
		sha = sha[:7]
	}
	return strings.TrimSpace(sha + " " + m.Subject)
}

// Text returns the message as plain text, as e-mail shows it.
func (m Message) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", line(m.Title))
	if len(m.Causes) == 0 { // else the first of them says it
		fmt.Fprintf(&b, "%s\n\n", line(m.What))
	}
	for _, f := range m.summary() {
		fmt.Fprintf(&b, "%-13s%s\n", f.Name+":", f.Value)
	}
	for _, c := range m.Causes {
		fmt.Fprintf(&b, "\n%s %s: %s\n", line(c.Node), c.Verdict, line(c.Reason))
		for l := range strings.Lines(printable(c.Detail)) {
			fmt.Fprintf(&b, "  %s\n", strings.TrimRight(l, "\n"))
		}
	}
	if len(m.Facts) > 0 {
		b.WriteByte('\n')
	}
	for _, f := range m.Facts {
		fmt.Fprintf(&b, "%s: %s\n", line(f.Name), line(f.Value))
	}
	if m.Link != "" {
		fmt.Fprintf(&b, "\n%s\n", line(m.Link))
	}
	return b.String()
}
