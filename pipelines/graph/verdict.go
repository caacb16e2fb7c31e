package graph

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Verdict says how a node, or a whole run, ended.
type Verdict string

// The verdicts, from best to worst within a run's summary; see [Worst].
const (
	// Passed means that the step ran and found nothing wrong.
	Passed Verdict = "passed"
	// Skipped means that the step did not run, or had nothing to do; its reason says why.
	Skipped Verdict = "skipped"
	// Inconclusive means that the step ran and cannot tell, for example for want of samples.
	Inconclusive Verdict = "inconclusive"
	// Cancelled means that the run was interrupted, or ended early, before the step had finished.
	Cancelled Verdict = "cancelled"
	// Failed means that the code under test is at fault.
	Failed Verdict = "failed"
	// Errored means that the machinery is at fault: an engine, a registry, the step's own code.
	Errored Verdict = "errored"
)

// severity orders the verdicts; a run's verdict is the worst of its nodes'.
var severity = []Verdict{Skipped, Passed, Cancelled, Inconclusive, Failed, Errored}

// Valid reports whether v is one of the six verdicts.
func (v Verdict) Valid() bool { return slices.Contains(severity, v) }

// ExitCode returns the process exit status that stands for v: 0 passed or skipped,
// 1 failed, 3 errored, 4 inconclusive, 130 cancelled.
// Status 2 is left for usage and configuration errors, which have no verdict.
func (v Verdict) ExitCode() int {
	switch v {
	case Passed, Skipped:
		return 0
	case Failed:
		return 1
	case Inconclusive:
		return 4
	case Cancelled:
		return 130
	default:
		return 3
	}
}

// UnmarshalJSON rejects a verdict that does not exist.
func (v *Verdict) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	if !Verdict(s).Valid() {
		return fmt.Errorf("unknown verdict %q", s)
	}
	*v = Verdict(s)
	return nil
}

// Worst returns the worst of the verdicts: errored, failed, inconclusive, cancelled, passed, skipped.
// Without any it is skipped: nothing ran.
func Worst(verdicts ...Verdict) Verdict {
	worst := Skipped
	for _, v := range verdicts {
		if slices.Index(severity, v) > slices.Index(severity, worst) {
			worst = v
		}
	}
	return worst
}

// Judged is a step's result that says itself how the step ended.
// A node whose value is not Judged has passed when its step returned no error.
type Judged interface {
	// Judgement returns the verdict and, unless it is passed, the reason in one line.
	Judgement() (Verdict, string)
}
