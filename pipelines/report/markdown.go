package report

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

const (
	// maxMarkdown bounds a summary in bytes: GitHub takes comments of 65,536 characters, and GitLab's limit is higher.
	maxMarkdown = 60_000
	maxRows     = 100
	maxCell     = 240
)

// Markdown returns a summary of run for a job summary or a pull request's comment: the verdict, why it failed, a table of
// the nodes, the worst findings, and what was made. It stays below GitHub's limit for comments whatever the run holds,
// and no text of a tool becomes markup, a link or a mention in it.
func Markdown(run Run) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	line("## %s %s %s", Symbol(run.Verdict), escapeMarkdown(run.Title()), run.Verdict)
	line("")
	facts := nonEmpty(escapeMarkdown(run.Ref.Repository), escapeMarkdown(run.Ref.String()),
		FormatSeconds(run.Seconds), escapeMarkdown(run.Engine.describe()))
	line("%s", strings.Join(facts, " · "))

	causes := run.Causes()
	for i, n := range causes {
		line("")
		if i == topCauses {
			line("… and %s.", count(len(causes)-topCauses, "more node that did not pass", "more nodes that did not pass"))
			break
		}
		line("**%s %s:** %s", escapeMarkdown(n.Name), n.Verdict, escapeMarkdown(orNoReason(n.Reason)))
		if lines := detail(n); len(lines) > 0 {
			line("")
			line("%s", fence(head(strings.Join(lines, "\n"), 3000)))
		}
	}

	line("")
	line("| | Node | Time | |")
	line("|---|---|---:|---|")
	rows, left := rowsOf(run)
	for _, n := range rows {
		line("| %s %s | %s | %s | %s |", Symbol(n.Verdict), n.Verdict, escapeMarkdown(n.Name), elapsed(n), escapeMarkdown(remark(n)))
	}
	if left > 0 {
		line("")
		line("… and %s.", count(left, "more node", "more nodes"))
	}

	const shown = 20
	if findings := run.Findings(); len(findings) > 0 {
		line("")
		line("### Findings")
		line("")
		line("| Severity | Where | What | Rule |")
		line("|---|---|---|---|")
		for _, f := range worst(findings, shown) {
			line("| %s | %s | %s | %s |", f.Severity, code(place(f)), escapeMarkdown(f.Message), escapeMarkdown(rule(f)))
		}
		if more := len(findings) - shown; more > 0 {
			line("")
			line("… and %s.", count(more, "more finding", "more findings"))
		}
	}

	if artifacts := artifactsOf(run); len(artifacts) > 0 {
		line("")
		line("### Artifacts")
		line("")
		line("| Name | Reference | Digest |")
		line("|---|---|---|")
		for i, a := range artifacts {
			if i == maxRows {
				line("")
				line("… and %d more.", len(artifacts)-maxRows)
				break
			}
			line("| %s | %s | %s |", escapeMarkdown(a.Name), code(a.Reference), code(a.Digest))
		}
	}
	return bound(b.String())
}

// bound cuts a text that is too long at the end of a line, and says so.
func bound(text string) string {
	if len(text) <= maxMarkdown {
		return text
	}
	text = head(text, maxMarkdown)
	text = text[:strings.LastIndexByte(text, '\n')+1]
	return text + "\n… The rest is left out: run.json and the reports have it all.\n"
}

// rowsOf returns the nodes of a table, and how many are left out. Of too many nodes it keeps those that did not pass.
func rowsOf(run Run) ([]Node, int) {
	if len(run.Nodes) <= maxRows {
		return run.Nodes, 0
	}
	rows := slices.Clone(run.Nodes)
	order := []graph.Verdict{graph.Errored, graph.Failed, graph.Inconclusive, graph.Cancelled, graph.Passed, graph.Skipped}
	slices.SortStableFunc(rows, func(a, b Node) int {
		return slices.Index(order, a.Verdict) - slices.Index(order, b.Verdict)
	})
	return rows[:maxRows], len(run.Nodes) - maxRows
}

func orNoReason(reason string) string {
	if reason = oneLine(reason); reason == "" {
		return "no reason was given"
	}
	return reason
}

// place is where a finding is, as editors take it.
func place(f Finding) string {
	if f.File == "" || f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

// rule names the tool and its rule.
func rule(f Finding) string {
	if f.Rule == "" || f.Rule == f.Tool {
		return f.Tool
	}
	return f.Tool + " " + f.Rule
}

var (
	markup = regexp.MustCompile("[\\\\`*_{}\\[\\]<>()#+!|~&$]")
	// links finds what GitHub and GitLab turn into mentions and links without any markup.
	// A zero-width space stops that; an entity would not.
	links = regexp.MustCompile(`@|://|www\.`)
)

// escapeMarkdown makes s plain text in one line of Markdown, also inside a table.
func escapeMarkdown(s string) string {
	s = oneLine(s)
	if cut := head(s, maxCell); cut != s {
		s = cut + "…"
	}
	s = strings.ReplaceAll(s, "\t", " ")
	s = links.ReplaceAllStringFunc(s, func(m string) string { return m[:1] + "\u200b" + m[1:] })
	return markup.ReplaceAllStringFunc(s, func(m string) string {
		switch m {
		case "<":
			return "&lt;"
		case ">":
			return "&gt;"
		case "&":
			return "&amp;"
		case "#":
			return "#\u200b"
		}
		return `\` + m
	})
}

// code returns s as a code span in a table's cell.
func code(s string) string {
	s = flat(s)
	if s == "" {
		return ""
	}
	if cut := head(s, maxCell); cut != s {
		s = cut + "…"
	}
	ticks := strings.Repeat("`", longestRun(s)+1)
	// A bar ends the cell even inside a code span, unless it is escaped.
	s = strings.ReplaceAll(s, "|", `\|`)
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return ticks + s + ticks
}

// fence returns text as a code block.
func fence(text string) string {
	ticks := strings.Repeat("`", max(3, longestRun(text)+1))
	return ticks + "text\n" + text + "\n" + ticks
}

// longestRun is the length of the longest run of backticks in s.
func longestRun(s string) int {
	longest, run := 0, 0
	for _, r := range s {
		if r != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}
