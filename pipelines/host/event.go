package host

import (
	"fmt"
	"slices"
	"strings"
)

// Event is what started a run.
type Event string

// The events.
const (
	// Push means that commits came to a branch.
	Push Event = "push"
	// PullRequest means that a pull or merge request was opened or changed.
	PullRequest Event = "pull_request"
	// Tag means that a tag was pushed, or released.
	Tag Event = "tag"
	// Schedule means that a timer fired.
	Schedule Event = "schedule"
	// Manual means that a person, or another pipeline on a person's behalf, started the run.
	Manual Event = "manual"
)

// Events lists all events.
var Events = []Event{Push, PullRequest, Tag, Schedule, Manual}

// ParseEvent returns the event of that name.
func ParseEvent(name string) (Event, error) {
	if !slices.Contains(Events, Event(name)) {
		return "", fmt.Errorf("unknown event %q: use push, pull_request, tag, schedule or manual", name)
	}
	return Event(name), nil
}

// UsageError means that a flag's value can't be used.
type UsageError struct {
	// Flag is the flag's name with its dashes, for example "--event".
	Flag string
	// Problem is what is wrong with the value, and what is allowed.
	Problem string
}

func (e *UsageError) Error() string { return e.Flag + ": " + e.Problem }

// ExitCode is the status of a process that ends with this error.
func (e *UsageError) ExitCode() int { return 2 }

func usage(flag, format string, args ...any) error {
	return &UsageError{Flag: flag, Problem: fmt.Sprintf(format, args...)}
}

// checkRefName tells what is wrong with a branch's or tag's name, by the rules of git-check-ref-format(1).
func checkRefName(name string) string {
	switch {
	case strings.HasPrefix(name, "-"):
		return "a name can't begin with a dash"
	case strings.HasPrefix(name, "/"), strings.HasSuffix(name, "/"), strings.Contains(name, "//"):
		return "a name can't have an empty part between slashes"
	case strings.Contains(name, ".."), strings.Contains(name, "@{"), name == "@", strings.HasSuffix(name, "."):
		return `a name can't contain "..", "@{", be "@" or end with a dot`
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return `no part of a name can begin with a dot or end with ".lock"`
		}
	}
	for _, c := range name {
		if c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c) {
			return fmt.Sprintf("a name can't contain %q", c)
		}
	}
	return ""
}
