package enginetest

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify/notifytest"
)

func TestNotify(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	const canary = "canary-of-slack-2e8d"
	s := &notifytest.Slack{Path: "/services/T0/B0/" + canary}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	hook := withEnv("SLACK_WEBHOOK_URL=" + server.URL + s.Path)
	source := scores(t, edits{"scores/unused.py": "\"\"\"A module.\"\"\"\n\nimport os\n"})
	// The lint alone decides: what follows it is left out, so that the test says as much and takes less.
	args := append([]string{"ci-cd", "--skip", "build,security", "--verbose"}, push...)

	t.Run("a failure is told", func(t *testing.T) {
		got := ci(t, source, args, hook)
		require.Equal(t, 1, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"lint": graph.Failed, "notify": graph.Passed})
		require.Equal(t, "told slack (SLACK_WEBHOOK_URL)", got.node(t, "notify").Reason)
		require.Empty(t, s.Problems())
		require.Len(t, s.Accepted(), 1)
		for _, want := range []string{"ci-cd failed", "lint failed", "scores/unused.py:3", sha[:7], "main"} {
			require.Contains(t, string(s.Accepted()[0]), want)
		}
		got.requireNowhere(t, canary)
	})

	t.Run("Slack being down changes nothing", func(t *testing.T) {
		s.Plan(notifytest.Answer{Status: 404, Body: "no_service: " + canary})
		got := ci(t, source, args, hook)
		require.Equal(t, 1, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"lint": graph.Failed, "notify": graph.Passed})
		require.Contains(t, got.node(t, "notify").Reason, "warning: slack (SLACK_WEBHOOK_URL) was not told")
		require.Equal(t, "lint", got.run.Causes()[0].Name)
		require.Len(t, got.run.Causes(), 1)
		got.requireNowhere(t, canary)
	})

	t.Run("nor does a passed run", func(t *testing.T) {
		edit(t, source, edits{
			"scores/unused.py": gone,
			"millrace.yaml":    "notify: [{kind: slack, on: [success]}]\n",
		})
		s.Plan(notifytest.Answer{Status: 410, Body: "channel_is_archived"})
		got := ci(t, source, append([]string{"ci-cd", "--only", "lint,notify", "--verbose"}, push...), hook)
		require.Equal(t, 0, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"lint": graph.Passed, "notify": graph.Passed})
		require.Contains(t, got.node(t, "notify").Reason, "warning: ")
		got.requireNowhere(t, canary)
	})
	require.Len(t, s.Accepted(), 1)
}
