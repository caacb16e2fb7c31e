package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// awaited is how a wait ended: all is up when it has neither trouble nor a judgement.
type awaited struct {
	state state
	// raw is the state as kubectl printed it.
	raw string
	// trouble is why something does not come up.
	trouble *trouble
	// words are the last words of the container in trouble.
	words string
	// judged is what a check found that did not pass.
	judged *step.Result
}

// pause is how long one call waits before the state is looked at, in seconds: what fails early is seen this much later.
const pause = 4

// await waits for workloads until all are up, one can't come up, or the time is over. text is the state, if it is known.
func (r *release) await(ctx context.Context, workloads []ID, deadline time.Time, text string) (awaited, error) {
	var a awaited
	seen, since := map[ID]*trouble{}, map[ID]time.Time{}
	for {
		if text != "" {
			s, err := stateOf(text)
			if err != nil {
				return a, err
			}
			a.state, a.raw = s, text
			late := time.Now().After(deadline)
			waiting := false
			var worst *trouble
			for _, id := range workloads {
				w := s.find(id)
				if w != nil {
					if _, up := w.up(); up {
						continue
					}
				}
				waiting = true
				t := s.troubleOf(id, late)
				if t == nil {
					delete(seen, id)
					continue
				}
				if !t.same(seen[id]) {
					seen[id], since[id] = t, time.Now()
				}
				if (late || time.Since(since[id]) >= t.patience) && (worst == nil || t.pod != "" && worst.pod == "") {
					worst = t
				}
			}
			switch {
			case !waiting:
				return a, nil
			case worst != nil:
				a.trouble = worst
				if late {
					a.trouble.cause += fmt.Sprintf("; it had %s", r.deadline)
				}
				a.words = r.lastWords(ctx, worst)
				return a, nil
			}
		}
		left := int(time.Until(deadline).Seconds())
		seconds := max(1, min(pause, left))
		got, err := r.shell.run(ctx, waitScript, "", append([]string{strconv.Itoa(seconds), r.namespace}, resources(workloads)...)...)
		if err != nil {
			return a, err
		}
		text = got.out
		if strings.TrimSpace(text) == "" {
			// The pods go on without the cluster's API, so that an outage is no reason to give up before the time is over.
			err := explain(got.errors)
			if !graph.IsTransient(err) || time.Now().After(deadline) {
				return a, err
			}
			r.say("%s", firstSentence(err.Error()))
			select {
			case <-ctx.Done():
				return a, ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}
}

// lastWords returns what the container in trouble said last; empty if it never ran.
func (r *release) lastWords(ctx context.Context, t *trouble) string {
	if t.pod == "" || t.container == "" {
		return ""
	}
	for _, flag := range []string{"", "--previous"} {
		got, err := r.shell.run(ctx, logsScript, "", r.namespace, t.pod, t.container, flag)
		if err == nil && got.code == 0 && strings.TrimSpace(got.out) != "" {
			return got.out
		}
	}
	return ""
}

// restored is how a restoration ended.
type restored struct {
	awaited
	err   error
	proof []string
}

// why says what keeps the state before from coming back.
func (b restored) why() string {
	switch {
	case b.err != nil:
		return firstSentence(b.err.Error())
	case b.trouble != nil:
		return fmt.Sprintf("%s: %s", b.trouble.workload, b.trouble.cause)
	}
	return ""
}

// restore brings back the state before a revision, waits for it, and returns the proof that it is there.
func (r *release) restore(ctx context.Context, revision int, state []before) restored {
	var apply []Object
	var gone, workloads []ID
	for _, b := range state {
		switch {
		case b.ID.Kind == "Namespace" || b.Object != nil && (b.ID.Kind == "Job" || b.ID.Kind == "Secret" && b.ID.APIVersion == "v1"):
			// The records lie in the namespace; a job that ran has run; Secrets come from the record.
		case b.Object == nil:
			gone = append(gone, b.ID)
		default:
			apply = append(apply, b.Object)
			if b.Object.waitsFor() {
				workloads = append(workloads, b.ID)
			}
		}
	}
	input, removed := "", ""
	if len(apply) > 0 {
		input = encode(apply)
	}
	if len(gone) > 0 {
		removed = encode(stubs(gone))
	}
	begun := time.Now()
	args := append([]string{r.namespace, recordName(revision), removed, strconv.Itoa(pause)}, resources(workloads)...)
	got, err := r.shell.insist(ctx, restoreScript, input, args...)
	if err != nil {
		return restored{err: err}
	}
	b := restored{}
	b.awaited, b.err = r.await(ctx, workloads, begun.Add(max(r.deadline, time.Minute)), got.part(1))
	if b.err != nil || b.trouble != nil {
		return b
	}
	took := time.Since(begun).Round(100 * time.Millisecond)
	for _, id := range workloads {
		b.proof = append(b.proof, fmt.Sprintf("%s runs %s again after %s", id, serving(b.state, id), took))
	}
	for _, id := range gone {
		if slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, id.Kind) {
			b.proof = append(b.proof, fmt.Sprintf("%s was not there before, and is gone again", id))
		}
	}
	if len(b.proof) == 0 {
		b.proof = append(b.proof, fmt.Sprintf("the state before is back after %s", took))
	}
	return b
}

// serving says which images the pods of a workload that is up run, as the nodes report it.
func serving(s state, id ID) string {
	w := s.find(id)
	n, _ := w.up()
	var images []string
	for _, c := range w.template().list("spec", "containers") {
		image := c.text("image")
		for _, pod := range s.podsOf(w) {
			for _, status := range pod.list("status", "containerStatuses") {
				if status.text("name") == c.text("name") && status.at("ready") == true && status.text("imageID") != "" && !strings.Contains(image, "@") {
					image += " (" + digestOf(status.text("imageID")) + ")"
				}
			}
			break
		}
		images = append(images, image)
	}
	return fmt.Sprintf("%s in %d of %d pods", strings.Join(images, ", "), n, w.wanted())
}

// cleanUp is how long an interrupted deploy takes to undo what it did, before it leaves that to the next one. Graphs wait no
// longer than [graph.DefaultGrace] for a step that is to end, and what it undid would not be in its verdict; the lease has to
// be given back within that time as well.
const cleanUp = 8 * time.Second

// revert brings back the state before, and says why and with what success.
func (r *release) revert(ctx context.Context, a awaited, err error) (Rollout, error) {
	var lost *LostError
	if errors.As(context.Cause(ctx), &lost) {
		return Rollout{}, lost
	}
	if errors.Is(err, step.ErrGone) {
		return r.gone(ctx)
	}
	told, interrupted := ctx, ctx.Err() != nil
	cause, verdict := r.cause(a, err, interrupted)
	r.describe(a)
	r.say("%s", cause)
	r.say("rolling back revision %d", r.record.Revision)
	// An interrupt leaves it no more than its time, also one that comes when this has begun.
	ctx, cut := context.WithCancel(context.WithoutCancel(told))
	defer cut()
	defer context.AfterFunc(told, func() { time.AfterFunc(time.Until(r.over()), cut) })()
	back := r.restore(ctx, r.record.Revision, r.before)
	interrupted = told.Err() != nil
	if errors.As(context.Cause(told), &lost) && (back.err != nil || back.trouble != nil) {
		return Rollout{}, lost
	}
	ended := time.Now().UTC()
	r.record.Ended, r.record.Cause, r.record.Phase = &ended, cause, ""
	r.record.Status = RolledBack
	if back.err != nil || back.trouble != nil {
		r.record.Status = Failed
	}
	unreachable := graph.IsTransient(back.err)
	if !interrupted || r.record.Status == RolledBack {
		if _, late := r.shell.must(ctx, phaseScript, "", r.namespace, recordName(r.record.Revision), marked(r.record)); late != nil {
			r.note("warning: the end of revision %d could not be noted, so that the next run will revert it once more: %s", r.record.Revision, firstSentence(late.Error()))
		}
	}
	if r.record.Status == Failed && interrupted {
		return r.gone(told) // there was no time, or the engine is gone with the session
	}
	if r.record.Status == Failed {
		rollout := r.rollout(graph.Errored, fmt.Sprintf("%s; AND THE ROLLBACK FAILED: %s", cause, back.why()))
		if unreachable {
			r.output = append(r.output, "the next deploy or rollback of "+r.environment+" reverts this one first; to do it by hand:")
		} else {
			r.output = append(r.output, "the state of "+r.environment+" is neither the old nor the new; to repair it by hand:")
		}
		r.output = append(r.output, r.byHand()...)
		rollout.Err = errors.Join(err, back.err)
		return rollout, nil
	}
	proof := strings.Join(back.proof, "; ")
	r.output = append(r.output, "rolled back: "+proof)
	rollout := r.rollout(verdict, fmt.Sprintf("%s; rolled back: %s", cause, proof))
	rollout.RolledBack = true
	rollout.Metrics = map[string]float64{"rollback_seconds": time.Since(ended).Seconds()}
	if verdict == graph.Errored {
		rollout.Err = err
	}
	if a.judged != nil {
		rollout.Findings = a.judged.Findings
	}
	return rollout, nil
}

// gone ends a release whose engine is gone, and with it the way to the cluster. An interrupt of a whole terminal ends the engine's
// session too, and may be noticed here before the interrupt itself is.
func (r *release) gone(ctx context.Context) (Rollout, error) {
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	next := fmt.Sprintf("what it has begun is reverted by the next deploy or rollback of %s; to do that now: rollback %s", r.environment, r.environment)
	if ctx.Err() != nil {
		return r.rollout(graph.Cancelled, "interrupted in mid-deploy: "+next), nil
	}
	rollout := r.rollout(graph.Errored, "the engine is gone in mid-deploy: "+next)
	rollout.Err = step.ErrGone
	return rollout, nil
}

// cause says in one line why a release does not stay, and whose fault that is.
func (r *release) cause(a awaited, err error, interrupted bool) (string, graph.Verdict) {
	var refused *Refusal
	switch {
	case interrupted:
		return "interrupted in mid-deploy", graph.Cancelled
	case errors.As(err, &refused):
		return firstSentence(refused.Error()), refused.Verdict()
	case err != nil:
		return firstSentence(err.Error()), graph.Errored
	case a.trouble != nil:
		return fmt.Sprintf("%s: %s", a.trouble.workload, a.trouble.cause), a.trouble.verdict
	case r.record.Status != Verifying:
		return a.judged.Reason, a.judged.Verdict // of a canary
	default:
		return "the checks of the release did not pass: " + a.judged.Reason, a.judged.Verdict
	}
}

// describe puts what is known of a trouble on the screen and into the reports.
func (r *release) describe(a awaited) {
	if a.trouble != nil {
		screen := a.state.screen(a.trouble, a.words)
		r.output = append(r.output, strings.TrimRight(screen, "\n"))
		r.reports = r.reports.WithNewFile("diagnosis.txt", screen)
	}
	if a.judged != nil && a.judged.Output != "" {
		r.output = append(r.output, a.judged.Output)
	}
	if a.raw != "" {
		r.reports = r.reports.WithNewFile("state.json", a.raw)
	}
}

// byHand lists the commands that undo a release.
func (r *release) byHand() []string {
	var lines []string
	for _, b := range r.before {
		at := "kubectl --namespace " + r.namespace + " "
		switch {
		case b.ID.Kind == "Namespace":
		case b.Object == nil:
			lines = append(lines, "  "+at+"delete --ignore-not-found "+b.ID.String())
		case b.ID.Kind == "Deployment" || b.ID.Kind == "StatefulSet" || b.ID.Kind == "DaemonSet":
			lines = append(lines, "  "+at+"rollout undo "+b.ID.String())
		}
	}
	return append(lines, fmt.Sprintf("  kubectl --namespace %s get secret %s -o jsonpath='{.data.release}' | base64 -d | gunzip   # the state before, in full", r.namespace, recordName(r.record.Revision)))
}
