package graph

import (
	"fmt"
	"slices"
	"strings"
)

// maxWaits bounds how many names of dependencies a line of a plan's text holds; the JSON has them all.
const maxWaits = 4

// Text returns the plan as an aligned table for a terminal, one line a node, in the order of the stages.
// Nodes of one stage can run side by side.
func (p Plan) Text() string {
	skipped, stages := 0, 0
	for _, n := range p.Nodes {
		stages = max(stages, n.Stage)
		if n.Skip != "" {
			skipped++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s in %s", p.Graph, count(len(p.Nodes), "node"), count(stages, "stage"))
	switch {
	case len(p.Nodes) == 0:
		b.WriteString(", nothing to run\n")
		return b.String()
	case skipped == 0:
		b.WriteString(", all run\n\n")
	default:
		fmt.Fprintf(&b, ", %d run, %d skipped\n\n", len(p.Nodes)-skipped, skipped)
	}

	table := [][]string{{"STAGE", "NODE", "RUNS", "WAITS FOR", "NOTES"}}
	nodes := slices.Clone(p.Nodes)
	slices.SortStableFunc(nodes, func(a, b PlanNode) int { return a.Stage - b.Stage })
	stage := 0
	for _, n := range nodes {
		row := []string{"", n.Name, "yes", n.waits(), strings.Join(n.notes(), "; ")}
		if n.Stage != stage {
			stage = n.Stage
			row[0] = fmt.Sprint(stage)
		}
		if n.Skip != "" {
			row[2] = "no"
		} else if n.Always {
			row[2] = "always"
		}
		table = append(table, row)
	}
	widths := make([]int, len(table[0])-1)
	for _, row := range table {
		for i := range widths {
			widths[i] = max(widths[i], cells(row[i]))
		}
	}
	for _, row := range table {
		var line strings.Builder
		for i, w := range widths {
			line.WriteString(pad(row[i], w+2))
		}
		line.WriteString(row[len(row)-1])
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// waits names what the node waits for: first the nodes whose values it reads.
func (n PlanNode) waits() string {
	names := slices.Concat(n.Needs, n.After)
	if len(names) == 0 {
		return "-"
	}
	if more := len(names) - maxWaits; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxWaits], ", "), more)
	}
	return strings.Join(names, ", ")
}

// notes says what a reader should know of the node beside its place in the graph.
func (n PlanNode) notes() []string {
	var notes []string
	if n.Skip != "" {
		notes = append(notes, n.skipNote())
	}
	if doc := oneLine(n.Doc); doc != "" {
		notes = append(notes, doc)
	}
	if n.Skip != "" {
		return notes // what bounds a node that does not run only distracts
	}
	return append(notes, n.limits()...)
}

func (n PlanNode) skipNote() string {
	reason := oneLine(n.Skip)
	if reason == OnRequest {
		return reason
	}
	return "skipped: " + reason
}

// limits says what bounds the node.
func (n PlanNode) limits() []string {
	var limits []string
	if n.Timeout > 0 {
		limits = append(limits, "timeout "+shortDuration(n.Timeout))
	}
	if n.Retries > 0 {
		limits = append(limits, fmt.Sprintf("up to %d attempts", n.Retries+1))
	}
	if n.Serial != "" {
		limits = append(limits, "lock "+n.Serial)
	}
	return limits
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
