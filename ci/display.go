package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// logColumns is the width of lines where there is no terminal: what a CI host's log shows without wrapping.
const logColumns = 120

// width returns the number of columns that stdout has.
func (s *streams) width() int {
	if columns := terminalWidth(s.stdout); columns > 0 {
		return columns
	}
	return logColumns
}

func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// display shows a run while it goes on: on a terminal a line a node that changes in place, elsewhere a line when a
// node starts and one when it ends.
type display struct {
	w       io.Writer
	columns int // 0: no terminal
	names   int // width of the longest node's name

	mu      sync.Mutex
	nodes   []*nodeLine
	index   map[string]*nodeLine
	making  []engine.StandIn
	drawn   int
	stop    chan struct{}
	stopped sync.WaitGroup
}

type nodeLine struct {
	name    string
	skip    string // why it will not run, where that is known beforehand
	started time.Time
	retry   string
	said    string // by the node itself, last
	record  *graph.Record
}

func newDisplay(s *streams, plan graph.Plan, on *engine.Engine) *display {
	d := &display{w: s.stderr, columns: terminalWidth(s.stderr), index: map[string]*nodeLine{}, stop: make(chan struct{})}
	for _, n := range plan.Nodes {
		if n.Skip == graph.NotSelected {
			continue // whoever asks for one step does not want to read which others there are
		}
		line := &nodeLine{name: n.Name, skip: n.Skip}
		d.nodes = append(d.nodes, line)
		d.index[n.Name] = line
		d.names = max(d.names, len(n.Name))
	}
	if d.columns > 0 {
		d.every(100*time.Millisecond, d.draw)
	}
	if on.Registry != "" {
		d.every(time.Second, func() { d.watchStandIns(on.Registry) })
	}
	return d
}

func (d *display) every(interval time.Duration, f func()) {
	d.stopped.Add(1)
	go func() {
		defer d.stopped.Done()
		for {
			select {
			case <-d.stop:
				return
			case <-time.After(interval):
				f()
			}
		}
	}()
}

// watchStandIns learns which images are being made: a first run waits for them, and must say so.
func (d *display) watchStandIns(registry string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	making, err := engine.StandIns(ctx, registry)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.columns == 0 {
		known := map[string]bool{}
		for _, m := range d.making {
			known[m.Reference] = true
		}
		for _, m := range making {
			if !known[m.Reference] && m.Error == "" {
				fmt.Fprintf(d.w, "engine: making the image %s (only the first time)\n", short(m.Reference))
			}
		}
	}
	d.making = making
}

func short(reference string) string { return strings.TrimPrefix(reference, "library/") }

func (d *display) observe(e graph.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, shown := d.index[e.Node]
	if !shown {
		return
	}
	switch e.Kind {
	case graph.Started:
		n.started = e.Record.Started
		if d.columns == 0 {
			fmt.Fprintf(d.w, "%s started\n", n.name)
		}
	case graph.Retrying:
		n.said = ""
		n.retry = fmt.Sprintf("attempt %d failed, trying again: %s", e.Record.Attempts, e.Record.Reason)
		if d.columns == 0 {
			fmt.Fprintf(d.w, "%s %s\n", n.name, n.retry)
		}
	case graph.Ended:
		record := e.Record
		n.record = &record
		// A node that was known not to run is no news: the summary says why.
		if d.columns == 0 && n.skip == "" {
			// The whole reason comes once more, at the end.
			fmt.Fprintln(d.w, cut(d.ended(n), logColumns))
		}
	}
}

// say shows what a node says of its work: on a terminal behind its line, elsewhere as a line of its own.
func (d *display) say(node, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.columns == 0 {
		fmt.Fprintf(d.w, "%s: %s\n", node, text)
	} else if n, shown := d.index[node]; shown {
		n.said = text
	}
}

// ended is a node's line when it is over.
func (d *display) ended(n *nodeLine) string {
	r := n.record
	line := fmt.Sprintf("%s %-*s  %-12s %7s", report.Symbol(r.Verdict), d.names, n.name, r.Verdict, report.FormatSeconds(r.Duration.Seconds()))
	if r.Reason != "" {
		line += "  " + r.Reason
	}
	return line
}

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// draw writes all lines again over those of the last time.
func (d *display) draw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	lines := d.lines(time.Now())
	for _, line := range lines {
		b.WriteString("\x1b[2K" + cut(line, d.columns-1) + "\n")
	}
	b.WriteString("\x1b[0J")
	d.drawn = len(lines)
	_, _ = io.WriteString(d.w, b.String())
}

func (d *display) lines(now time.Time) []string {
	var lines []string
	for _, n := range d.nodes {
		switch {
		case n.record != nil:
			lines = append(lines, d.ended(n))
		case n.skip != "":
			lines = append(lines, fmt.Sprintf("- %-*s  %-12s %7s  %s", d.names, n.name, graph.Skipped, "", n.skip))
		case n.started.IsZero():
			lines = append(lines, fmt.Sprintf("· %-*s  waiting", d.names, n.name))
		default:
			frame := spinner[int(now.UnixMilli()/100)%len(spinner)]
			line := fmt.Sprintf("%c %-*s  %-12s %7s", frame, d.names, n.name, "running", report.FormatSeconds(now.Sub(n.started).Seconds()))
			if now := cmp.Or(n.said, n.retry); now != "" {
				line += "  " + now
			}
			lines = append(lines, line)
		}
	}
	for _, m := range d.making {
		if m.Error == "" {
			lines = append(lines, fmt.Sprintf("  engine: making the image %s, only the first time: %s", short(m.Reference), report.FormatSeconds(now.Sub(m.Started).Seconds())))
		}
	}
	return lines
}

// cut shortens a line to the terminal's width, so that it never wraps.
func cut(line string, columns int) string {
	runes := []rune(line)
	if columns < 1 || len(runes) <= columns {
		return line
	}
	return string(runes[:columns-1]) + "…"
}

// close takes the live lines away: the summary says it all again.
func (d *display) close() {
	close(d.stop)
	d.stopped.Wait()
	if d.drawn > 0 {
		fmt.Fprintf(d.w, "\x1b[%dA\x1b[0J", d.drawn)
	}
}
