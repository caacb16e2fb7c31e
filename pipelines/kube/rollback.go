package kube

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// Rollback brings an environment back to a release that came up before, from its record in the cluster: it needs neither the
// source nor a build. It is a release itself, with a revision of its own, and rolls forward again if the old one does not come up.
//
// If the newest release was interrupted, reverting that is the rollback, unless a revision is named.
type Rollback struct {
	Environment string
	// Namespace is where the environment lies.
	Namespace string
	Cluster   Cluster
	// To is the revision; by default the one that ran before the present one.
	To int
	// Deadline, Wait, Verify, Origin and Progress are as in [Deploy].
	Deadline time.Duration
	Wait     time.Duration
	Verify   Check
	Origin   Origin
	Progress func(string)
}

// RevisionError means that there is no release to go back to.
type RevisionError struct{ Problem string }

func (e *RevisionError) Error() string { return e.Problem }

// ExitCode is the status of a process that ends with this error.
func (e *RevisionError) ExitCode() int { return 2 }

// Run rolls back.
func (b Rollback) Run(ctx context.Context, c *dagger.Client) (Rollout, error) {
	s, err := openShell(ctx, c, b.Cluster)
	if err != nil {
		return Rollout{}, err
	}
	r := &release{
		c: c, shell: s, environment: b.Environment, namespace: b.Namespace, cluster: b.Cluster, origin: b.Origin, deadline: b.Deadline,
		wait: b.Wait, verify: b.Verify, progress: b.Progress, reports: c.Directory(),
	}
	if r.deadline <= 0 {
		r.deadline = DefaultDeadline
	}
	found, err := r.look(ctx)
	if err == nil && !found.namespace {
		err = &RevisionError{fmt.Sprintf("the namespace %s of %s does not exist in that cluster, so that there is nothing to roll back: check the environment's namespace in millrace.yaml, and which cluster its kubeconfig is of", r.namespace, r.environment)}
	}
	var rollout Rollout
	if err == nil {
		target, wrong := r.target(b.To)
		if wrong != nil && !r.interrupted() {
			return r.conclude(rollout, wrong) // there is no need to wait for the lease only to say so
		}
		var next *following
		if wrong == nil {
			next = &following{script: contentScript, args: []string{r.namespace, recordName(target.Revision)}}
		}
		rollout, err = r.underLease(ctx, found, next, func(ctx context.Context) (Rollout, error) { return r.rollBack(ctx, b.To) })
	}
	return r.conclude(rollout, err)
}

func (r *release) interrupted() bool {
	for _, o := range r.own() {
		if o.Status.Unfinished() {
			return true
		}
	}
	return false
}

func (r *release) rollBack(ctx context.Context, to int) (Rollout, error) {
	if r.recovered != "" && to == 0 {
		rollout := r.rollout(graph.Passed, r.recovered)
		if r.stuck {
			rollout.Verdict = graph.Errored
		}
		rollout.RolledBack = !r.stuck
		return rollout, nil
	}
	target, err := r.target(to)
	if err != nil {
		return Rollout{}, err
	}
	c, err := r.content(ctx, target.Revision)
	if err != nil {
		return Rollout{}, err
	}
	r.objects, r.placed, r.secretIDs = c.Manifests, c.Placed, c.Secrets
	if len(c.Secrets) > 0 {
		r.older = recordName(target.Revision)
	}
	r.record.RollbackTo = target.Revision
	commit := r.origin.Commit
	r.origin.Commit, r.origin.Ref, r.origin.Author = target.Commit, target.Ref, target.Author
	if commit == "" {
		r.origin.Commit = target.Commit
	}
	return r.roll(ctx)
}

// target returns the release to go back to.
func (r *release) target(to int) (Release, error) {
	all := r.own()
	if to != 0 {
		for _, o := range all {
			if o.Revision != to {
				continue
			}
			if o.Status != Deployed && o.Status != Superseded {
				return o, &RevisionError{fmt.Sprintf("revision %d of %s never came up (%s): choose one that did: %s", to, r.environment, o.Status, strings.Join(cameUp(all), ", "))}
			}
			return o, nil
		}
		if len(cameUp(all)) == 0 {
			return Release{}, &RevisionError{fmt.Sprintf("%s has no revision %d: no release is on record", r.environment, to)}
		}
		return Release{}, &RevisionError{fmt.Sprintf("%s has no revision %d: there are %s; the last %d are kept", r.environment, to, strings.Join(cameUp(all), ", "), keptReleases)}
	}
	now, found := present(all)
	if !found {
		return Release{}, &RevisionError{fmt.Sprintf("nothing is deployed to %s, so that there is nothing to roll back: ci history %s lists what was tried, and ci deploy %s deploys", r.environment, r.environment, r.environment)}
	}
	// Of a rollback, what ran before is what it left, and not what it brought back.
	from := now.Revision
	for now.RollbackTo != 0 {
		from = now.RollbackTo
		found = false
		for _, o := range all {
			if o.Revision == from {
				now, found = o, true
				break
			}
		}
		if !found {
			break
		}
	}
	o, found := previous(all, from)
	if !found {
		return Release{}, &RevisionError{fmt.Sprintf("%s has no release before revision %d that came up, so that there is nothing to roll back to: check out the commit that you want, and deploy it with ci deploy %s", r.environment, from, r.environment)}
	}
	return o, nil
}

func cameUp(all []Release) []string {
	var revisions []string
	for _, o := range all {
		if o.Status == Deployed || o.Status == Superseded {
			revisions = append(revisions, strconv.Itoa(o.Revision))
		}
	}
	return revisions
}
