package enginetest

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify/notifytest"
)

// The promise of the main job, from a push to main to production: one command, with nothing but an engine.
func TestDelivery(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := filepath.Join(t.TempDir(), "enginetest-delivery")
	require.NoError(t, os.CopyFS(source, os.DirFS(repository+"/examples/customer-intelligence")))
	commit := committed(t, source, "https://github.com/acme/customer-intelligence.git")

	t.Run("by the command line", func(t *testing.T) {
		s := &notifytest.Slack{Path: "/services/T0/B0/delivery"}
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		got := ci(t, source, []string{"ci-cd", "--event", "push", "--ref", "main", "--ephemeral"}, withEnv("SLACK_WEBHOOK_URL="+server.URL+s.Path))
		require.Zero(t, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{
			"lint": graph.Passed, "test": graph.Passed, "security": graph.Passed, "build": graph.Passed, "publish": graph.Passed,
			"deploy-staging": graph.Passed, "load-test-staging": graph.Passed, "deploy-production": graph.Passed, "load-test-production": graph.Passed,
			"deploy-dev": graph.Skipped, "notify": graph.Passed,
		})
		runs := ""
		for _, image := range got.images(t) {
			if image.Name == "api" {
				runs = image.Digest
			}
		}
		require.NotEmpty(t, runs)
		for _, environment := range []string{"staging", "production"} {
			require.Contains(t, got.text(t, "reports/deploy-"+environment+"/rollout.txt"), runs, "what was built and scanned is what runs")
			require.Contains(t, got.text(t, "reports/deploy-"+environment+"/checks/junit.xml"), "all models are loaded")
			require.Positive(t, got.node(t, "load-test-"+environment).Metrics["requests"])
		}
		require.Empty(t, s.Problems())
		require.Len(t, s.Accepted(), 1)
		require.Contains(t, string(s.Accepted()[0]), "production")
		require.Contains(t, string(s.Accepted()[0]), commit[:7])
		for _, n := range got.run.Nodes {
			t.Logf("%-22s %-10s %6.1f s  %s", n.Name, n.Verdict, n.Seconds, n.Reason)
		}
	})
	t.Run("by dagger call", func(t *testing.T) {
		registry := running(t).Registry
		done := module(t, source, "ci-cd", "--event=push", "--ref=main", "--sha="+commit, "--ephemeral",
			"--registry="+registry+"/enginetest-delivery", "--registry-service=tcp://"+registry)
		require.Zero(t, done.code, done.stderr)
		for _, node := range []string{"deploy-staging", "load-test-staging", "deploy-production", "load-test-production"} {
			require.Regexp(t, "✓ "+node+" ", done.stdout)
		}
	})
}
