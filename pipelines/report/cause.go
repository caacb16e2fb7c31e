package report

// Explain returns what helps with a node that did not pass, in at most lines lines: its worst findings, or else the rest
// of its error, or else the end of what its tools printed.
func (n Node) Explain(lines int) []string {
	var all []string
	for _, f := range worst(n.Details, lines) {
		all = append(all, flat(f.String()))
	}
	if len(all) > 0 {
		return all
	}
	all = detail(n)
	return all[max(0, len(all)-lines):]
}
