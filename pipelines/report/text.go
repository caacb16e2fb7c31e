package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

const (
	// topFindings is how many findings a summary shows for one node.
	topFindings = 5
	// topCauses is how many failed nodes a summary explains.
	topCauses = 5
	// tailLines is how much of a tool's output or an error's text a summary shows.
	tailLines = 20
	// widestName is where a node's name is cut in a table.
	widestName = 40
)

// Symbol returns the one-column sign that stands for v in summaries.
func Symbol(v graph.Verdict) string {
	switch v {
	case graph.Passed:
		return "✓"
	case graph.Failed:
		return "✗"
	case graph.Errored:
		return "!"
	case graph.Inconclusive:
		return "?"
	case graph.Cancelled:
		return "■"
	default:
		return "-"
	}
}

// FormatSeconds writes a duration as people read it: "0.4s", "12.0s", "3m05s", "2h10m".
func FormatSeconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < 59950*time.Millisecond: // what is rounded up to 60.0s is a minute
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d.Round(time.Second) < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
}

// Text returns a summary of run for a terminal or a log: what ran, a line a node, what was made, and why it failed last,
// so that nobody scrolls. It holds no colours. Lines of the table are cut to width columns; 0 means no bound.
func Text(run Run, width int) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " "))
		b.WriteByte('\n')
	}
	line("%s", fit(fmt.Sprintf("%s %s in %s", oneLine(run.Title()), run.Verdict, FormatSeconds(run.Seconds)), width))
	if facts := nonEmpty(oneLine(run.Ref.Repository), run.Ref.String(), run.Engine.describe()); len(facts) > 0 {
		line("%s", fit(strings.Join(facts, " · "), width))
	}
	line("")

	names, times := 0, 0
	for _, n := range run.Nodes {
		names = max(names, displaywidth.String(fit(oneLine(n.Name), widestName)))
		times = max(times, len(elapsed(n)))
	}
	for _, n := range run.Nodes {
		row := fmt.Sprintf("%s %s  %*s  %s",
			Symbol(n.Verdict), pad(fit(oneLine(n.Name), widestName), names), times, elapsed(n), remark(n))
		line("%s", fit(row, width))
	}

	if artifacts := artifactsOf(run); len(artifacts) > 0 {
		line("")
		names = 0
		for _, a := range artifacts {
			names = max(names, displaywidth.String(oneLine(a.Name)))
		}
		for _, a := range artifacts {
			// Not cut, because people copy them from here.
			line("%s  %s", pad(oneLine(a.Name), names), oneLine(a.Pinned()))
		}
	}

	causes := run.Causes()
	for i, n := range causes {
		line("")
		if i == topCauses {
			line("… and %s", count(len(causes)-topCauses, "more node that did not pass", "more nodes that did not pass"))
			break
		}
		line("%s %s: %s", oneLine(n.Name), n.Verdict, cmp.Or(oneLine(n.Reason), "no reason was given"))
		for _, f := range worst(n.Details, topFindings) {
			if len(n.Details) == 1 && saidBy(n.Reason, f) {
				continue
			}
			line("  %s", flat(f.String()))
		}
		if more := len(n.Details) - topFindings; more > 0 {
			line("  … and %s", count(more, "more finding", "more findings"))
		}
		for _, text := range detail(n) {
			line("  %s", text)
		}
		if n.Reports != "" {
			line("  reports: %s", n.Reports)
		}
	}
	return b.String()
}

// saidBy reports whether a reason says all that a finding does.
func saidBy(reason string, f Finding) bool {
	place := f.File
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return f.Message != "" && strings.Contains(reason, f.Message) && strings.Contains(reason, place)
}

// describe names e for a person: "embedded engine v0.19.10".
func (e Engine) describe() string {
	if e == (Engine{}) {
		return ""
	}
	kind := oneLine(e.Kind)
	switch kind {
	case "session":
		kind = "engine of the session"
	case "runner":
		kind = "engine of the environment"
	case "runtime":
		kind = "engine in a container"
	case "embedded":
		kind = "embedded engine"
	default:
		kind = strings.TrimSpace(kind + " engine")
	}
	return strings.TrimSpace(kind + " " + oneLine(e.Version))
}

// elapsed is a node's time in a table.
func elapsed(n Node) string {
	if n.Started == nil && n.Seconds == 0 {
		return "-"
	}
	return FormatSeconds(n.Seconds)
}

// remark is what a table says of a node beside its verdict: the reason, or what is worth knowing of one that passed.
func remark(n Node) string {
	var notes []string
	if reason := oneLine(n.Reason); reason != "" {
		notes = append(notes, reason)
	} else if n.Findings > 0 {
		notes = append(notes, count(n.Findings, "finding", "findings"))
	}
	if n.Attempts > 1 {
		notes = append(notes, fmt.Sprintf("%d attempts", n.Attempts))
	}
	return strings.Join(notes, ", ")
}

// detail is what helps with a node that did not pass: the rest of its error, or else, without findings, the end of its output.
func detail(n Node) []string {
	text := errorRest(n)
	if text == "" && len(n.Details) == 0 {
		text = readable(n.Output)
	}
	if text == "" {
		return nil
	}
	lines, cut := tail(text, tailLines)
	if cut {
		lines = "[…]\n" + lines
	}
	return strings.Split(lines, "\n")
}

// errorRest is what a node's error says beyond the reason, which is mostly the error's first line.
func errorRest(n Node) string {
	text := readable(n.Error)
	first, rest, _ := strings.Cut(text, "\n")
	if oneLine(first) == oneLine(n.Reason) {
		return strings.TrimSpace(rest)
	}
	return text
}

func artifactsOf(run Run) []Artifact {
	var all []Artifact
	for _, n := range run.Nodes {
		all = append(all, n.Artifacts...)
	}
	return all
}

// worst returns the n most severe findings, else in their order.
func worst(findings []Finding, n int) []Finding {
	sorted := slices.Clone(findings)
	slices.SortStableFunc(sorted, func(a, b Finding) int {
		return slices.Index(Severities, b.Severity) - slices.Index(Severities, a.Severity)
	})
	return sorted[:min(n, len(sorted))]
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func nonEmpty(parts ...string) []string {
	return slices.DeleteFunc(parts, func(s string) bool { return s == "" })
}

// fit cuts s to width columns as a terminal shows them; 0 means no bound.
func fit(s string, width int) string {
	if width <= 0 {
		return s
	}
	return displaywidth.TruncateString(s, width, "…")
}

// pad fills s up to width columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-displaywidth.String(s)))
}
