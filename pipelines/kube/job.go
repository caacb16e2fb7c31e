package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/project"
)

// Job runs a program to its end in pods of a cluster: in one, or in an Indexed Job of several that differ by their index, of
// which one that fails does not stop the others. The pods keep to the restricted pod security standard, and get what they ask
// for and no more. Nothing is tried twice.
//
// The Job and its pods are removed afterwards, also when ctx ends. A run that is killed leaves a Job that ends by its own
// deadline and is removed by the cluster some minutes later, or by the next run in the namespace before that.
type Job struct {
	// Name is what the Job's name begins with.
	Name string
	// Where says where in the cluster.
	Where project.Kubernetes
	// Image, as the cluster pulls it.
	Image string
	// Steps run in each pod one after the other, each when the one before has ended well. They share Folders.
	Steps []JobStep
	// Watch is the step whose output is passed on.
	Watch string
	// Count is how many pods there are.
	Count int
	// Files are secret texts by their names in /millrace.
	Files map[string]string
	// Folders are empty at first, and can be written to.
	Folders []string
	// User is the number of the user; 65532 by default.
	User int
	// CPUs and MemoryMiB are what a pod gets, and its limits.
	CPUs, MemoryMiB int
	// Timeout ends a pod.
	Timeout time.Duration
	// Progress is told what the step Watch prints, a line at a time, and what else goes on, with the index -1; nil tells nobody.
	Progress func(index int, line string)
}

// JobStep is a program in a pod of a [Job].
type JobStep struct {
	Name string
	Argv []string
}

// JobResult is how a Job ended.
type JobResult struct {
	// Verdict is passed if the cluster could run the pods, however these ended. Else Reason says why not, and Screen what
	// the pods do, with the cluster's events.
	Verdict graph.Verdict
	Reason  string
	Screen  string
	// Ended says of each index how its pod ended.
	Ended []Ended
}

// Ended is how one pod of a [Job] ended.
type Ended struct {
	// Done is true if all its steps ended well.
	Done bool
	// Step is the one that did not, and ExitCode its exit code.
	Step     string
	ExitCode int
	// Words are the last lines that the step printed.
	Words string
	// NotStarted says why the step could not be started at all; empty if it was.
	NotStarted string
	// OutOfMemory reports that it took more memory than its limit, and Late that its time was over.
	OutOfMemory, Late bool
	// Lost says why the pod is gone through no fault of its own; empty if it is not.
	Lost string
}

const (
	// maxJobFiles bounds, in bytes, the files of a Job: they travel in a Secret, which takes 1 MiB with all that is around them.
	maxJobFiles = 700 << 10
	// jobSilence is after how long a Job that nobody has looked after belongs to a run that is dead. A live one looks every few
	// seconds; on a machine that has far too much to do, it may take a minute.
	jobSilence = 3 * time.Minute
	// jobKept is how long the cluster keeps a Job that has ended and that nobody removes.
	jobKept = 10 * time.Minute
	// jobLook is how long a call waits before the state is looked at, in seconds.
	jobLook = 2
	// jobSlack is for placing a pod's volumes and pulling its image.
	jobSlack = 10 * time.Minute
)

// Deadline is when the cluster ends the Job at the latest. Where the number of pods at a time is not bounded, the cluster may
// still have room for one alone.
func (j Job) Deadline() time.Duration {
	waves := j.Count
	if p := j.Where.Parallelism; p > 0 {
		waves = (j.Count + p - 1) / p
	}
	return j.Where.StartWithin + time.Duration(waves)*(j.Timeout+jobSlack)
}

// Run runs the Job. An error means that it could not be made or looked after.
func (j Job) Run(ctx context.Context, c *dagger.Client, cluster Cluster) (JobResult, error) {
	name := j.Name + "-" + random()
	made, err := j.objects(name)
	if err != nil {
		return JobResult{}, err
	}
	s, err := openShell(ctx, c, cluster)
	if err != nil {
		return JobResult{}, err
	}
	namespace := j.Where.Namespace
	// Whatever happens from here on, it does not stay.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, err := s.must(ctx, endJobScript, "", namespace, name); err != nil {
			j.say(-1, fmt.Sprintf("the Job %s could not be removed, and ends by itself within %s: %s", name, j.Deadline(), firstSentence(err.Error())))
		}
	}()
	got, err := s.must(ctx, startJobScript, encode(made), namespace, name, strconv.Itoa(int(jobSilence.Seconds())))
	for old := range strings.FieldsSeq(got.part(0)) {
		j.say(-1, "removed the Job "+old+", which a run that was killed had left")
	}
	if err != nil {
		return JobResult{}, fmt.Errorf("make the Job %s in the namespace %s: %w", name, namespace, err)
	}
	j.say(-1, fmt.Sprintf("the Job %s was made in the namespace %s", name, namespace))
	w := jobWatch{Job: j, shell: s, id: ID{APIVersion: "batch/v1", Kind: "Job", Namespace: namespace, Name: name}, told: map[string]time.Time{}}
	return w.watch(ctx)
}

func (j Job) say(index int, line string) {
	if j.Progress != nil {
		j.Progress(index, line)
	}
}

// jobWatch looks after a Job.
type jobWatch struct {
	Job
	shell *shell
	id    ID
	// told is when the newest line was printed that each pod was told of.
	told map[string]time.Time
	// waiting is what the cluster last said of pods that wait for a place.
	waiting string
}

func (w *jobWatch) watch(ctx context.Context) (JobResult, error) {
	begun := time.Now()
	last, lost := begun, begun // when something ran, and when the cluster was heard of
	var seen *trouble
	var since time.Time
	for {
		got, err := w.shell.run(ctx, lookJobScript, "", w.id.Namespace, w.id.Name, strconv.Itoa(jobLook), w.Watch, w.since())
		if err != nil {
			return JobResult{}, err
		}
		s, known := jobState(got)
		late := time.Since(begun) > w.Deadline()+time.Minute
		switch {
		case !known && (time.Since(lost) > 10*time.Minute || !graph.IsTransient(explain(got.errors))):
			// The pods go on without the cluster's API.
			return JobResult{}, fmt.Errorf("look after the Job %s: %w", w.id.Name, explain(got.errors))
		case !known:
			w.say(-1, firstSentence(explain(got.errors).Error()))
			continue
		}
		lost = time.Now()
		w.tell(s, got.part(3))
		job := s.find(w.id)
		if job == nil {
			return JobResult{}, graph.Transient(fmt.Errorf("the Job %s is gone: somebody deleted it", w.id.Name))
		}
		if over(job) || late {
			return w.ended(ctx, s, job)
		}
		t := s.creation(job)
		busy := false
		for _, pod := range s.podsOf(job) {
			if placed := pod.condition("PodScheduled").text("status") == "True"; !placed || podOver(pod) {
				continue
			}
			busy = true
			for _, status := range statuses(pod) {
				// One that has ended is told of when all have.
				if found := s.broken(pod, status); t == nil && found != nil && status.object("state", "terminated") == nil {
					t = found
				}
			}
		}
		if busy {
			last = time.Now()
		} else if t == nil {
			t = w.unplaced(s, job)
		}
		if t == nil {
			seen = nil
			continue
		}
		t.workload = w.id
		if !t.same(seen) {
			seen, since = t, time.Now()
		}
		if t.patience == placeable {
			if time.Since(last) < w.Where.StartWithin {
				continue
			}
			t.cause += fmt.Sprintf(" (for %s, as start_within has it)", w.Where.StartWithin)
		} else if time.Since(since) < t.patience {
			continue
		}
		result := JobResult{Verdict: t.verdict, Reason: t.cause, Screen: s.screen(t, "")}
		all, err := w.ended(ctx, s, job)
		result.Ended = all.Ended
		return result, err
	}
}

// placeable marks the trouble of pods that the cluster has no place for yet.
const placeable = -1

// unplaced says why no pod of the Job has a place.
func (w *jobWatch) unplaced(s state, job Object) *trouble {
	for _, pod := range s.podsOf(job) {
		c := pod.condition("PodScheduled")
		if c.text("status") != "False" {
			continue
		}
		message := oneLine(c.text("message"))
		if w.waiting != message {
			w.waiting = message
			w.say(-1, "the cluster has no place for it yet: "+message)
		}
		return &trouble{verdict: graph.Errored, patience: placeable, pod: pod.ID().Name, cause: fmt.Sprintf("no node takes pod %s: %s", pod.ID().Name, message)}
	}
	return nil
}

// over reports whether a Job has ended.
func over(job Object) bool {
	return job.condition("Complete").text("status") == "True" || job.condition("Failed").text("status") == "True"
}

func podOver(pod Object) bool {
	phase := pod.text("status", "phase")
	return phase == "Succeeded" || phase == "Failed"
}

// jobState reads what lookJobScript printed of the Job, its pods and the events; known is false where the cluster gave no answer.
func jobState(got said) (s state, known bool) {
	for n := range 3 {
		part, err := stateOf(got.part(n))
		if err != nil {
			return state{}, false
		}
		s.workloads, s.pods, s.events = append(s.workloads, part.workloads...), append(s.pods, part.pods...), append(s.events, part.events...)
	}
	return s, got.code == 0
}

// index is that of a pod of an Indexed Job.
func index(pod Object) int {
	n, _ := strconv.Atoi(pod.text("metadata", "annotations", "batch.kubernetes.io/job-completion-index"))
	return n
}

// since is from when on output is new, for kubectl; empty at first.
func (w *jobWatch) since() string {
	var oldest time.Time
	for _, t := range w.told {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	if oldest.IsZero() {
		return ""
	}
	return oldest.UTC().Format(time.RFC3339)
}

// tell passes on what is new of the output: lines of the form [pod/NAME/STEP] TIME TEXT.
func (w *jobWatch) tell(s state, logs string) {
	indexes := map[string]int{}
	for _, pod := range s.pods {
		indexes[pod.ID().Name] = index(pod)
	}
	for line := range strings.Lines(logs) {
		rest, ok := strings.CutPrefix(line, "[pod/")
		from, rest, found := strings.Cut(rest, "] ")
		pod, _, _ := strings.Cut(from, "/")
		stamp, text, _ := strings.Cut(rest, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if n, known := indexes[pod]; ok && found && known && err == nil && at.After(w.told[pod]) {
			w.told[pod] = at
			w.say(n, strings.TrimRight(text, "\r\n"))
		}
	}
}

// ended says how each pod ended.
func (w *jobWatch) ended(ctx context.Context, s state, job Object) (JobResult, error) {
	result := JobResult{Verdict: graph.Passed, Ended: make([]Ended, w.Count)}
	late := job.condition("Failed").text("reason") == "DeadlineExceeded"
	for i := range result.Ended {
		result.Ended[i] = Ended{Lost: "its pod is not there any more", Late: late}
		if late {
			result.Ended[i].Lost = ""
		}
	}
	for _, pod := range s.pods {
		i := index(pod)
		if !pod.owned(job.uid()) || i >= len(result.Ended) {
			continue
		}
		e, container := endOf(pod)
		if late && !e.Done {
			e.Late, e.Lost = true, ""
		}
		if container != "" {
			got, err := w.shell.run(ctx, logsScript, "", w.id.Namespace, pod.ID().Name, container, "")
			if err != nil {
				return result, err
			}
			if got.code == 0 {
				e.Words = strings.TrimSpace(got.out)
			}
		}
		result.Ended[i] = e
	}
	return result, nil
}

// endOf says how a pod ended, and which container has something to say of that.
func endOf(pod Object) (e Ended, container string) {
	if pod.text("status", "phase") == "Succeeded" {
		return Ended{Done: true}, ""
	}
	switch reason := pod.text("status", "reason"); {
	case reason == "DeadlineExceeded":
		e.Late = true
	case reason != "":
		return Ended{Lost: oneLine(reason + ": " + pod.text("status", "message"))}, ""
	case pod.condition("DisruptionTarget").text("status") == "True":
		return Ended{Lost: oneLine(pod.condition("DisruptionTarget").text("message"))}, ""
	case !podOver(pod):
		e.Lost = "its pod had not ended"
	}
	for _, status := range statuses(pod) {
		ended := status.object("state", "terminated")
		if ended == nil || ended.number("exitCode") == 0 && ended.text("reason") != "OOMKilled" {
			continue
		}
		e.Step, e.ExitCode, e.OutOfMemory = status.text("name"), ended.number("exitCode"), ended.text("reason") == "OOMKilled"
		if notStarted(ended) {
			e.NotStarted = whyNotStarted(ended)
			return e, ""
		}
		return e, e.Step
	}
	return e, ""
}

// objects are the Secret with the files, and the Job.
func (j Job) objects(name string) ([]Object, error) {
	size := 0
	for _, text := range j.Files {
		size += len(text)
	}
	if size > maxJobFiles {
		return nil, fmt.Errorf("the Job %s has %d KiB of files, and %d are the most that fit into a Secret: use a smaller grid", j.Name, size>>10, maxJobFiles>>10)
	}
	if len(j.Steps) == 0 || j.Count < 1 {
		return nil, errors.New("a Job needs steps, and at least one pod")
	}
	labels := map[string]any{"app.kubernetes.io/name": j.Name, "app.kubernetes.io/managed-by": "millrace", "app.kubernetes.io/component": "training"}
	seen := map[string]any{"millrace.dev/seen": strconv.FormatInt(time.Now().Unix(), 10)}
	metadata := map[string]any{"name": name, "namespace": j.Where.Namespace, "labels": labels, "annotations": seen}
	spec := map[string]any{
		"completions": j.Count, "parallelism": min(j.Count, cmp.Or(j.Where.Parallelism, j.Count)),
		"activeDeadlineSeconds": int(j.Deadline().Seconds()), "ttlSecondsAfterFinished": int(jobKept.Seconds()),
		"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": j.pod(name)},
	}
	if j.Count > 1 {
		spec["completionMode"], spec["backoffLimitPerIndex"] = "Indexed", 0
	} else {
		spec["backoffLimit"] = 0
	}
	made := []Object{
		{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": j.Files},
		{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec},
	}
	return made, nil
}

// pod is what the Job makes its pods by.
func (j Job) pod(secret string) map[string]any {
	resources := map[string]string{"cpu": strconv.Itoa(j.CPUs), "memory": fmt.Sprintf("%dMi", j.MemoryMiB)}
	maps.Copy(resources, j.Where.Resources)
	mounts := []any{map[string]any{"name": "files", "mountPath": "/millrace", "readOnly": true}}
	volumes := []any{map[string]any{"name": "files", "secret": map[string]any{"secretName": secret}}}
	for i, folder := range j.Folders {
		volume := fmt.Sprintf("folder-%d", i)
		mounts = append(mounts, map[string]any{"name": volume, "mountPath": folder})
		volumes = append(volumes, map[string]any{"name": volume, "emptyDir": map[string]any{}})
	}
	var containers []any
	for _, s := range j.Steps {
		argv := make([]string, len(s.Argv))
		for i, a := range s.Argv {
			argv[i] = literal(a)
		}
		containers = append(containers, map[string]any{
			"name": s.Name, "image": j.Image, "command": argv, "volumeMounts": mounts,
			// The user of the image may have a home, the one of the pod has none.
			"env":       []any{map[string]any{"name": "HOME", "value": "/tmp"}},
			"resources": map[string]any{"requests": resources, "limits": resources},
			"securityContext": map[string]any{
				"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []string{"ALL"}},
			},
		})
	}
	user := cmp.Or(j.User, 65532)
	pod := map[string]any{
		"restartPolicy": "Never", "activeDeadlineSeconds": int((j.Timeout + jobSlack).Seconds()), "terminationGracePeriodSeconds": 1,
		"automountServiceAccountToken": false, "enableServiceLinks": false,
		"securityContext": map[string]any{
			"runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
		},
		"initContainers": containers[:len(containers)-1], "containers": containers[len(containers)-1:], "volumes": volumes,
	}
	if len(j.Where.NodeSelector) > 0 {
		pod["nodeSelector"] = j.Where.NodeSelector
	}
	var tolerations, pulls []any
	for _, t := range j.Where.Tolerations {
		toleration := map[string]any{}
		for key, value := range map[string]string{"key": t.Key, "operator": t.Operator, "value": t.Value, "effect": t.Effect} {
			if value != "" {
				toleration[key] = value
			}
		}
		tolerations = append(tolerations, toleration)
	}
	for _, name := range j.Where.PullSecrets {
		pulls = append(pulls, map[string]any{"name": name})
	}
	if len(tolerations) > 0 {
		pod["tolerations"] = tolerations
	}
	if len(pulls) > 0 {
		pod["imagePullSecrets"] = pulls
	}
	return pod
}
