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
	"sync/atomic"
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
	// stopped is when the run was interrupted; nil as long as it is not.
	stopped atomic.Pointer[time.Time]
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
		if rollout.Verdict != graph.Passed {
			break // what was taken back runs nowhere
		}
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
