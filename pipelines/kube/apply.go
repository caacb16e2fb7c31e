package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// roll records the state before, applies the objects, waits for them, and has them checked. The lease is held.
func (r *release) roll(ctx context.Context) (Rollout, error) {
	jobs, err := r.snapshot(ctx)
	if err != nil {
		return Rollout{}, err
	}
	r.previous, _ = present(r.own())
	revision := r.nextRevision()
	stamp(r.objects, revision, r.origin.Commit)
	stamp(r.secrets, revision, r.origin.Commit)
	var conflicts []string
	if r.record.RollbackTo == 0 { // what was taken once needs no rehearsal
		if conflicts, err = r.rehearse(ctx, jobs); err != nil {
			return Rollout{}, err
		}
	}
	if r.canary != nil {
		if err := r.planCanary(ctx); err != nil {
			return Rollout{}, err
		}
	}
	if err := r.write(ctx, revision); err != nil {
		return Rollout{}, err
	}
	for _, c := range conflicts {
		r.note("took over from another manager: %s", c)
	}
	r.changed = true
	begun := time.Now()
	var waited awaited
	if r.canary != nil {
		waited, err = r.canaryRoll(ctx, jobs)
	} else {
		waited, err = r.apply(ctx, jobs, begun.Add(r.deadline))
	}
	if err == nil && waited.judged != nil && waited.judged.Verdict == graph.Inconclusive {
		return r.pause(ctx, waited)
	}
	if err == nil && waited.trouble == nil && waited.judged == nil && r.verify != nil {
		waited, err = r.check(ctx, waited)
	}
	if err != nil || waited.trouble != nil || waited.judged != nil {
		return r.revert(ctx, waited, err)
	}
	r.metrics = map[string]float64{"rollout_seconds": time.Since(begun).Seconds(), "workloads": float64(len(r.workloads()))}
	return r.finish(ctx, waited)
}

// rehearse has the server check what is about to be applied. It returns the fields that belong to other managers.
func (r *release) rehearse(ctx context.Context, jobs []string) (conflicts []string, err error) {
	var ask []Object
	for _, o := range slices.Concat(r.secrets, r.objects) {
		// Jobs that run again are deleted first; what is of a kind that comes along can't be checked yet.
		if again := o.text("kind") == "Job" && slices.Contains(jobs, o.ID().Name); !again && !defines(r.objects, o.ID()) {
			ask = append(ask, o)
		}
	}
	if len(ask) == 0 {
		return nil, nil
	}
	got, err := r.shell.must(ctx, rehearseScript, encode(ask))
	if err != nil {
		return nil, err
	}
	return conflictsOf(got.out), nil
}

// conflictsOf reads from kubectl's message which fields belong to whom.
func conflictsOf(text string) []string {
	var all []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if at := strings.Index(line, "conflict with "); at >= 0 {
			all = append(all, strings.TrimSuffix(line[at+len("conflict with "):], ":"))
		} else if strings.HasPrefix(line, "- .") && len(all) > 0 {
			all[len(all)-1] += " " + strings.TrimPrefix(line, "- ")
		}
	}
	return all
}

// apply applies the objects, and waits for them.
func (r *release) apply(ctx context.Context, jobs []string, deadline time.Time) (awaited, error) {
	workloads := r.workloads()
	args := append([]string{r.namespace, recordName(r.record.Revision), r.older, "3"}, jobs...)
	args = append(append(args, "--"), resources(workloads)...)
	r.say("applying %d objects to %s as revision %d", len(r.objects)+len(r.secretIDs), r.namespace, r.record.Revision)
	got, err := r.shell.insist(ctx, applyScript, encode(slices.Concat(r.secrets, r.objects)), args...)
	if err != nil {
		return awaited{}, err
	}
	r.record.Phase = "waiting"
	return r.await(ctx, workloads, deadline, got.part(1))
}

// check has the release checked while it is still easy to undo.
func (r *release) check(ctx context.Context, waited awaited) (awaited, error) {
	r.record.Status, r.record.Phase = Verifying, "verifying"
	if _, err := r.shell.insist(ctx, phaseScript, "", r.namespace, recordName(r.record.Revision), marked(r.record)); err != nil {
		return waited, err
	}
	r.say("checking revision %d", r.record.Revision)
	result, err := r.verify(ctx, r.rollout(graph.Passed, ""))
	if err != nil {
		return waited, fmt.Errorf("check the release: %w", err)
	}
	if result.Reports != nil {
		r.reports = r.reports.WithDirectory("checks", result.Reports)
	}
	if result.Verdict != graph.Passed && result.Verdict != graph.Skipped {
		waited.judged = &result
	} else if result.Output != "" {
		r.output = append(r.output, result.Output)
	}
	return waited, nil
}

// finish notes that the release is deployed, and clears up after the ones before.
func (r *release) finish(ctx context.Context, waited awaited) (Rollout, error) {
	ended := time.Now().UTC()
	r.record.Status, r.record.Phase, r.record.Ended = Deployed, "", &ended
	orphans, err := r.orphans(ctx)
	if err != nil {
		r.note("warning: what this release no longer has was not removed: %v", err)
	}
	gone := ""
	if len(orphans) > 0 {
		gone = encode(stubs(orphans))
	}
	args := []string{r.namespace, recordName(r.record.Revision), marked(r.record), gone}
	for _, o := range r.own() {
		if o.Status == Deployed {
			args = append(args, recordName(o.Revision))
		}
	}
	args = append(args, "--")
	if n := keptReleases - 1; len(r.releases) > n {
		for _, o := range r.releases[n:] {
			args = append(args, recordName(o.Revision))
		}
	}
	// The release is up and checked: an interrupt that comes now does not undo it.
	if _, err := r.shell.insist(context.WithoutCancel(ctx), finishScript, "", args...); err != nil {
		var refused *Refusal
		if errors.As(err, &refused) && refused.Kind != Unreachable && len(orphans) > 0 {
			r.note("warning: what this release no longer has may still be there: %v", err)
		} else {
			return r.rollout(graph.Errored, fmt.Sprintf("revision %d is up, and that could not be noted, so that the next run will revert it: %v", r.record.Revision, err)), nil
		}
	}
	for _, id := range orphans {
		r.output = append(r.output, fmt.Sprintf("removed %s, which this release no longer has", id))
	}
	r.output = append(r.output, r.running(waited)...)
	reason := fmt.Sprintf("revision %d runs", r.record.Revision)
	if r.record.RollbackTo > 0 {
		reason = fmt.Sprintf("revision %d is back, as revision %d", r.record.RollbackTo, r.record.Revision)
	}
	if r.recovered != "" {
		reason += "; " + r.recovered
	}
	return r.rollout(graph.Passed, reason), nil
}

// running lists what runs where, a line a container.
func (r *release) running(waited awaited) []string {
	var lines []string
	for _, p := range r.placed {
		pods := ""
		for _, w := range waited.state.workloads {
			if w.ID().String() == p.Workload {
				n, _ := w.up()
				pods = fmt.Sprintf(", %d of %d pods up", n, w.wanted())
			}
		}
		whose := "the manifest's own image"
		if p.Built != "" {
			whose = "built by this run"
		}
		if r.record.RollbackTo > 0 {
			whose = fmt.Sprintf("of revision %d", r.record.RollbackTo)
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s (%s%s)", p.Workload, p.Container, p.Reference, whose, pods))
	}
	return lines
}

// neverPruned are the kinds whose objects stay when a release no longer has them: data, or all that lies in them, would go too.
var neverPruned = []string{"Namespace", "PersistentVolumeClaim", "PersistentVolume", "CustomResourceDefinition", "StorageClass"}

// orphans returns the objects of the release before that this one no longer has.
func (r *release) orphans(ctx context.Context) ([]ID, error) {
	if r.previous.Revision == 0 {
		return nil, nil
	}
	c, err := r.content(ctx, r.previous.Revision)
	if err != nil {
		return nil, err
	}
	now := map[ID]bool{}
	for _, b := range r.before {
		now[b.ID] = true
	}
	for _, o := range r.objects {
		now[o.ID()] = true
	}
	var gone []ID
	for _, o := range c.Manifests {
		id := o.ID()
		if !now[id] && !slices.Contains(neverPruned, id.Kind) && id.Kind != "Job" {
			gone = append(gone, id)
		}
	}
	for _, id := range c.Secrets {
		if !now[id] {
			gone = append(gone, id)
		}
	}
	return gone, nil
}

// stubs names objects as kubectl delete takes them.
func stubs(ids []ID) []Object {
	all := make([]Object, 0, len(ids))
	for _, id := range ids {
		metadata := map[string]any{"name": id.Name}
		if id.Namespace != "" {
			metadata["namespace"] = id.Namespace
		}
		all = append(all, Object{"apiVersion": id.APIVersion, "kind": id.Kind, "metadata": metadata})
	}
	return all
}

func resources(ids []ID) []string {
	all := make([]string, 0, len(ids))
	for _, id := range ids {
		all = append(all, id.resource()+"/"+id.Name)
	}
	return all
}
