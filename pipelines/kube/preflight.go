package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// surroundings are what a release finds in its namespace.
type surroundings struct {
	// namespace is false when the namespace does not exist.
	namespace bool
	lease     leaseState
}

func (r *release) look(ctx context.Context) (surroundings, error) {
	got, err := r.shell.must(ctx, lookScript, "", r.namespace)
	if err != nil {
		return surroundings{}, err
	}
	version, err := decode([]byte(got.part(0)))
	if err != nil {
		return surroundings{}, fmt.Errorf("read the cluster's version: %w", err)
	}
	r.server = version.text("serverVersion", "gitVersion")
	found := surroundings{namespace: got.part(1) != ""}
	if text := got.part(2); text != "" {
		o, err := decode([]byte(text))
		if err != nil {
			return found, fmt.Errorf("read the lease: %w", err)
		}
		found.lease = leaseOf(o)
	}
	r.releases, err = releasesOf(got.part(3))
	return found, err
}

func (r *release) nextRevision() int {
	if len(r.releases) == 0 {
		return 1
	}
	return r.releases[0].Revision + 1
}

// own returns the releases of this environment: several may share a namespace.
func (r *release) own() []Release {
	return slices.DeleteFunc(slices.Clone(r.releases), func(o Release) bool { return o.Environment != r.environment })
}

// ensureNamespace makes the namespace, if the manifests have it. It is no part of what is rolled back: the records lie in it.
func (r *release) ensureNamespace(ctx context.Context, exists bool) error {
	if exists {
		return nil
	}
	for _, o := range r.objects {
		if o.text("kind") == "Namespace" && o.ID().Name == r.namespace {
			_, err := r.shell.must(ctx, namespaceScript, encode([]Object{o}))
			return err
		}
	}
	return &Refusal{Kind: NoNamespace, Text: fmt.Sprintf("the namespace %s of %s does not exist", r.namespace, r.environment)}
}

// underLease runs do while no other run may deploy, after having cleared up what such a one left. next is what do will ask first.
func (r *release) underLease(ctx context.Context, found surroundings, next *following, do func(context.Context) (Rollout, error)) (Rollout, error) {
	identity := r.origin.Holder + identityMark + random()
	l, err := acquire(ctx, r.shell, r.environment, r.namespace, identity, found.lease, r.wait, next, func(h Holder) {
		r.say("%s is being deployed to by %s: %s", r.environment, h, untilFree(r.wait))
	})
	if err != nil {
		return Rollout{}, err
	}
	r.lease = l
	defer context.AfterFunc(ctx, func() {
		now := time.Now()
		r.stopped.Store(&now)
	})()
	if found.lease.held() {
		// Whoever had the lease may have left records since the look.
		if _, err := r.look(ctx); err != nil {
			return Rollout{}, errors.Join(err, r.giveBack(ctx))
		}
	}
	if !found.lease.held() && !r.interrupted() {
		r.ahead = next // nothing has changed in between
	}
	var rollout Rollout
	if err = r.recover(l.leader); err == nil {
		rollout, err = do(l.leader)
	}
	if lost := (*LostError)(nil); errors.As(context.Cause(l.leader), &lost) {
		err = lost
	}
	if late := r.giveBack(ctx); late != nil && !errors.Is(late, step.ErrGone) {
		r.note("warning: the lease could not be given back, and expires in %s: %v", leaseDuration, late)
	}
	return rollout, err
}

// untilFree says for how long a lease that somebody else has is waited for.
func untilFree(wait time.Duration) string {
	dead := report.FormatSeconds(leaseDuration.Seconds())
	if wait <= 0 {
		return fmt.Sprintf("looking for up to %s whether that run is alive; --wait TIME waits for its end", dead)
	}
	return fmt.Sprintf("waiting for up to %s for that run to end, or %s if it is dead; --wait TIME changes that", report.FormatSeconds(wait.Seconds()), dead)
}

// over is when a run that was interrupted has to have undone what it did.
func (r *release) over() time.Time {
	if stopped := r.stopped.Load(); stopped != nil {
		return stopped.Add(cleanUp)
	}
	return time.Now().Add(cleanUp) // it was interrupted just now
}

func (r *release) giveBack(ctx context.Context) error {
	over := time.Now().Add(20 * time.Second)
	if ctx.Err() != nil {
		over = r.over().Add(time.Second)
	}
	ctx, cancel := context.WithDeadlineCause(context.WithoutCancel(ctx), over, errors.New("there was no time left for it"))
	defer cancel()
	return r.lease.release(ctx)
}

// recover reverts what a run that ended in mid-deploy has left. This run has the lease, so that one is over.
func (r *release) recover(ctx context.Context) error {
	for i, o := range r.releases {
		if !o.Status.Unfinished() {
			continue
		}
		name, _, _ := strings.Cut(o.Holder, identityMark)
		what := fmt.Sprintf("revision %d by %s was interrupted while it was %s (%s)", o.Revision, name, o.Status, o.Phase)
		if o.Status == Paused {
			what = fmt.Sprintf("the canary of revision %d by %s was paused", o.Revision, name)
		}
		r.note("%s: reverting it", what)
		r.recovered = what + ", and was reverted"
		c, err := r.content(ctx, o.Revision)
		if err != nil {
			return err
		}
		ended := time.Now()
		o.Ended = &ended
		o.Cause = what + "; reverted by " + r.origin.Holder
		o.Status = RolledBack
		if o.Phase != "recording" && o.Phase != "recorded" {
			back := r.restore(ctx, o.Revision, c.Before)
			if back.err != nil || back.trouble != nil {
				o.Status = Failed
				r.note("the state before revision %d does not come up: %s", o.Revision, back.why())
				r.stuck = true
				r.recovered = what + ", and what was before it does not come up: " + back.why()
			} else {
				r.note("reverted: %s", strings.Join(back.proof, "; "))
			}
		} else {
			r.note("it had not changed anything yet")
		}
		if _, err := r.shell.insist(ctx, phaseScript, "", r.namespace, recordName(o.Revision), marked(o)); err != nil {
			return err
		}
		r.releases[i] = o
	}
	return nil
}
