package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

// What is shown while a run goes on: who runs, who waits, and who will not run and why; not who was not asked for.
func TestDisplay(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	d := newDisplay(&streams{stderr: &b}, graph.Plan{Nodes: []graph.PlanNode{
		{Name: "lint"}, {Name: "test"}, {Name: "coverage", Skip: "no Codecov token"}, {Name: "publish", Skip: graph.NotSelected},
	}}, &engine.Engine{})
	now := time.Now()
	d.observe(graph.Event{Node: "publish", Kind: graph.Ended, Record: graph.Record{Verdict: graph.Skipped, Reason: graph.NotSelected}})
	d.observe(graph.Event{Node: "lint", Kind: graph.Started, Record: graph.Record{Started: now.Add(-time.Minute)}})
	lines := d.lines(now)
	require.Len(t, lines, 3)
	require.Contains(t, lines[0], "lint      running        1m00s")
	require.Equal(t, "· test      waiting", lines[1])
	require.Equal(t, "- coverage  skipped               no Codecov token", lines[2])
	d.observe(graph.Event{Node: "lint", Kind: graph.Ended, Record: graph.Record{Verdict: graph.Failed, Reason: "2 findings", Duration: 61 * time.Second}})
	require.Equal(t, "✗ lint      failed         1m01s  2 findings", d.lines(now)[0])
	d.close()
	require.Equal(t, "lint started\n✗ lint      failed         1m01s  2 findings\n", b.String())
}

// What a node says of its work, such as for how long it waits for another run, is seen on a terminal too.
func TestDisplayShowsWhatNodesSay(t *testing.T) {
	t.Parallel()
	plan := graph.Plan{Nodes: []graph.PlanNode{{Name: "deploy"}}}
	started := graph.Event{Node: "deploy", Kind: graph.Started, Record: graph.Record{Started: time.Now()}}
	var b bytes.Buffer
	d := newDisplay(&streams{stderr: &b}, plan, &engine.Engine{})
	d.observe(started)
	d.say("deploy", "waiting for up to 10m00s")
	d.close()
	require.Equal(t, "deploy started\ndeploy: waiting for up to 10m00s\n", b.String())

	d = newDisplay(&streams{stderr: &b}, plan, &engine.Engine{})
	d.columns = 80
	d.observe(started)
	d.say("deploy", "waiting for up to 10m00s")
	d.say("nobody", "is not shown")
	require.Contains(t, d.lines(time.Now())[0], "running         0.0s  waiting for up to 10m00s")
	d.close()
}
