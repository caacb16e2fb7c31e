package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// DefaultDeadline is how long a release may take to come up.
const DefaultDeadline = 5 * time.Minute

// Origin says what a release is made of, and by whom.
type Origin struct {
	// Holder names the run to people who wait for it or look for it: a user and host, or a job of a CI host.
	Holder string
	// Run is the run's web address.
	Run string
	// Commit, Ref and Author are the source's.
	Commit, Ref, Author string
}

// Deploy brings the manifests of an environment, with the images of a run, to a cluster: all workloads come up, or all go back
// to what they were.
//
// Before the first change, the state of all that is touched is recorded in the cluster, as a Secret of the type
// millrace.dev/release in the namespace. A Lease lets one deploy at a time in. A release that its run left in the middle, because
// it was killed or lost the cluster, is reverted by the next one.
type Deploy struct {
	// Environment is what the environment is called.
	Environment string
	// Namespace takes the objects, instead of the one that the manifests name; theirs by default.
	Namespace string
	// Cluster is where to.
	Cluster Cluster
	// Manifests say where the objects are written.
	Manifests Manifests
	// Images are references by digest, by the images' names. Containers that name one of these images get it. In a dry run one that is
	// empty is left as it runs.
	Images map[string]string
	// Replicas are numbers of pods by the names of workloads, instead of the manifests'.
	Replicas map[string]int
	// Deadline is how long the release may take to come up; [DefaultDeadline] by default.
	Deadline time.Duration
	// Wait is how long another deploy is waited for; by default it is not.
	Wait time.Duration
	// Admit decides about the images that the release would put in, before anything is changed; nil admits all.
	Admit func(ctx context.Context, images []string) (step.Result, error)
	// Verify checks what is up, before it counts as deployed. What does not pass is rolled back. Nil checks nothing.
	Verify Check
	// Canary moves the traffic over step by step; nil moves it with the pods.
	Canary *Canary
	// DryRun changes nothing, and only says what would change.
	DryRun bool
	// Origin says what the release is made of.
	Origin Origin
	// Progress is told what goes on, in a line; nil tells nobody.
	Progress func(string)
}

// Check looks at a rollout that is up. Its verdict decides whether the release stays.
type Check func(context.Context, Rollout) (step.Result, error)

// Rollout is what [Deploy] and [Rollback] return.
type Rollout struct {
	step.Result
	Environment string
	Namespace   string
	// Cluster is where it runs.
	Cluster Cluster
	// Revision is the release's number; 0 if nothing was released.
	Revision int
	// Placed says which container runs which image.
	Placed []Placed
	// Diff says what a dry run would change.
	Diff string
	// RolledBack is true when the state before was restored.
	RolledBack bool
	// Previous is the release that ran before; its revision is 0 if there was none.
	Previous Release
}

// Run deploys. What is wrong with manifests or code gives the verdict failed, and so does a check that fails; the state before is
// restored in either case. What is wrong with the cluster gives errored. An error means that nothing was changed.
//
// Of the reports, release.json says what was deployed and diagnosis.txt why that did not come up, with all that the cluster said of
// its pods in state.json.
func (d Deploy) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (Rollout, error) {
	s, err := openShell(ctx, c, d.Cluster)
	if err != nil {
		return Rollout{}, err
	}
	r := &release{
		c: c, shell: s, environment: d.Environment, namespace: d.Namespace, cluster: d.Cluster, origin: d.Origin, deadline: d.Deadline,
		wait: d.Wait, verify: d.Verify, canary: d.Canary, progress: d.Progress, reports: c.Directory(),
	}
	if r.deadline <= 0 {
		r.deadline = DefaultDeadline
	}
	rollout, err := r.deploy(ctx, src, d)
	return r.conclude(rollout, err)
}

// release is a release in the making.
type release struct {
	c           *dagger.Client
	shell       *shell
	environment string
	namespace   string
	cluster     Cluster
	origin      Origin
	deadline    time.Duration
	wait        time.Duration
	verify      Check
	canary      *Canary
	progress    func(string)
	reports     *dagger.Directory

	// objects are what is applied, without Secrets; secrets are those of the manifests, and older is the record whose Secrets
	// are applied instead.
	objects []Object
	secrets []Object
	older   string
	// secretIDs name all Secrets that are applied.
	secretIDs []ID
	placed    []Placed

	// ahead is what was asked together with the lease.
	ahead *following

	server   string
	releases []Release
	lease    *lease
	record   Release
	before   []before
	previous Release
	// candidates are the Deployments that get a canary, and passing the objects that are there only meanwhile.
	candidates []candidate
	passing    []ID
	// changed is true once the cluster may have been changed.
	changed bool
	// recovered says what this run reverted first; empty if there was nothing.
	recovered string
	// stuck is true when what was before that did not come up.
	stuck   bool
	notes   []string
	output  []string
	metrics map[string]float64
}

func (r *release) say(format string, args ...any) {
	if r.progress != nil {
		r.progress(fmt.Sprintf(format, args...))
	}
}

// note says something that belongs into the result too.
func (r *release) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.notes = append(r.notes, text)
	r.say("%s", text)
}

func (r *release) deploy(ctx context.Context, src *dagger.Directory, d Deploy) (Rollout, error) {
	made, found, err := r.render(ctx, src, d)
	if err != nil {
		return Rollout{}, err
	}
	findings, err := validate(ctx, r.c, r.shell, made)
	if err != nil {
		return Rollout{}, err
	}
	if len(findings) > 0 {
		report.SortFindings(findings)
		return Rollout{Result: step.Result{
			Verdict: graph.Failed, Findings: findings,
			Reason: fmt.Sprintf("the manifests don't fit the cluster (Kubernetes %s): %s; nothing was changed", r.server, findings[0].Message),
		}}, nil
	}
	if d.DryRun {
		return r.dryRun(ctx, found.namespace)
	}
	if d.Admit != nil {
		admitted, err := d.Admit(ctx, r.built())
		if err != nil {
			return Rollout{}, err
		}
		if admitted.Verdict != graph.Passed {
			return Rollout{Result: admitted}, nil
		}
	}
	if err := r.ensureNamespace(ctx, found.namespace); err != nil {
		return Rollout{}, err
	}
	input, args := r.snapshotAsks()
	return r.underLease(ctx, found, &following{script: snapshotScript, input: input, args: args}, func(ctx context.Context) (Rollout, error) { return r.roll(ctx) })
}

// render makes the objects, and looks at the cluster.
func (r *release) render(ctx context.Context, src *dagger.Directory, d Deploy) (rendered, surroundings, error) {
	var made rendered
	var found surroundings
	var err error
	if r.namespace != "" {
		if found, err = r.look(ctx); err != nil {
			return made, found, err
		}
	}
	if made, err = d.Manifests.render(ctx, r.c, src, r.namespace, r.server); err != nil {
		return made, found, err
	}
	from := home(made.objects)
	if r.namespace == "" {
		if r.namespace = from; from == "" {
			return made, found, &ManifestError{d.Manifests.Path, "neither the manifests nor the environment name a namespace: add the key namespace to the environment"}
		}
		if found, err = r.look(ctx); err != nil {
			return made, found, err
		}
	}
	made.settle(from, r.namespace)
	if unknown := scale(made.objects, d.Replicas); len(unknown) > 0 {
		return made, found, &ManifestError{"millrace.yaml", fmt.Sprintf("environments: %s: replicas are set for %s, which the manifests don't have", r.environment, strings.Join(unknown, ", "))}
	}
	yieldToAutoscalers(made.objects)
	images := d.Images
	if d.DryRun {
		images = r.asLive(images)
	}
	r.placed = place(made.objects, images)
	checksum(made.objects)
	for _, o := range made.objects {
		if o.text("kind") == "Job" {
			o.set(sum(o), "metadata", "annotations", jobAnnotation)
		}
	}
	sortObjects(made.objects)
	stamp(made.objects, r.nextRevision(), r.origin.Commit)
	r.secrets, r.objects = secretsApart(made.objects)
	for _, o := range r.secrets {
		r.secretIDs = append(r.secretIDs, o.ID())
	}
	return made, found, nil
}

// asLive returns images with the present references of those that have none: a dry run builds none, and they are no change.
func (r *release) asLive(images map[string]string) map[string]string {
	now, _ := present(r.own())
	all := map[string]string{}
	for name, reference := range images {
		if reference = cmp.Or(reference, now.Images[name]); reference != "" {
			all[name] = reference
		}
	}
	return all
}

// built are the references that the release puts in, sorted.
func (r *release) built() []string {
	var all []string
	for _, p := range r.placed {
		if p.Built != "" {
			all = append(all, p.Reference)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// jobAnnotation tells whether a job is the one that ran already.
const jobAnnotation = "millrace.dev/job-checksum"

func sum(o Object) string {
	text, err := json.Marshal(o.at("spec"))
	if err != nil {
		panic(err) // it came from JSON
	}
	digest := sha256.Sum256(text)
	return hex.EncodeToString(digest[:])
}

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
		r.say("%s is being deployed to by %s: waiting", r.environment, h)
	})
	if err != nil {
		return Rollout{}, err
	}
	r.lease = l
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

func (r *release) giveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
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

// rollout is the result so far.
func (r *release) rollout(verdict graph.Verdict, reason string) Rollout {
	return Rollout{
		Result:      step.Result{Verdict: verdict, Reason: reason, Metrics: r.metrics},
		Environment: r.environment, Namespace: r.namespace, Cluster: r.cluster, Revision: r.record.Revision, Placed: r.placed, Previous: r.previous,
	}
}

// conclude turns what a release ended with into its result. What is the source's fault, or stopped short of a change, is no
// broken machinery.
func (r *release) conclude(rollout Rollout, err error) (Rollout, error) {
	if rollout.Environment == "" {
		findings := rollout.Findings
		diff := rollout.Diff
		output := rollout.Output
		rollout = r.rollout(rollout.Verdict, rollout.Reason)
		rollout.Findings, rollout.Diff, rollout.Output = findings, diff, output
	}
	var refused *Refusal
	switch fault, ok := manifestFault(err); {
	case err == nil:
	case ok:
		rollout.Verdict, rollout.Reason, err = graph.Failed, fault.Error()+"; nothing was changed", nil
	case errors.As(err, &refused) && refused.Kind == Rejected && !r.changed:
		rollout.Verdict, err = graph.Failed, nil
		rollout.Reason = firstSentence(refused.Error()) + "; nothing was changed"
		rollout.Output = refused.Text
	}
	if err != nil {
		if r.changed {
			// To try again would be another deploy.
			err = errors.New(err.Error())
		}
		return rollout, err
	}
	lines := slices.Concat(r.notes, r.output)
	if rollout.Output != "" {
		lines = append(lines, strings.TrimRight(rollout.Output, "\n"))
	}
	rollout.Output = strings.Join(lines, "\n")
	for _, name := range slices.Sorted(maps.Keys(r.record.Images)) {
		ref := r.record.Images[name]
		rollout.Artifacts = append(rollout.Artifacts, report.Artifact{Name: r.environment + " revision " + strconv.Itoa(r.record.Revision) + " " + name, Reference: ref, Digest: digestOf(ref)})
	}
	if r.record.Revision > 0 {
		r.reports = r.reports.WithNewFile("release.json", indented(struct {
			Release
			Placed []Placed `json:"placed"`
			Notes  []string `json:"notes,omitempty"`
		}{r.record, r.placed, r.notes}))
	}
	rollout.Reports = r.reports.WithNewFile("rollout.txt", rollout.Output+"\n")
	return rollout, nil
}

func indented(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err)
	}
	return string(text) + "\n"
}
