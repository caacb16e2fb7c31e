package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ask is insist, for what may have been asked together with the lease.
func (r *release) ask(ctx context.Context, script, input string, args ...string) (said, error) {
	ahead := r.ahead
	r.ahead = nil
	if ahead != nil && ahead.said != nil && ahead.script == script && slices.Equal(ahead.args, args) && ahead.said.code == 0 {
		return *ahead.said, nil
	}
	return r.shell.insist(ctx, script, input, args...)
}

// content reads the record of a revision.
func (r *release) content(ctx context.Context, revision int) (content, error) {
	got, err := r.ask(ctx, contentScript, "", r.namespace, recordName(revision))
	if err != nil {
		return content{}, err
	}
	return unpack(got.out)
}

// snapshotAsks is what the snapshot of the release's objects is asked with.
func (r *release) snapshotAsks() (input string, args []string) {
	var ask []Object
	for _, o := range r.objects {
		if !defines(r.objects, o.ID()) {
			ask = append(ask, o)
		}
	}
	if len(ask) > 0 {
		input = encode(ask)
	}
	args = []string{r.namespace}
	for _, id := range r.secretIDs {
		args = append(args, id.Name)
	}
	return input, args
}

// snapshot reads the state before. It returns the names of jobs that exist and are to run again.
func (r *release) snapshot(ctx context.Context) (jobs []string, err error) {
	input, args := r.snapshotAsks()
	got, err := r.ask(ctx, snapshotScript, input, args...)
	if err != nil {
		return nil, err
	}
	live, err := items(got.part(0))
	if err != nil {
		return nil, fmt.Errorf("read the state before: %w", err)
	}
	found := map[ID]Object{}
	for _, o := range live {
		found[o.ID()] = o
	}
	r.before = nil
	var keep []Object
	for _, o := range r.objects {
		id := o.ID()
		old, exists := found[id]
		if exists && id.Kind == "Job" {
			if old.text("metadata", "annotations", jobAnnotation) == o.text("metadata", "annotations", jobAnnotation) {
				continue // it has run, and is not to run again
			}
			jobs = append(jobs, id.Name)
		}
		keep = append(keep, o)
		b := before{ID: id}
		if exists {
			b.Object = old.cleaned()
		}
		r.before = append(r.before, b)
	}
	r.objects = keep
	secrets := strings.Fields(got.part(1))
	for _, id := range r.secretIDs {
		b := before{ID: id}
		if slices.Contains(secrets, "secret/"+id.Name) {
			b.Object = Object{}
		}
		r.before = append(r.before, b)
	}
	return jobs, nil
}

// write records the release in the cluster.
func (r *release) write(ctx context.Context, revision int) error {
	images := map[string]string{}
	for _, p := range r.placed {
		if p.Built != "" {
			images[p.Built] = p.Reference
		}
	}
	status, phase := Deploying, "recorded"
	if len(r.secretIDs) > 0 {
		status, phase = Recording, "recording"
	}
	rollbackTo := r.record.RollbackTo
	r.record = Release{
		Revision: revision, Environment: r.environment, Status: status, Phase: phase, Started: time.Now().UTC(), Holder: r.lease.identity,
		Run: r.origin.Run, Commit: r.origin.Commit, Ref: r.origin.Ref, Author: r.origin.Author, Images: images, RollbackTo: rollbackTo,
	}
	text, err := record(r.namespace, content{Release: r.record, Manifests: r.objects, Secrets: r.secretIDs, Before: r.before, Placed: r.placed}, r.secrets)
	if err != nil {
		return err
	}
	script, args := plainRecordScript, []string{}
	if len(r.secretIDs) > 0 {
		script, args = recordScript, []string{r.namespace, recordName(revision), r.older}
		for _, id := range r.secretIDs {
			args = append(args, id.Name)
		}
	}
	if _, err := r.shell.must(ctx, script, text, args...); err != nil {
		return fmt.Errorf("record the release: %w", err)
	}
	r.record.Status, r.record.Phase = Deploying, "recorded"
	return nil
}

// workloads are the objects that must come up.
func (r *release) workloads() []ID {
	var all []ID
	for _, o := range r.objects {
		if o.waitsFor() {
			all = append(all, o.ID())
		}
	}
	return all
}
