package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Channel takes messages: [Slack], [Webhook], [Email], or one of your own.
type Channel interface {
	// Name names the channel for people, without any secret.
	Name() string
	// Deliver sends m once. An error marked by [graph.Transient] is tried again; a [LaterError] in it says when.
	// Its text must show no secret.
	Deliver(ctx context.Context, m Message) error
}

// Target is a channel, and what it is told.
type Target struct {
	Channel Channel
	// On are the events that it is told of.
	On []Event
	// Environments are those whose deploys it is told of; all if empty.
	Environments []string
	// Branches are those whose runs it is told of; all if empty. Tags always count.
	Branches []string
	// Missing says what the channel lacks, for example a secret that is not set. Such a target is told nothing.
	Missing string
}

// Wants reports whether t is to be told m.
func (t Target) Wants(m Message) bool {
	if len(t.Branches) > 0 && m.branch != "" && !slices.Contains(t.Branches, m.branch) {
		return false
	}
	return slices.ContainsFunc(m.Events, func(e Event) bool {
		return slices.Contains(t.On, e) && (e != Deploy || len(t.Environments) == 0 || slices.Contains(t.Environments, m.Where))
	})
}

// Send sends a message to all targets that want it, side by side. It is never cached.
//
// A receiver that can't be reached, does not answer in time, or has a fault of its own is tried again, ever more slowly;
// one that says when to come back is tried again then, if that is within Budget. One that refuses is not.
//
// What can't be sent does not fail the run: the result is passed, with a reason that starts with "warning:" and a finding.
type Send struct {
	Targets []Target
	// Everybody has all targets told, whatever they are told else.
	Everybody bool
	// Attempts is how often a target is tried; 5 by default.
	Attempts int
	// Wait is the time before the second attempt, which doubles with each; 1 s by default.
	Wait time.Duration
	// Timeout bounds one attempt; 10 s by default.
	Timeout time.Duration
	// Budget bounds all attempts and waits for one target; 90 s by default.
	Budget time.Duration
}

// Longest is how long [Send.Run] takes at most with the default bounds; a node that runs it needs a timeout above that.
const Longest = 100 * time.Second

// Delivery is how the sending to one target ended.
type Delivery struct {
	// Target is its channel's name.
	Target string
	// Missing is why nothing was tried, and Err why it did not arrive.
	Missing string
	Err     error
	// Attempts is how often it was tried.
	Attempts int
}

// Run sends m, and says how that went.
func (s Send) Run(ctx context.Context, m Message) (step.Result, error) {
	all := s.Deliver(ctx, m)
	result := step.Result{Verdict: graph.Passed, Metrics: map[string]float64{}}
	var sent, missing, lost []string
	for _, d := range all {
		switch {
		case d.Missing != "":
			missing = append(missing, fmt.Sprintf("%s was not told: %s", d.Target, d.Missing))
		case d.Err != nil:
			said := fmt.Sprintf("%s was not told: %v", d.Target, d.Err)
			lost = append(lost, said)
			result.Findings = append(result.Findings, report.Finding{Tool: "notify", Rule: "delivery", Severity: report.Low, Message: said})
		default:
			sent = append(sent, d.Target)
		}
	}
	result.Metrics["sent"], result.Metrics["lost"] = float64(len(sent)), float64(len(lost))
	switch {
	case len(all) == 0:
		return step.Skip("nobody is to be told of this"), nil
	case len(sent)+len(lost) == 0:
		return step.Skip("%s", strings.Join(missing, "; ")), nil
	case len(lost) > 0:
		result.Reason = "warning: " + strings.Join(append(lost, missing...), "; ")
	default:
		result.Reason = strings.Join(append([]string{"told " + strings.Join(sent, ", ")}, missing...), "; ")
	}
	return result, nil
}

// Deliver sends m, and returns how that went, for each target that was to be told.
func (s Send) Deliver(ctx context.Context, m Message) []Delivery {
	var wanted []Target
	for _, t := range s.Targets {
		if s.Everybody || t.Wants(m) {
			wanted = append(wanted, t)
		}
	}
	all := make([]Delivery, len(wanted))
	var wg sync.WaitGroup
	for i, t := range wanted {
		if t.Missing != "" || t.Channel == nil {
			all[i] = Delivery{Target: nameOf(t.Channel), Missing: cmp.Or(t.Missing, "it has no channel")}
			continue
		}
		wg.Go(func() { all[i] = s.deliver(ctx, t.Channel, m) })
	}
	wg.Wait()
	return all
}

func nameOf(c Channel) string {
	if c == nil {
		return "target"
	}
	return c.Name()
}

// deliver sends m to one channel, as often as it takes.
func (s Send) deliver(ctx context.Context, to Channel, m Message) Delivery {
	budget := positive(s.Budget, 90*time.Second)
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	d := Delivery{Target: to.Name()}
	waits := &backoff.ExponentialBackOff{
		InitialInterval: positive(s.Wait, time.Second), RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 30 * time.Second,
	}
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		d.Attempts++
		once, stop := context.WithTimeout(ctx, positive(s.Timeout, 10*time.Second))
		defer stop()
		last = attempt(once, to, m)
		var later *LaterError
		switch {
		case last == nil:
			return struct{}{}, nil
		case errors.As(last, &later):
			return struct{}{}, fmt.Errorf("%w%w", last, &backoff.RetryAfterError{Duration: later.After})
		case graph.IsTransient(last):
			return struct{}{}, last
		}
		return struct{}{}, backoff.Permanent(last)
	}, backoff.WithBackOff(waits), backoff.WithMaxTries(uint(positive(s.Attempts, 5))), backoff.WithMaxElapsedTime(budget))
	if err == nil {
		return d
	}
	if d.Err = last; d.Err == nil { // there was no attempt
		d.Err = err
	}
	var later *LaterError
	if errors.As(d.Err, &later) && later.After > budget {
		d.Err = fmt.Errorf("%w; it wants to be left alone for %s, and a run waits for %s at most", d.Err, later.After, budget)
	} else if d.Attempts > 1 {
		d.Err = fmt.Errorf("%w (tried %d times)", d.Err, d.Attempts)
	}
	return d
}

// attempt turns a panic into an error: a message that can't be written must not break the run that it is about.
func attempt(ctx context.Context, to Channel, m Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("its message could not be made, which is a fault of millrace: please report it")
		}
	}()
	return to.Deliver(ctx, m)
}

func positive[T int | time.Duration](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}
