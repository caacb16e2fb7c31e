package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity grades a finding on the one scale that every tool's own grades are mapped to.
type Severity string

// The severities, from the least to the most severe.
const (
	Info     Severity = "info"
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Severities lists all severities, the least severe first.
var Severities = []Severity{Info, Low, Medium, High, Critical}

// ParseSeverity returns the severity of that name.
func ParseSeverity(name string) (Severity, error) {
	s := Severity(strings.ToLower(name))
	if !slices.Contains(Severities, s) {
		return "", fmt.Errorf("unknown severity %q: use info, low, medium, high or critical", name)
	}
	return s, nil
}

// AtLeast reports whether s is as severe as floor, or more.
func (s Severity) AtLeast(floor Severity) bool {
	return slices.Index(Severities, s) >= slices.Index(Severities, floor)
}

// Finding is one thing that a tool has to say about the code.
type Finding struct {
	// Tool is the tool's own name, for example "flake8".
	Tool string `json:"tool"`
	// Rule is the tool's name for what it found, for example "E501"; tools without rules use their name.
	Rule string `json:"rule"`
	// Severity is the tool's grade on the common scale.
	Severity Severity `json:"severity"`
	// File is slash-separated and relative to the source's root; empty when the finding has no place.
	File string `json:"file,omitempty"`
	// Line and Column count from 1; 0 means unknown.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Message is what is wrong, without file, line and rule.
	Message string `json:"message"`
	// URL points to the rule's or advisory's page, where the tool names one.
	URL string `json:"url,omitempty"`
}

// String formats f as compilers do: file:line:column: message (tool rule).
func (f Finding) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
			if f.Column > 0 {
				fmt.Fprintf(&b, ":%d", f.Column)
			}
		}
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	if f.Rule == "" || f.Rule == f.Tool {
		fmt.Fprintf(&b, " (%s)", f.Tool)
	} else {
		fmt.Fprintf(&b, " (%s %s)", f.Tool, f.Rule)
	}
	return b.String()
}

// SortFindings orders findings by file, line, column, tool and rule, so that reports do not depend on timing.
func SortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Tool, b.Tool), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
}
