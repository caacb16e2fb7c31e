package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify/notifytest"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// canary is the secret part of a webhook's address.
const canary = "canary-of-the-webhook-51af"

// slack starts a Slack, and puts its address into the environment.
func slack(t *testing.T) *notifytest.Slack {
	t.Helper()
	s := &notifytest.Slack{Path: "/services/" + canary}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv("SLACK_WEBHOOK_URL", server.URL+s.Path)
	return s
}

func code(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.py"), []byte("\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "millrace.yaml"), []byte(config), 0o644))
	return dir
}

func TestNotify(t *testing.T) {
	source := code(t, "test: {shards: 1}\n")
	t.Run("nothing is set", func(t *testing.T) {
		t.Setenv("SLACK_WEBHOOK_URL", "")
		status, stdout, _ := call("notify", "--source", source)
		require.Equal(t, 3, status)
		require.Equal(t, "- slack (SLACK_WEBHOOK_URL): SLACK_WEBHOOK_URL is not set\n", stdout)
	})
	t.Run("a test message", func(t *testing.T) {
		s := slack(t)
		status, stdout, stderr := call("notify", "--source", source)
		require.Zero(t, status, stderr)
		require.Equal(t, "✓ slack (SLACK_WEBHOOK_URL)\n", stdout)
		require.Empty(t, s.Problems())
		require.Contains(t, string(s.Accepted()[0]), "this is a test")
	})
	t.Run("about a run", func(t *testing.T) {
		s := slack(t)
		record := filepath.Join(t.TempDir(), "run.json")
		data, err := report.NewRun(&graph.Result{Graph: "ci-cd", Verdict: graph.Failed, Started: time.Now(), Nodes: []graph.Record{
			{Name: "lint", Verdict: graph.Failed, Reason: "2 findings"},
		}}, report.Ref{Branch: "main"}, report.Engine{}).Encode()
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(record, data, 0o644))

		status, stdout, stderr := call("notify", "--source", source, "--run", record, "--dry-run")
		require.Zero(t, status)
		require.Empty(t, notifytest.CheckSlack([]byte(stdout)))
		require.Empty(t, s.Requests())
		require.NotContains(t, stdout+stderr, canary)

		status, _, _ = call("notify", "--source", source, "--run", record)
		require.Zero(t, status)
		var got struct{ Text string }
		require.NoError(t, json.Unmarshal(s.Accepted()[0], &got))
		require.Equal(t, "❌ ci-cd failed: main – lint failed: 2 findings", got.Text)
	})
	t.Run("refused", func(t *testing.T) {
		s := slack(t)
		s.Plan(notifytest.Answer{Status: 404, Body: "no_service " + canary})
		status, stdout, stderr := call("notify", "--source", source)
		require.Equal(t, 3, status)
		require.Contains(t, stdout, "! slack (SLACK_WEBHOOK_URL): it answered 404 not found: no_service")
		require.NotContains(t, stdout+stderr, canary)
	})
	for name, args := range map[string][]string{
		"no such record": {"notify", "--source", source, "--run", "nowhere/run.json"},
		"no record":      {"notify", "--source", source, "--run", filepath.Join(source, "a.py")},
		"nobody":         {"notify", "--source", code(t, "notify: []\n")},
	} {
		t.Run(name, func(t *testing.T) {
			slack(t)
			status, _, stderr := call(args...)
			require.Equal(t, 2, status, stderr)
		})
	}
}

// TestNotifyWithoutEngine has a run end before it began: that must be told too, and it changes nothing of how it ends.
func TestNotifyWithoutEngine(t *testing.T) {
	s := slack(t)
	// An engine that is named and not there.
	t.Setenv("_EXPERIMENTAL_DAGGER_RUNNER_HOST", "unix:///nowhere/engine.sock")
	t.Setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", "/bin/false")
	args := []string{"ci-cd", "--source", code(t, "test: {shards: 1}\n"), "--event", "push", "--ref", "main", "--engine", "runner"}
	status, stdout, stderr := call(args...)
	require.Equal(t, 3, status, stderr)
	require.Empty(t, s.Problems())
	require.Len(t, s.Accepted(), 1, stderr)
	require.Contains(t, string(s.Accepted()[0]), "ci-cd errored")
	require.NotContains(t, stdout+stderr, canary)

	s.Plan(notifytest.Answer{Status: 410, Body: "channel_is_archived"})
	status, _, stderr = call(args...)
	require.Equal(t, 3, status)
	require.Contains(t, stderr, "notify: warning: slack (SLACK_WEBHOOK_URL) was not told: it answered 410")

	status, _, _ = call("run", "lint", "--source", code(t, "test: {shards: 1}\n"), "--engine", "runner")
	require.Equal(t, 3, status)
	require.Len(t, s.Accepted(), 1, "one step alone notifies nobody")

	// The record is of this run, and not of the one before.
	out := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(out, "run.json"), []byte(`{"schema":"millrace/run/v1","verdict":"passed"}`), 0o644))
	status, _, _ = call(append(args, "--out", out)...)
	require.Equal(t, 3, status)
	record, err := readRun(filepath.Join(out, "run.json"))
	require.NoError(t, err)
	require.Equal(t, graph.Errored, record.Verdict)
	require.NotEmpty(t, record.Error)
	for _, n := range record.Nodes {
		require.Equal(t, graph.Skipped, n.Verdict, n.Name)
	}
}
