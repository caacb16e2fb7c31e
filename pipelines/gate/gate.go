// Package gate decides whether images may be deployed to an environment: they have passed another one, the hour is
// right, and a person has approved. Its functions are pure: who calls them reads the cluster and the clock.
package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// Request is what is to be deployed, and where.
type Request struct {
	// Environment is where it goes.
	Environment string
	// Images are the references of what is deployed, each with its digest: registry/name@sha256:…
	Images []string
	// Commit is what the images were built from.
	Commit string
	// Now is when it is to happen.
	Now time.Time
}

// Release is an earlier deployment to another environment, as its record there has it.
type Release struct {
	// Revision counts an environment's releases from 1.
	Revision int
	// Images are the references that were deployed, each with its digest.
	Images []string
	// Passed reports whether the rollout and what was tested after it passed.
	Passed bool
}

// Rules are the conditions of an environment. What is left out is no condition.
type Rules struct {
	// From is the environment that images must have passed.
	From string
	// Window is when deployments may happen.
	Window *Window
	// Approvers are who may approve. With them, one of them has to.
	Approvers []Approver
	// HostApproval takes an approval by the CI host's own means in place of a signed one.
	HostApproval bool
}

// Facts are what there is to meet the conditions with.
type Facts struct {
	// Releases are those of the environment From, in any order.
	Releases []Release
	// Approval is a signed approval, as [Sign] makes it; empty if there is none.
	Approval []byte
	// HostApproved names who approved by the CI host's own means; empty if nobody did.
	HostApproved string
}

// Condition is one gate, and whether it is open.
type Condition struct {
	// Name is from, window or approval.
	Name string `json:"name"`
	// Open reports whether the condition is met.
	Open bool `json:"open"`
	// Waiting reports that it is not met yet, and nothing is wrong: the hour has not come, or nobody has been asked.
	Waiting bool `json:"waiting,omitempty"`
	// Reason says why, in one line.
	Reason string `json:"reason"`
}

// Decision is the answer to a request.
type Decision struct {
	Conditions []Condition `json:"conditions"`
}

// Open reports whether all conditions are met.
func (d Decision) Open() bool {
	return !slices.ContainsFunc(d.Conditions, func(c Condition) bool { return !c.Open })
}

// Reason names every condition that is not met; empty if all are.
func (d Decision) Reason() string {
	var closed []string
	for _, c := range d.Conditions {
		if !c.Open {
			closed = append(closed, c.Reason)
		}
	}
	return strings.Join(closed, "; ")
}

// Judgement makes a Decision a [graph.Judged]: a deployment that only has to wait is skipped, one that is refused has failed.
func (d Decision) Judgement() (graph.Verdict, string) {
	switch {
	case d.Open():
		return graph.Passed, ""
	case slices.ContainsFunc(d.Conditions, func(c Condition) bool { return !c.Open && !c.Waiting }):
		return graph.Failed, d.Reason()
	default:
		return graph.Skipped, d.Reason()
	}
}

// Check holds a request against the rules. Every condition is looked at, so that one answer says all that is missing.
func Check(rules Rules, request Request, facts Facts) Decision {
	var d Decision
	add := func(name, refusal, pass string, waits bool) {
		c := Condition{Name: name, Open: refusal == "", Reason: pass}
		if refusal != "" {
			c.Reason, c.Waiting = refusal, waits
		}
		d.Conditions = append(d.Conditions, c)
	}
	if rules.From != "" {
		refusal, pass := passed(rules.From, request, facts.Releases)
		add("from", refusal, pass, false)
	}
	if rules.Window != nil {
		refusal, pass := rules.Window.check(request)
		add("window", refusal, pass, true)
	}
	if len(rules.Approvers) > 0 || rules.HostApproval {
		refusal, pass := approved(rules, request, facts)
		add("approval", refusal, pass, len(facts.Approval) == 0)
	}
	return d
}

// passed looks for a release of another environment that passed with all the images. A digest that passed in one release
// and another in the next have not passed together.
func passed(from string, request Request, releases []Release) (refusal, pass string) {
	wanted, err := digests(request.Images)
	if err != nil {
		return err.Error(), ""
	}
	if len(wanted) == 0 {
		return "no images are named, so none can have passed " + from, ""
	}
	if len(releases) == 0 {
		return fmt.Sprintf("nothing has been deployed to %s: deploy there first", from), ""
	}
	var failed *Release
	for _, r := range slices.SortedFunc(slices.Values(releases), func(a, b Release) int { return b.Revision - a.Revision }) {
		had, err := digests(r.Images)
		if err != nil || slices.ContainsFunc(wanted, func(w string) bool { return !slices.Contains(had, w) }) {
			continue
		}
		if r.Passed {
			return "", fmt.Sprintf("passed %s as revision %d", from, r.Revision)
		}
		if failed == nil {
			failed = &r
		}
	}
	if failed != nil {
		return fmt.Sprintf("revision %d of %s had these images and did not pass", failed.Revision, from), ""
	}
	return fmt.Sprintf("%s has not passed %s: no release there had %s; deploy the commit there too, or bring what runs there: ci promote --from %s --to %s",
		plural(len(wanted)), from, strings.Join(short(wanted), ", "), from, request.Environment), ""
}

// digests returns the digests of image references, sorted, each once.
func digests(images []string) ([]string, error) {
	all := make([]string, 0, len(images))
	for _, i := range images {
		_, digest, found := strings.Cut(i, "@")
		if !found || !strings.HasPrefix(digest, "sha256:") || len(digest) != len("sha256:")+64 {
			return nil, fmt.Errorf("%s has no digest: only what is named by its digest can be promoted", i)
		}
		all = append(all, digest)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// short cuts digests to what people compare.
func short(digests []string) []string {
	cut := make([]string, len(digests))
	for i, d := range digests {
		cut[i] = d[:len("sha256:")+12]
	}
	return cut
}

func plural(images int) string {
	if images == 1 {
		return "the image"
	}
	return fmt.Sprintf("the set of %d images", images)
}
