package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"dagger.io/dagger"
)

// Environment is where to look for the releases of an environment.
type Environment struct {
	// Name is what it is called.
	Name string
	// Namespace is where it lies.
	Namespace string
	Cluster   Cluster
}

// State is what an environment is at one moment.
type State struct {
	Environment string `json:"environment"`
	Namespace   string `json:"namespace"`
	// Server is the version of Kubernetes.
	Server string `json:"server"`
	// Exists is false when the namespace does not exist.
	Exists bool `json:"exists"`
	// Present is the release that runs; nil if none does.
	Present *Release `json:"present,omitempty"`
	// Unfinished is a release in the making, or one that was interrupted; nil if there is none.
	Unfinished *Release `json:"unfinished,omitempty"`
	// Holder is who deploys; nil if nobody has the lease.
	Holder *Holder `json:"holder,omitempty"`
	// Alive says whether the holder still gives signs of life.
	Alive bool `json:"alive,omitempty"`
	// Workloads are those of the release that runs.
	Workloads []WorkloadState `json:"workloads,omitempty"`
	// Revert is the command that reverts what was interrupted, as the text names it; "ci rollback ENVIRONMENT" if it is empty.
	Revert string `json:"-"`
}

// WorkloadState is what a workload is at one moment.
type WorkloadState struct {
	Name   string   `json:"name"`
	Up     int      `json:"up"`
	Wanted int      `json:"wanted"`
	Images []string `json:"images"`
	// Trouble says what is wrong; empty when all pods are up.
	Trouble string `json:"trouble,omitempty"`
	// Screen shows what is wrong with its events.
	Screen string `json:"-"`
}

func (e Environment) release(ctx context.Context, c *dagger.Client) (*release, error) {
	s, err := openShell(ctx, c, e.Cluster)
	if err != nil {
		return nil, err
	}
	return &release{c: c, shell: s, environment: e.Name, namespace: e.Namespace, cluster: e.Cluster}, nil
}

// History returns the releases on record, the newest first.
func (e Environment) History(ctx context.Context, c *dagger.Client) ([]Release, error) {
	r, err := e.release(ctx, c)
	if err != nil {
		return nil, err
	}
	if _, err := r.look(ctx); err != nil {
		return nil, err
	}
	return r.own(), nil
}

// Status returns what runs, who deploys, and what was left in the middle. It takes some seconds while somebody has the lease, to
// see whether that one is still alive.
func (e Environment) Status(ctx context.Context, c *dagger.Client) (State, error) {
	state := State{Environment: e.Name, Namespace: e.Namespace}
	r, err := e.release(ctx, c)
	if err != nil {
		return state, err
	}
	found, err := r.look(ctx)
	if err != nil {
		return state, err
	}
	state.Exists, state.Server = found.namespace, r.server
	if found.lease.held() {
		holder := found.lease.holder
		if state.Alive, err = r.alive(ctx, found.lease); err != nil {
			return state, err
		}
		if _, err := r.look(ctx); err != nil {
			return state, err
		}
		name, _, _ := strings.Cut(holder.Name, identityMark)
		state.Holder = &Holder{Name: name, Since: holder.Since}
	}
	own := r.own()
	if now, running := present(own); running {
		state.Present = &now
	}
	if i := slices.IndexFunc(own, func(o Release) bool { return o.Status.Unfinished() }); i >= 0 {
		state.Unfinished = &own[i]
	}
	if state.Present == nil {
		return state, nil
	}
	content, err := r.content(ctx, state.Present.Revision)
	if err != nil {
		return state, err
	}
	got, err := r.shell.must(ctx, waitScript, "", "0", r.namespace)
	if err != nil {
		return state, err
	}
	live, err := stateOf(got.out)
	if err != nil {
		return state, err
	}
	for _, o := range content.Manifests {
		if o.waitsFor() && o.text("kind") != "Job" {
			state.Workloads = append(state.Workloads, r.workloadState(ctx, live, o.ID()))
		}
	}
	return state, nil
}

func (r *release) workloadState(ctx context.Context, live state, id ID) WorkloadState {
	one := WorkloadState{Name: id.String()}
	w := live.find(id)
	if w == nil {
		one.Trouble = "it is gone: somebody deleted it"
		return one
	}
	n, up := w.up()
	one.Up, one.Wanted = n, w.wanted()
	for _, c := range w.template().list("spec", "containers") {
		one.Images = append(one.Images, c.text("image"))
	}
	if !up {
		if t := live.troubleOf(id, true); t != nil {
			one.Trouble = t.cause
			one.Screen = live.screen(t, r.lastWords(ctx, t))
		}
	}
	return one
}

// alive watches the lease for as long as its holder takes to renew it.
func (r *release) alive(ctx context.Context, first leaseState) (bool, error) {
	for end := time.Now().Add(leaseRenewal + leasePoll); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(leasePoll):
		}
		now, err := (&lease{shell: r.shell, namespace: r.namespace}).find(ctx)
		if err != nil {
			return false, err
		}
		if now.version != first.version {
			return true, nil
		}
	}
	return false, nil
}

// interrupted reports whether the run of the unfinished release is over.
func (s State) interrupted() bool {
	return s.Unfinished.Status != Paused && (s.Holder == nil || !s.Alive)
}

// Text shows s for a person: first what has to be done, if anything has.
func (s State) Text() string {
	var b strings.Builder
	if u := s.Unfinished; u != nil && s.interrupted() {
		fmt.Fprintf(&b, "INTERRUPTED: revision %d by %s was %s (%s) when its run ended\n", u.Revision, byWhom(*u), u.Status, u.Phase)
		fmt.Fprintf(&b, "  revert it: %s\n  the next deploy does that too, before anything else\n\n", cmp.Or(s.Revert, "ci rollback "+s.Environment))
	}
	fmt.Fprintf(&b, "%s: namespace %s on Kubernetes %s\n", s.Environment, s.Namespace, s.Server)
	switch {
	case !s.Exists:
		b.WriteString("  the namespace does not exist: nothing has been deployed\n")
		return b.String()
	case s.Present == nil:
		b.WriteString("  nothing is deployed\n")
	default:
		p := s.Present
		fmt.Fprintf(&b, "  revision %d, deployed %s by %s%s\n", p.Revision, at(p.Ended), byWhom(*p), commitOf(*p))
		if p.Run != "" {
			fmt.Fprintf(&b, "  run: %s\n", p.Run)
		}
	}
	for _, w := range s.Workloads {
		fmt.Fprintf(&b, "  %s  %d of %d pods up\n", w.Name, w.Up, w.Wanted)
		for _, image := range w.Images {
			fmt.Fprintf(&b, "    %s\n", image)
		}
		if w.Screen != "" {
			for line := range strings.Lines(w.Screen) {
				b.WriteString("    " + line)
			}
		} else if w.Trouble != "" {
			fmt.Fprintf(&b, "    %s\n", w.Trouble)
		}
	}
	if u := s.Unfinished; u != nil {
		switch {
		case s.Holder != nil && s.Alive:
			fmt.Fprintf(&b, "  revision %d is %s now (%s), by %s\n", u.Revision, u.Status, u.Phase, s.Holder)
		case u.Status == Paused:
			fmt.Fprintf(&b, "  PAUSED: the canary of revision %d by %s keeps its share: %s: the next deploy or rollback takes it away\n", u.Revision, byWhom(*u), u.Cause)
		}
	} else if s.Holder != nil {
		fmt.Fprintf(&b, "  the lease is held by %s\n", s.Holder)
	}
	return b.String()
}

// HistoryText shows releases for a person, the newest first.
func HistoryText(all []Release) string {
	if len(all) == 0 {
		return "no release is on record\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REVISION\tRESULT\tWHEN\tCOMMIT\tBY\tIMAGES")
	for _, r := range all {
		images := make([]string, 0, len(r.Images))
		for name, ref := range r.Images {
			digest := digestOf(ref)
			images = append(images, name+"@"+digest[:min(len(digest), len("sha256:")+12)])
		}
		slices.Sort(images)
		result := string(r.Status)
		if r.RollbackTo > 0 {
			result += " (back to " + strconv.Itoa(r.RollbackTo) + ")"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", r.Revision, result, r.Started.UTC().Format("2006-01-02 15:04:05"), short(r.Commit), byWhom(r), strings.Join(images, " "))
	}
	_ = w.Flush() // to memory
	for _, r := range all {
		if r.Cause != "" {
			fmt.Fprintf(&b, "%d: %s\n", r.Revision, clip(oneLine(r.Cause), 200))
		}
	}
	return b.String()
}

func byWhom(r Release) string {
	name, _, _ := strings.Cut(r.Holder, identityMark)
	return name
}

func commitOf(r Release) string {
	if r.Commit == "" {
		return ""
	}
	text := ", commit " + short(r.Commit)
	if r.Ref != "" {
		text += " of " + r.Ref
	}
	return text
}

func short(commit string) string { return commit[:min(len(commit), 7)] }

func at(t *time.Time) string {
	if t == nil {
		return "at an unknown time"
	}
	return t.UTC().Format("2006-01-02 15:04:05 MST")
}
