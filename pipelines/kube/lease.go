package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// leaseName is the Lease that lets one deploy at a time into a namespace.
const leaseName = "millrace-deploy"

// The times of the lease. A holder gives up before others may take over, whatever the clocks of the two say: each
// measures with its own clock how long nothing has happened. On a machine with ten times as much to do as it has processors for,
// a renewal takes 10 s and more.
const (
	leaseDuration = 60 * time.Second
	leaseRenewal  = 10 * time.Second
	leaseGiveUp   = 45 * time.Second
	leasePoll     = 3 * time.Second
)

// Holder is who holds the lease of an environment.
type Holder struct {
	// Name says which run it is.
	Name string `json:"name"`
	// Since is when it took the lease, by its own clock.
	Since time.Time `json:"since"`
}

func (h Holder) String() string {
	name, _, _ := strings.Cut(h.Name, identityMark)
	return fmt.Sprintf("%s, since %s", name, h.Since.UTC().Format("2006-01-02 15:04:05 MST"))
}

// identityMark stands between the name of a run and what makes it unique.
const identityMark = " #"

// leaseState is a Lease as it was found.
type leaseState struct {
	exists  bool
	holder  Holder
	version string
	renewed string
	// transitions counts how often it changed hands.
	transitions int
	duration    time.Duration
}

func leaseOf(o Object) leaseState {
	if o == nil {
		return leaseState{}
	}
	since, _ := time.Parse(time.RFC3339Nano, o.text("spec", "acquireTime"))
	return leaseState{
		exists: true, holder: Holder{Name: o.text("spec", "holderIdentity"), Since: since}, version: o.text("metadata", "resourceVersion"),
		renewed: o.text("spec", "renewTime"), transitions: o.number("spec", "leaseTransitions"),
		duration: time.Duration(o.number("spec", "leaseDurationSeconds")) * time.Second,
	}
}

func (l leaseState) held() bool { return l.exists && l.holder.Name != "" }

// watch remembers since when a lease has not changed, by the clock of whoever watches.
type watch struct {
	version string
	since   time.Time
	// alive is true once the lease was seen to change.
	alive bool
}

// expired notes what the lease is at the time now, and reports whether its holder has been silent for too long.
func (w *watch) expired(l leaseState, now time.Time) bool {
	if l.version != w.version || w.since.IsZero() {
		w.alive = !w.since.IsZero()
		w.version, w.since = l.version, now
	}
	duration := l.duration
	if duration <= 0 {
		duration = leaseDuration
	}
	return now.Sub(w.since) >= duration
}

// HeldError means that somebody else deploys.
type HeldError struct {
	Environment string
	Holder      Holder
	// Waited is how long it was waited for.
	Waited time.Duration
}

func (e *HeldError) Error() string {
	text := fmt.Sprintf("%s is being deployed to by %s", e.Environment, e.Holder)
	if e.Waited > 0 {
		return fmt.Sprintf("%s, and still is after %s: wait longer with --wait, or try again later", text, e.Waited.Round(time.Second))
	}
	return text + ": try again later, or wait for it with --wait"
}

// LostError means that the lease went to somebody else, or could not be renewed, so that this run must not go on.
type LostError struct{ Reason string }

func (e *LostError) Error() string {
	return "the lease on the environment was lost in mid-deploy: " + e.Reason + ": what this run has begun is for the next run to revert"
}

// lease is a lease that this run holds.
type lease struct {
	shell     *shell
	namespace string
	identity  string
	acquired  time.Time

	version     string
	transitions int

	stop   context.CancelFunc
	lost   context.CancelCauseFunc
	ended  chan struct{}
	leader context.Context
}

// Without the resource version of the one that was seen, a lease would go to whoever comes last.
const leaseCreate = `printf '%s' "$1" | kubectl create --validate=false -f - -o json || exit 99
`
const leaseReplace = `printf '%s' "$1" | kubectl replace --validate=false -f - -o json || exit 99
`

// leaseRefused is the exit code of scripts that did not get a lease; all others are those of what follows.
const leaseRefused = 99

// following is a script that runs in the same container once the lease is there, and what it said.
type following struct {
	script, input string
	args          []string
	said          *said
}

const leaseGet = `kubectl get lease millrace-deploy --namespace "$1" --ignore-not-found -o json`

// acquire takes the lease, of which found is what is known. It waits for at most wait for the one who holds it; waiting is
// told once whom it waits for.
func acquire(ctx context.Context, s *shell, environment, namespace, identity string, found leaseState, wait time.Duration, next *following, waiting func(Holder)) (*lease, error) {
	var seen watch
	begun := time.Now()
	told := false
	for {
		now := time.Now()
		if !found.held() || seen.expired(found, now) {
			l := &lease{shell: s, namespace: namespace, identity: identity, acquired: now, transitions: found.transitions, version: found.version}
			if found.exists {
				l.transitions++
			}
			script, secret, args := l.script(), "", []string{l.manifest(identity, now)}
			if next != nil {
				script += "printf '\\036'\nshift\n" + next.script
				secret, args = next.input, append(args, next.args...)
			}
			got, err := s.run(ctx, script, secret, args...)
			if err != nil {
				if ctx.Err() != nil {
					l.abandon(ctx)
				}
				return nil, err
			}
			if got.code != leaseRefused {
				o, err := decode([]byte(got.part(0)))
				if err != nil {
					return nil, fmt.Errorf("read the lease: %w", err)
				}
				l.version = leaseOf(o).version
				if _, rest, separated := strings.Cut(got.out, "\x1e"); separated {
					next.said = &said{code: got.code, out: rest, errors: got.errors}
				}
				l.renew(ctx)
				return l, nil
			}
			if refused := (*Refusal)(nil); !errors.As(explain(got.errors), &refused) || refused.Kind != Conflict && refused.Kind != Rejected {
				return nil, explain(got.errors)
			}
		} else {
			if !told && waiting != nil {
				waiting(found.holder)
			}
			told = true
			// Whoever does not want to wait is refused once the holder gives a sign of life: else one run that was killed
			// would have all others refused until its lease expires.
			if wait > 0 && now.Sub(begun) >= wait || wait <= 0 && seen.alive {
				return nil, &HeldError{Environment: environment, Holder: found.holder, Waited: wait}
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(leasePoll):
			}
		}
		var err error
		if found, err = (&lease{shell: s, namespace: namespace}).find(ctx); err != nil {
			return nil, err
		}
	}
}

// abandon gives back a lease that was being taken when the run was interrupted: it may have been taken all the same.
func (l *lease) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if found, err := l.find(ctx); err == nil && found.holder.Name == l.identity {
		l.version = found.version
		_ = l.replace(ctx, "") // else it expires
	}
}

// find returns the lease as it is now.
func (l *lease) find(ctx context.Context) (leaseState, error) {
	got, err := l.shell.must(ctx, leaseGet, "", l.namespace)
	if err != nil || strings.TrimSpace(got.out) == "" {
		return leaseState{}, err
	}
	o, err := decode([]byte(got.out))
	if err != nil {
		return leaseState{}, fmt.Errorf("read the lease: %w", err)
	}
	return leaseOf(o), nil
}

func (l *lease) script() string {
	if l.version == "" {
		return leaseCreate
	}
	return leaseReplace
}

// manifest is the lease as it is to be; holder is empty when it is given back.
func (l *lease) manifest(holder string, now time.Time) string {
	const micro = "2006-01-02T15:04:05.000000Z"
	metadata := map[string]any{"name": leaseName, "namespace": l.namespace, "labels": map[string]any{managedBy: manager}}
	if l.version != "" {
		metadata["resourceVersion"] = l.version
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
		"spec": map[string]any{
			"holderIdentity": holder, "leaseDurationSeconds": int(leaseDuration.Seconds()),
			"acquireTime": l.acquired.UTC().Format(micro), "renewTime": now.UTC().Format(micro), "leaseTransitions": l.transitions,
		},
	})
	if err != nil {
		panic(err) // maps of texts and numbers have a JSON form
	}
	return string(text)
}

// renew keeps the lease alive until it is released or lost. A renewal that has begun is not cut off when the run is: it would
// arrive all the same, and the lease then had another version than is known here.
func (l *lease) renew(ctx context.Context) {
	leader, lost := context.WithCancelCause(ctx)
	ctx, stop := context.WithCancel(ctx)
	l.leader, l.lost, l.stop, l.ended = leader, lost, stop, make(chan struct{})
	go func() {
		defer close(l.ended)
		renewed := l.acquired
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(leaseRenewal):
			}
			started := time.Now()
			put, done := context.WithDeadline(context.WithoutCancel(ctx), renewed.Add(leaseGiveUp))
			err := l.put(put, l.identity)
			done()
			switch {
			case err == nil:
				renewed = started
			case ctx.Err() != nil:
				return
			case isConflict(err):
				lost(&LostError{"another run took it"})
				return
			case time.Since(renewed) > leaseGiveUp:
				lost(&LostError{fmt.Sprintf("it could not be renewed for %s: %v", leaseGiveUp, err)})
				return
			}
		}
	}()
}

// put writes the lease with its new holder, as long as it is this run's.
func (l *lease) put(ctx context.Context, holder string) error {
	err := l.replace(ctx, holder)
	if isConflict(err) {
		// One whose answer got lost may have arrived all the same.
		found, lost := l.find(ctx)
		if lost != nil {
			return lost
		}
		if found.holder.Name == l.identity {
			l.version = found.version
			err = l.replace(ctx, holder)
		}
	}
	return err
}

func (l *lease) replace(ctx context.Context, holder string) error {
	got, err := l.shell.must(ctx, leaseReplace, "", l.manifest(holder, time.Now()))
	if err != nil {
		return err
	}
	o, err := decode([]byte(got.out))
	if err != nil {
		return fmt.Errorf("read the lease: %w", err)
	}
	l.version = leaseOf(o).version
	return nil
}

func isConflict(err error) bool {
	var refused *Refusal
	return errors.As(err, &refused) && refused.Kind == Conflict
}

// release gives the lease back. A lease that can't be given back expires.
func (l *lease) release(ctx context.Context) error {
	l.stop()
	defer l.lost(context.Canceled)
	select {
	case <-l.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var lost *LostError
	if errors.As(context.Cause(l.leader), &lost) {
		return nil // it is somebody else's
	}
	return l.put(ctx, "")
}
