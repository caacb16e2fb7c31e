package kube

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// dryRun says what a deploy would change.
func (r *release) dryRun(ctx context.Context, exists bool) (Rollout, error) {
	all := slices.Concat(r.secrets, r.objects)
	sortObjects(all)
	if now, running := present(r.own()); running {
		stamp(all, now.Revision, now.Commit) // these marks are no change that anybody wants to read of
	}
	rollout := r.rollout(graph.Passed, "")
	if !exists {
		var b strings.Builder
		fmt.Fprintf(&b, "the namespace %s does not exist yet: all %d objects would be new\n", r.namespace, len(all))
		for _, o := range all {
			fmt.Fprintf(&b, "+ %s\n", o.ID())
		}
		rollout.Diff = b.String()
		return rollout, nil
	}
	var ask, new []Object
	for _, o := range all {
		if defines(all, o.ID()) {
			new = append(new, o)
		} else {
			ask = append(ask, o)
		}
	}
	got, err := r.shell.must(ctx, diffScript, encode(ask))
	if err != nil {
		return rollout, err
	}
	rollout.Diff = readable(got.out)
	for _, o := range new {
		rollout.Diff += fmt.Sprintf("+ %s\n", o.ID())
	}
	if rollout.Diff == "" {
		rollout.Diff = "nothing would change\n"
	}
	return rollout, nil
}

var (
	diffHead  = regexp.MustCompile(`^diff -u -N `)
	diffFile  = regexp.MustCompile(`^(?:---|\+\+\+) \S*/(?:LIVE|MERGED)-\d+/(\S+)`)
	diffNoise = regexp.MustCompile(`^[-+ ]  generation: \d+$`)
)

// readable takes the names of temporary files out of a diff.
func readable(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if diffHead.MatchString(line) || diffNoise.MatchString(line) && line[0] != ' ' {
			continue
		}
		if m := diffFile.FindStringSubmatch(line); m != nil {
			line = line[:3] + " " + m[1]
			if line[0] == '-' {
				line += " (live)"
			} else {
				line += " (this deploy)"
			}
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}
