package kube

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// trouble is why a workload does not come up.
type trouble struct {
	workload ID
	// verdict says who is at fault: failed is what the source says, errored the cluster.
	verdict graph.Verdict
	// cause says it in one line.
	cause string
	// patience is how long it has to last before it counts: what may well pass is given some time.
	patience time.Duration
	// pod and container are where it shows; empty where there is no pod.
	pod, container string
}

func (t *trouble) same(other *trouble) bool {
	return t != nil && other != nil && t.workload == other.workload && t.verdict == other.verdict && t.container == other.container && t.patience == other.patience
}

// troubleOf says why a workload can't come up, as far as that is plain to see. When late, its time is up, and it says why
// it has not come up.
func (s state) troubleOf(id ID, late bool) *trouble {
	w := s.find(id)
	if w == nil {
		if late {
			return &trouble{workload: id, verdict: graph.Failed, cause: "it does not exist: somebody deleted it in mid-deploy"}
		}
		return nil
	}
	if !w.observed() && !late {
		return nil
	}
	if t := s.creation(w); t != nil {
		t.workload = id
		return t
	}
	for _, pod := range s.podsOf(w) {
		for _, status := range statuses(pod) {
			if t := s.broken(pod, status); t != nil {
				t.workload = id
				return t
			}
		}
	}
	if c := w.condition("Failed"); id.Kind == "Job" && c.text("status") == "True" {
		t := &trouble{workload: id, verdict: graph.Failed, cause: "the job failed: " + cmp.Or(c.text("message"), c.text("reason"))}
		for _, pod := range s.podsOf(w) {
			for _, status := range statuses(pod) {
				if ended := status.object("state", "terminated"); ended != nil && ended.number("exitCode") != 0 {
					t.pod, t.container = pod.ID().Name, status.text("name")
					t.cause = fmt.Sprintf("container %s of the job ends with %s", t.container, exitOf(ended))
				}
			}
		}
		return t
	}
	if c := w.condition("Progressing"); c.text("reason") == "ProgressDeadlineExceeded" && c.text("status") == "False" {
		late = true
	}
	if !late {
		return nil
	}
	return s.slow(id, w)
}

// creation looks for what keeps pods from being made at all.
func (s state) creation(w Object) *trouble {
	message := ""
	if set := s.revision(w); set != nil {
		if c := set.condition("ReplicaFailure"); c.text("status") == "True" {
			message = c.text("message")
		}
	} else if w.text("kind") != "Deployment" && len(s.podsOf(w)) == 0 {
		for _, e := range s.eventsOf(w.uid()) {
			if e.text("reason") == "FailedCreate" {
				message = e.text("message")
			}
		}
	}
	if message == "" {
		return nil
	}
	if overQuota.MatchString(message) {
		// A pod that goes may make room for this one.
		return &trouble{verdict: graph.Errored, cause: "the namespace's quota is used up: " + message, patience: 8 * time.Second}
	}
	return &trouble{verdict: graph.Failed, cause: "the cluster takes none of its pods: " + message, patience: 4 * time.Second}
}

var (
	imageMissing = regexp.MustCompile(`(?i)not found|manifest unknown|does not exist|name unknown`)
	imageRefused = regexp.MustCompile(`(?i)\b40[13]\b|unauthorized|forbidden|denied|authorization failed|no basic auth|authentication required`)
	// pullError frames what the registry said.
	pullError = regexp.MustCompile(`^Failed to pull image "[^"]*": (?:rpc error: code = \w+ desc = )?|(?:failed to pull and unpack image|failed to resolve reference|failed to resolve image) "[^"]*": `)
)

// broken looks for what keeps one container from running.
func (s state) broken(pod, status Object) *trouble {
	t := &trouble{verdict: graph.Failed, pod: pod.ID().Name, container: status.text("name")}
	where := fmt.Sprintf("container %s of pod %s", t.container, t.pod)
	waiting, ended := status.object("state", "waiting"), status.object("state", "terminated")
	last := status.object("lastState", "terminated")
	restarts := status.number("restartCount")
	switch reason := waiting.text("reason"); reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable":
		ref := imageOf(pod, t.container)
		why := s.pullFailure(pod, ref, waiting.text("message"))
		switch {
		case reason == "InvalidImageName":
			t.cause = fmt.Sprintf("%s: %q is no valid image reference", where, ref)
		case imageRefused.MatchString(why) && !strings.Contains(why, "does not exist"):
			t.verdict = graph.Errored
			t.cause = fmt.Sprintf("%s: the registry refuses the pull of %s: give the pods a login with imagePullSecrets: %s", where, ref, why)
		case imageMissing.MatchString(why):
			t.cause = fmt.Sprintf("%s: the image %s does not exist", where, ref)
			if why != "not found" {
				t.cause += ": " + why
			}
		default:
			t.verdict, t.patience = graph.Errored, 20*time.Second
			t.cause = fmt.Sprintf("%s: the image %s can't be pulled: %s", where, ref, why)
		}
		return t
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError":
		t.cause = fmt.Sprintf("%s can't be started: %s", where, oneLine(waiting.text("message")))
		t.patience = 2 * time.Second
		return t
	case "CrashLoopBackOff":
		if restarts < 1 || last == nil {
			return nil // it may have been too early just once
		}
		if notStarted(last) {
			t.cause = fmt.Sprintf("%s can't be started: %s", where, whyNotStarted(last))
			return t
		}
		t.cause = fmt.Sprintf("%s crashes at start with %s%s", where, exitOf(last), killedBy(s, pod, last))
		return t
	}
	if notStarted(ended) {
		t.cause = fmt.Sprintf("%s can't be started: %s", where, whyNotStarted(ended))
		return t
	}
	if pod.text("status", "phase") == "Failed" && pod.text("status", "reason") != "" {
		t.verdict = graph.Errored
		t.cause = fmt.Sprintf("pod %s was ended by its node: %s: %s", t.pod, pod.text("status", "reason"), oneLine(pod.text("status", "message")))
		t.patience = 10 * time.Second
		return t
	}
	return nil
}

func notStarted(ended Object) bool {
	return ended.text("reason") == "StartError" || ended.text("reason") == "ContainerCannotRun"
}

// whyNotStarted cuts the chain of what failed around it off the message.
func whyNotStarted(ended Object) string {
	message := oneLine(ended.text("message"))
	if at := strings.LastIndex(message, "unable to start container process: "); at >= 0 {
		message = message[at+len("unable to start container process: "):]
	}
	return message
}

// killedBy adds the probe that had a container restarted.
func killedBy(s state, pod, ended Object) string {
	if code := ended.number("exitCode"); code != 137 && code != 143 {
		return ""
	}
	if probe := s.lastProbe(pod, "Liveness", "Startup"); probe != "" {
		return ": " + probe
	}
	return ""
}

func exitOf(ended Object) string {
	text := fmt.Sprintf("exit code %d", ended.number("exitCode"))
	switch reason := ended.text("reason"); reason {
	case "", "Error", "Completed":
	case "OOMKilled":
		text += " (it needs more memory than its limit)"
	default:
		text += " (" + reason + ")"
	}
	return text
}

func imageOf(pod Object, container string) string {
	for _, c := range pod.containers() {
		if c.text("name") == container {
			return c.text("image")
		}
	}
	return "of unknown name"
}

// pullFailure returns what the registry said, as briefly as it can be had.
func (s state) pullFailure(pod Object, ref, message string) string {
	why := message
	for _, e := range s.eventsOf(pod.uid()) {
		if e.text("reason") == "Failed" && strings.HasPrefix(e.text("message"), "Failed to pull image") && strings.Contains(e.text("message"), ref) {
			why = e.text("message")
		}
	}
	if at := strings.LastIndex(why, "desc = "); at >= 0 {
		why = why[at+len("desc = "):]
	}
	return oneLine(strings.TrimPrefix(pullError.ReplaceAllString(why, ""), ref+": "))
}

// lastProbe returns what the newest failure of a probe of one of these kinds said; empty if none failed.
func (s state) lastProbe(pod Object, kinds ...string) string {
	said := ""
	for _, e := range s.eventsOf(pod.uid()) {
		if e.text("reason") != "Unhealthy" {
			continue
		}
		for _, kind := range kinds {
			if strings.HasPrefix(e.text("message"), kind+" probe") {
				said = strings.ToLower(kind[:1]) + oneLine(e.text("message"))[1:]
			}
		}
	}
	return said
}

// slow says why a workload is not up although nothing is plainly broken.
func (s state) slow(id ID, w Object) *trouble {
	n, _ := w.up()
	t := &trouble{workload: id, verdict: graph.Failed, cause: fmt.Sprintf("%d of %d pods are up", n, w.wanted())}
	for _, pod := range s.podsOf(w) {
		if pod.condition("Ready").text("status") == "True" {
			continue
		}
		t.pod = pod.ID().Name
		if c := pod.condition("PodScheduled"); c.text("status") == "False" {
			t.verdict = graph.Errored
			t.cause = fmt.Sprintf("no node takes pod %s: %s", t.pod, oneLine(c.text("message")))
			return t
		}
		for _, status := range statuses(pod) {
			if status.at("ready") == true || status.text("state", "terminated", "reason") == "Completed" {
				continue
			}
			t.container = status.text("name")
			where := fmt.Sprintf("container %s of pod %s", t.container, t.pod)
			running := status.object("state", "running") != nil
			probe := s.lastProbe(pod, "Startup", "Readiness", "Liveness")
			switch last := status.object("lastState", "terminated"); {
			case probe != "":
				t.cause = fmt.Sprintf("%s is not ready: %s", where, probe)
			case last != nil:
				t.cause = fmt.Sprintf("%s has ended with %s, and is not ready", where, exitOf(last))
			case running:
				t.cause = where + " runs and is not ready"
			default:
				t.cause = fmt.Sprintf("%s does not start: %s", where, s.creating(pod, status))
			}
			return t
		}
	}
	return t
}

// creating says what a container that is still being made waits for.
func (s state) creating(pod, status Object) string {
	why := cmp.Or(oneLine(status.text("state", "waiting", "message")), status.text("state", "waiting", "reason"), "its node says nothing of it")
	for _, e := range s.eventsOf(pod.uid()) {
		switch {
		case e.text("type") == "Warning":
			why = oneLine(e.text("message"))
		case e.text("reason") == "Pulling":
			why = "its node is still pulling the image"
		}
	}
	return why
}

// The screen shows the state, the last words and the events of one pod: enough to know where to look.
const (
	maxEvents = 5
	maxWords  = 10
	maxPods   = 4
)

// screen shows one trouble for a person: what the pods do, the container's last words, the events.
func (s state) screen(t *trouble, words string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", t.workload, t.cause)
	w := s.find(t.workload)
	if w == nil {
		return b.String()
	}
	pods := s.podsOf(w)
	for i, pod := range pods {
		if i == maxPods {
			fmt.Fprintf(&b, "  … and %d more pods\n", len(pods)-maxPods)
			break
		}
		fmt.Fprintf(&b, "  pod %s  %s\n", pod.ID().Name, doing(pod))
	}
	if lines := tail(words, maxWords); len(lines) > 0 {
		fmt.Fprintf(&b, "  last words of container %s:\n", t.container)
		for _, line := range lines {
			fmt.Fprintf(&b, "    %s\n", clip(line, 160))
		}
	}
	uids := append(s.owners(w), w.uid())
	for _, pod := range pods {
		if t.pod == "" || pod.ID().Name == t.pod {
			uids = append(uids, pod.uid())
		}
	}
	events := s.eventsOf(uids...)
	events = slices.DeleteFunc(events, func(e Object) bool { return e.text("type") == "Normal" })
	events = newestOf(events)
	if n := len(events); n > maxEvents {
		events = events[n-maxEvents:]
	}
	if len(events) > 0 {
		b.WriteString("  events:\n")
		for _, e := range events {
			times := ""
			if n := e.number("count"); n > 1 {
				times = fmt.Sprintf(" (%d times)", n)
			}
			fmt.Fprintf(&b, "    %s %s: %s%s\n", clock(eventTime(e)), e.text("reason"), clip(oneLine(pullError.ReplaceAllString(e.text("message"), "")), 160), times)
		}
	}
	return b.String()
}

// maxAlike is how many events of one reason are shown.
const maxAlike = 2

// newestOf leaves out what repeats itself: of the events of one reason, all but the newest.
func newestOf(events []Object) []Object {
	seen := map[string]int{}
	var kept []Object
	for _, e := range slices.Backward(events) {
		if seen[e.text("reason")]++; seen[e.text("reason")] <= maxAlike {
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept
}

// doing says in a few words what a pod does.
func doing(pod Object) string {
	ready, restarts, total := 0, 0, 0
	state := ""
	for _, status := range pod.list("status", "containerStatuses") {
		total++
		if status.at("ready") == true {
			ready++
		}
		restarts += status.number("restartCount")
	}
	for _, status := range statuses(pod) {
		if reason := cmp.Or(status.text("state", "waiting", "reason"), status.text("state", "terminated", "reason")); reason != "" && reason != "Completed" && state == "" {
			state = reason
		}
	}
	text := fmt.Sprintf("%s, %d of %d ready", cmp.Or(state, pod.text("status", "phase"), "Pending"), ready, max(total, len(pod.list("spec", "containers"))))
	if restarts > 0 {
		text += fmt.Sprintf(", %d restarts", restarts)
	}
	return text
}

func clock(stamp string) string {
	if t, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
		return t.UTC().Format(time.TimeOnly)
	}
	return stamp
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func clip(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// tail returns the last lines of a text that say something.
func tail(text string, most int) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.ToValidUTF8(text, "\uFFFD"), "\n") {
		line = strings.TrimRight(strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == 0x7f {
				return -1
			}
			return r
		}, line), " \t")
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-most):]
}
