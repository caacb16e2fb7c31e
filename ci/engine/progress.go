package engine

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress is told about long work: what it is, how far it has come, and how it ended.
type Progress interface {
	// Start says that a task begins.
	Start(what string) Task
	// Note says something that a person should know.
	Note(format string, args ...any)
}

// Task is a piece of work under way.
type Task interface {
	// Update says how far the task has come, for example "412 of 1,380 packages".
	Update(format string, args ...any)
	// End says that the task is over, well or with an error.
	End(err error)
}

// Lines is a Progress that prints a line when a task starts and ends, and every 15 seconds while it runs.
// Nothing is printed for a task that ends within half a second: it is not worth anybody's time.
func Lines(w io.Writer) Progress { return &lines{w: w} }

type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "engine: "+format+"\n", args...)
}

func (l *lines) Note(format string, args ...any) { l.printf(format, args...) }

func (l *lines) Start(what string) Task {
	t := &lineTask{lines: l, what: what, began: time.Now(), done: make(chan struct{}), gone: make(chan struct{})}
	go t.tick()
	return t
}

type lineTask struct {
	lines      *lines
	what       string
	began      time.Time
	done, gone chan struct{}

	mu     sync.Mutex
	detail string
	shown  bool
}

func (t *lineTask) tick() {
	defer close(t.gone)
	wait := 500 * time.Millisecond
	for {
		select {
		case <-t.done:
			return
		case <-time.After(wait):
		}
		t.mu.Lock()
		detail, first := t.detail, !t.shown
		t.shown = true
		t.mu.Unlock()
		switch {
		case first:
			t.lines.printf("%s …", t.what)
		case detail != "":
			t.lines.printf("%s: %s, %s", t.what, detail, elapsed(t.began))
		default:
			t.lines.printf("%s: %s", t.what, elapsed(t.began))
		}
		wait = 15 * time.Second
	}
}

func (t *lineTask) Update(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detail = fmt.Sprintf(format, args...)
}

func (t *lineTask) End(err error) {
	close(t.done)
	<-t.gone
	switch {
	case err != nil:
		t.lines.printf("%s: failed after %s", t.what, elapsed(t.began))
	case t.shown:
		t.lines.printf("%s: done in %s", t.what, elapsed(t.began))
	}
}

func elapsed(since time.Time) string { return time.Since(since).Round(100 * time.Millisecond).String() }
