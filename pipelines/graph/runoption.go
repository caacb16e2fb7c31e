package graph

import "time"

// DefaultGrace is how long a run waits for a step that does not heed its cancellation.
const DefaultGrace = 10 * time.Second

// RunOption says how [Graph.Run] and [Graph.Plan] treat the graph. An option given twice adds to the first (Only, Skip,
// Leave, Observe) or replaces it.
type RunOption func(*settings)

// settings is what the run options say.
type settings struct {
	only, skip  []string
	left        []leaving
	keepGoing   bool
	parallelism int
	grace       time.Duration
	observers   []func(Event)
}

// leaving are nodes that do not run, and why.
type leaving struct {
	reason string
	names  []string
}

func settingsOf(opts []RunOption) settings {
	s := settings{grace: DefaultGrace}
	for _, o := range opts {
		if o != nil {
			o(&s)
		}
	}
	return s
}

// Only runs the named nodes and what they need for their values; all others are skipped as "not selected".
// What the named nodes merely come after is not selected. Without names, it selects all.
func Only(names ...string) RunOption {
	return func(s *settings) { s.only = append(s.only, names...) }
}

// Skip skips the named nodes as "skipped on request".
func Skip(names ...string) RunOption {
	return func(s *settings) { s.skip = append(s.skip, names...) }
}

// Leave skips the named nodes with that reason, because they need not run; what [Only] and [Skip] leave out keeps theirs.
// As with [Skip], a node that needs the value of one of them is skipped as well.
func Leave(reason string, names ...string) RunOption {
	return func(s *settings) { s.left = append(s.left, leaving{reason, names}) }
}

// KeepGoing lets all nodes run that do not depend on a failed one.
// Without it, the first node that fails or errors cancels the running ones, and only [Always] nodes still start.
func KeepGoing() RunOption { return func(s *settings) { s.keepGoing = true } }

// Parallelism bounds how many steps run at the same time; 0 or less means no bound, the default.
// A step that was left running after its [Grace] no longer counts.
func Parallelism(n int) RunOption { return func(s *settings) { s.parallelism = max(n, 0) } }

// Grace sets how long a run waits for a step to return once its context is cancelled or its time is up;
// by default [DefaultGrace]. After that the node is recorded as cancelled or timed out, its reason says that the step
// was left running, and the run goes on. Go cannot end a goroutine from outside: the step lives on until it returns, and
// what it returns is dropped. A [Serial] lock that it holds is not given to another node before that.
func Grace(d time.Duration) RunOption { return func(s *settings) { s.grace = max(d, 0) } }

// Observe calls f for every event. Calls never overlap, and events of one node come in order.
//
// f is called between the runner's own steps: while it runs no node starts, so it must return soon.
// An f that panics is not called again; the run goes on and ends errored.
func Observe(f func(Event)) RunOption {
	return func(s *settings) {
		if f != nil {
			s.observers = append(s.observers, f)
		}
	}
}
