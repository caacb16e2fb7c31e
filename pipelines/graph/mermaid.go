package graph

import (
	"fmt"
	"slices"
	"strings"
)

// mermaidEscaper keeps text from being read as Mermaid's own syntax, or as HTML by the page that shows it.
var mermaidEscaper = strings.NewReplacer(
	`#`, "#35;", `"`, "#quot;", `&`, "#amp;", `<`, "#lt;", `>`, "#gt;", "`", "#96;", `\`, "#92;",
)

// Mermaid returns the plan as a Mermaid flowchart, which GitHub and GitLab draw where they find it in Markdown.
// A solid arrow carries a value, a dotted one gives the order alone; a skipped node has a dashed frame.
func (p Plan) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	// Names may hold anything, so the nodes' identifiers are made of their numbers.
	ids := make(map[string]string, len(p.Nodes))
	var skipped, always []string
	for i, n := range p.Nodes {
		id := fmt.Sprintf("n%d", i+1)
		ids[n.Name] = id
		lines := []string{"<b>" + mermaidEscaper.Replace(n.Name) + "</b>"}
		for _, line := range n.notes() {
			lines = append(lines, mermaidEscaper.Replace(line))
		}
		fmt.Fprintf(&b, "  %s[\"%s\"]\n", id, strings.Join(lines, "<br/>"))
		switch {
		case n.Skip != "":
			skipped = append(skipped, id)
		case n.Always:
			always = append(always, id)
		}
	}
	for i, n := range p.Nodes {
		for _, edges := range []struct {
			arrow string
			names []string
		}{{"-->", n.Needs}, {"-.->", n.After}} {
			for _, d := range edges.names {
				if id, ok := ids[d]; ok {
					fmt.Fprintf(&b, "  %s %s n%d\n", id, edges.arrow, i+1)
				}
			}
		}
	}
	for _, class := range []struct {
		name, style string
		ids         []string
	}{
		{"skipped", "fill:#f6f7f9,stroke:#9aa4b2,stroke-dasharray:5 4,color:#5b6675", skipped},
		{"always", "fill:#fff8e6,stroke:#b7791f,color:#1c2430", always},
	} {
		if len(class.ids) > 0 {
			fmt.Fprintf(&b, "  classDef %s %s\n", class.name, class.style)
			for ids := range slices.Chunk(class.ids, 50) {
				fmt.Fprintf(&b, "  class %s %s\n", strings.Join(ids, ","), class.name)
			}
		}
	}
	return b.String()
}
