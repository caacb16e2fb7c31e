// Package step holds what every step shares: its result, and the one place where a tool is run in a container.
package step

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// Result is what a step has to say when it has run. Steps with more to say embed it.
type Result struct {
	// Verdict is how the step ended.
	Verdict graph.Verdict
	// Reason says in one line why the verdict is what it is; empty when passed.
	Reason string
	// Err is what broke, when the verdict is errored and the parts that did not break are worth having all the same.
	Err error
	// Findings are in the order of [report.SortFindings].
	Findings []report.Finding
	// Metrics are named figures, in the unit that their name ends with: coverage_percent, tests, failures.
	Metrics map[string]float64
	// Tools maps the name of each tool that ran to its version.
	Tools map[string]string
	// Artifacts are what the step made and put somewhere, for example images.
	Artifacts []report.Artifact
	// Output is the end of what the tools printed, for a person who asks why; at most [MaxOutput] bytes a tool.
	Output string
	// Parts says how each part of a step ended that has several, by the part's name; nil for a step of one piece.
	Parts map[string]graph.Verdict
	// Reports holds the step's files; it exists also after a failure, and is nil when the step was skipped.
	Reports *dagger.Directory
}

// Judgement makes a Result a [graph.Judged].
func (r Result) Judgement() (graph.Verdict, string) { return r.Verdict, r.Reason }

// Of returns r itself; through it, all results that embed a Result can be read alike.
func (r Result) Of() Result { return r }

// Report makes a Result a [report.Source].
func (r Result) Report() report.NodeReport {
	return report.NodeReport{
		Metrics:    r.Metrics,
		Findings:   r.Findings,
		Tools:      r.Tools,
		Artifacts:  r.Artifacts,
		Output:     r.Output,
		HasReports: r.Reports != nil,
	}
}

// Skip is the result of a step that has nothing to do.
func Skip(format string, args ...any) Result {
	return Result{Verdict: graph.Skipped, Reason: fmt.Sprintf(format, args...)}
}

// Merge joins the results of parts that ran side by side: the worst verdict, every reason, all findings.
// Each part's reports lie in a folder of its name below the merged reports; base is an empty directory to build on.
func Merge(base *dagger.Directory, parts map[string]Result) Result {
	merged := Result{Metrics: map[string]float64{}, Tools: map[string]string{}, Parts: map[string]graph.Verdict{}}
	var verdicts []graph.Verdict
	var reasons, outputs []string
	var broke []error
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		part := parts[name]
		verdicts = append(verdicts, part.Verdict)
		merged.Parts[name] = part.Verdict
		broke = append(broke, part.Err)
		if part.Reason != "" {
			reasons = append(reasons, part.Reason)
		}
		if part.Output != "" {
			outputs = append(outputs, part.Output)
		}
		merged.Findings = append(merged.Findings, part.Findings...)
		merged.Artifacts = append(merged.Artifacts, part.Artifacts...)
		for k, v := range part.Metrics {
			merged.Metrics[k] += v
		}
		maps.Copy(merged.Tools, part.Tools)
		if part.Reports != nil {
			if merged.Reports == nil {
				merged.Reports = base
			}
			merged.Reports = merged.Reports.WithDirectory(name, part.Reports)
		}
	}
	merged.Verdict = graph.Worst(verdicts...)
	merged.Err = errors.Join(broke...)
	merged.Reason = strings.Join(reasons, "; ")
	merged.Output = strings.Join(outputs, "\n")
	report.SortFindings(merged.Findings)
	return merged
}
