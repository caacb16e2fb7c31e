package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// The reasons of nodes that a run leaves out because an earlier one has seen to them.
const (
	passedBefore = "passed in the last run"
	passedOnOld  = "passed before the source changed"
)

// lastRun is the run that --from-failed takes up.
type lastRun struct {
	file   string
	record report.Run
}

// keptRecord is where the record of the last run on a source is kept.
func keptRecord(cache, source string) string {
	sum := sha256.Sum256([]byte(source))
	return filepath.Join(cache, "runs", hex.EncodeToString(sum[:8])+".json")
}

// keep keeps the record of a run for --from-failed. That it can't is no reason to disturb the run: --from-failed will say
// that there is none.
func keep(on *engine.Engine, source string, record report.Run) {
	data, err := record.Encode()
	if err != nil {
		return
	}
	file := keptRecord(on.Embedded().Cache, source)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return
	}
	_ = write(filepath.Dir(file), filepath.Base(file), data)
}

// open reads the record of the last run, and says what is wrong with it before anything runs. Where neither flags nor a CI host say
// what this run is for, it is for what the last one was.
func (l *lastRun) open(ctx context.Context, s *streams, p *prepared, g *graph.Graph) error {
	none := fmt.Errorf("there is no record of a run on %s: begin with: %s", p.Source, p.command("ci-cd"))
	if p.Out != "" {
		l.file = filepath.Join(p.Out, "run.json")
		none = fmt.Errorf("there is no record of a run in %s: leave out --out for the last run on this source, or begin with: %s", p.Out, p.command("ci-cd", "--out", p.Out))
	} else {
		own, err := engine.NewEmbedded(os.Getenv, nil)
		if err != nil {
			return usageError{err}
		}
		l.file = keptRecord(own.Cache, p.source)
	}
	data, err := os.ReadFile(l.file)
	if errors.Is(err, fs.ErrNotExist) {
		return usageError{none}
	}
	if err == nil {
		l.record, err = report.DecodeRun(data)
	}
	if err != nil {
		return usageError{fmt.Errorf("the record of the last run, %s: %w", l.file, err)}
	}
	if err := l.fits(g.Plan()); err != nil {
		return err
	}
	if p.ref.Host == host.Local && p.Event == "" && p.Ref == "" && l.record.Ref.Event != "" {
		p.Event, p.Ref = flagsOf(l.record.Ref)
		if p.ref, err = p.detectRef(ctx, p.source); err != nil {
			return fmt.Errorf("take the event and the ref from the record of the last run, %s: %w", l.file, err)
		}
		fmt.Fprintf(s.stderr, "note: this run is for %q, as the last one was: --event and --ref set it otherwise\n", purpose(l.record.Ref))
		return nil
	}
	now := pipelines.NewRun(&graph.Result{}, p.ref, report.Engine{}).Ref
	if before, this := purpose(l.record.Ref), purpose(now); before != this {
		fmt.Fprintf(s.stderr, "note: the last run was for %q, and this one is for %q; --event and --ref set it\n", before, this)
	}
	return nil
}

// purpose is what a run is for, whatever the commit: it decides what is published.
func purpose(ref report.Ref) string {
	return report.Ref{Event: ref.Event, Branch: ref.Branch, Tag: ref.Tag, PullRequest: ref.PullRequest}.String()
}

// flagsOf returns --event and --ref as they are given for a run that is for ref.
func flagsOf(ref report.Ref) (event, name string) {
	switch {
	case ref.PullRequest > 0:
		name = strconv.Itoa(ref.PullRequest)
	case ref.Event == string(host.Push):
		name = ref.Branch
	case ref.Event == string(host.Tag):
		name = ref.Tag
	case ref.Tag != "":
		name = "refs/tags/" + ref.Tag // a short name might be a branch's
	case ref.Branch != "":
		name = "refs/heads/" + ref.Branch
	}
	return ref.Event, name
}

// fits checks that the record is one of this graph, and that there is something to do.
func (l *lastRun) fits(plan graph.Plan) error {
	if l.record.Graph != plan.Graph {
		return usagef("%s is the record of a run of %s, and this is %s", l.file, l.record.Graph, plan.Graph)
	}
	known := map[string]bool{}
	for _, n := range plan.Nodes {
		known[n.Name] = true
	}
	for _, n := range l.record.Nodes {
		if !known[n.Name] {
			return usagef("%s is the record of another version of %s, with a node %s", l.file, plan.Graph, n.Name)
		}
	}
	if !slices.ContainsFunc(l.record.Nodes, unfinished) {
		if l.record.Error != "" {
			return usagef("no step of the last run, at %s, failed, but the run itself: %s", l.at(), l.record.Error)
		}
		return usagef("nothing failed in the last run, at %s: there is nothing to run again", l.at())
	}
	return nil
}

func (l *lastRun) at() string { return l.record.Started.Local().Format(time.DateTime) }

// unfinished reports whether a node is still to be run to a good end.
func unfinished(n report.Node) bool {
	return n.Verdict != graph.Passed && n.Verdict != graph.Skipped
}

// same reports whether the last run worked on the same source, and says so if not. Not to know counts as another.
func (l *lastRun) same(s *streams, source string) bool {
	if source != "" && source == l.record.Source {
		return true
	}
	fmt.Fprintf(s.stderr, "the source has changed since the last run, at %s: what comes before the steps that failed is run again too; what the change does not touch is cached\n", l.at())
	return false
}

// takeUp returns the options of a run that takes the last one up. It is a mistake if none of the nodes can run now.
func (l *lastRun) takeUp(g *graph.Graph, same bool, options []graph.RunOption) ([]graph.RunOption, error) {
	for node, reason := range l.leftOut(g.Plan(), same) {
		options = append(options, graph.Leave(reason, node))
	}
	var reasons []string
	for _, n := range g.Plan(options...).Nodes {
		if n.Skip == "" {
			return options, nil
		}
		if before, ok := l.record.Node(n.Name); ok && unfinished(before) {
			reasons = append(reasons, n.Name+": "+n.Skip)
		}
	}
	return nil, usagef("nothing of what failed in the last run, at %s, can run now: %s", l.at(), strings.Join(reasons, "; "))
}

// leftOut returns the nodes that need not or must not run, and why.
//
// What did not end well in the last run is run, and all that follows it; so is what these need the value of. What the last
// run was told to leave out stays out. What passed counts for the source that it passed on: when that has changed, what
// comes before a node that runs is run again first, for nothing is to be published that was not tested.
func (l *lastRun) leftOut(plan graph.Plan, same bool) map[string]string {
	before := map[string]report.Node{}
	for _, n := range l.record.Nodes {
		before[n.Name] = n
	}
	excluded := func(name string) bool {
		n := before[name]
		return n.Verdict == graph.Skipped && (n.Reason == graph.NotSelected || n.Reason == graph.OnRequest)
	}
	stale := func(name string) bool {
		n := before[name]
		return !same || n.Verdict == graph.Skipped && n.Reason == passedOnOld
	}
	again, runs := map[string]bool{}, map[string]bool{}
	for _, n := range plan.Nodes {
		// A node that the record lacks is as good as one that has not ended.
		last, known := before[n.Name]
		again[n.Name] = !known || unfinished(last) || slices.ContainsFunc(slices.Concat(n.Needs, n.After), func(d string) bool { return again[d] })
		runs[n.Name] = again[n.Name] && !excluded(n.Name)
	}
	// What a node comes after stands before it: from the last to the first, each is marked before it is looked at.
	for _, n := range slices.Backward(plan.Nodes) {
		without := slices.ContainsFunc(n.Needs, func(d string) bool { return before[d].Reason == graph.OnRequest })
		if !runs[n.Name] || n.Skip != "" || without {
			continue // it is held back, and nothing is run for it
		}
		for _, d := range n.Needs {
			runs[d] = true
		}
		for _, d := range n.After {
			runs[d] = runs[d] || stale(d) && !excluded(d)
		}
	}
	left := map[string]string{}
	for _, n := range plan.Nodes {
		last := before[n.Name]
		switch {
		case runs[n.Name]:
		case last.Verdict == graph.Skipped && last.Reason != passedBefore:
			left[n.Name] = last.Reason
		case stale(n.Name):
			left[n.Name] = passedOnOld
		default:
			left[n.Name] = passedBefore
		}
	}
	return left
}

// fingerprint asks, besides everything else, what identifies the content that a run works on. The function that it
// returns waits for the answer, which is empty when there is none.
func (p *prepared) fingerprint(ctx context.Context, source *dagger.Directory) func(context.Context) string {
	answer := make(chan struct{})
	var text string
	go func() {
		defer close(answer)
		digest, err := source.Digest(ctx)
		if err != nil {
			return
		}
		sum := sha256.New()
		fmt.Fprintln(sum, digest)
		if p.Config != "" {
			config, err := os.ReadFile(p.Config)
			if err != nil {
				return
			}
			sum.Write(config)
		}
		text = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	}()
	return func(ctx context.Context) string {
		select {
		case <-answer:
			return text
		case <-ctx.Done():
			return ""
		}
	}
}
