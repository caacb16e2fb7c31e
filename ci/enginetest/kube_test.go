package enginetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// ephemeral is the cluster that all tests of one session share.
var ephemeral struct {
	mu      sync.Mutex
	running *kube.Running
}

// cluster returns the cluster that all tests share; it is started when it is first asked for, and stopped at the end.
func cluster(t *testing.T) kube.Cluster {
	t.Helper()
	c := client(t)
	ephemeral.mu.Lock()
	defer ephemeral.mu.Unlock()
	if ephemeral.running == nil {
		ephemeral.running = startCluster(t, c, "cluster")
		t.Logf("the cluster took pods after %s", ephemeral.running.Ready)
	}
	return ephemeral.running.Cluster
}

// startCluster starts a cluster whose pods find the images in the engine's registry.
func startCluster(t *testing.T, c *dagger.Client, name string) *kube.Running {
	t.Helper()
	chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, os.Getenv, engine.Lines(os.Stderr))
	require.NoError(t, err)
	require.NoError(t, chosen.Ready(t.Context()))
	chosen.Prefetch(t.Context(), kube.References())
	registry, err := kube.HostRegistry(c, chosen.Registry)
	require.NoError(t, err)
	// Not the test's context: the cluster may outlive the test that happens to be the first.
	running, err := kube.Ephemeral{Name: name, Registry: registry}.Start(context.Background(), c)
	require.NoError(t, err)
	return running
}

// stopCluster stops the shared cluster; the next test that wants one gets a new one.
func stopCluster() {
	ephemeral.mu.Lock()
	defer ephemeral.mu.Unlock()
	if ephemeral.running != nil {
		// The cluster of a session whose engine was killed can't be stopped well, and need not be.
		_ = ephemeral.running.Stop(context.Background())
		ephemeral.running = nil
	}
}

// namespace makes a namespace of the shared cluster for one test, and returns its name.
func namespace(t *testing.T) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:8])
	kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		if _, err := kubectlOn(context.Background(), t, cluster(t), "", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Logf("delete the namespace: %v", err)
		}
	})
	return name
}

// kubectl runs kubectl on the shared cluster, and returns what it printed.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectlOn(t.Context(), t, cluster(t), "", args...)
	require.NoError(t, err)
	return out
}

// apply applies manifests in a namespace of the shared cluster.
func apply(t *testing.T, namespace, manifests string) {
	t.Helper()
	_, err := kubectlOn(t.Context(), t, cluster(t), manifests, "apply", "--namespace", namespace, "--filename", "-")
	require.NoError(t, err)
}

// kubectlOn runs kubectl on a cluster.
func kubectlOn(ctx context.Context, t *testing.T, k kube.Cluster, stdin string, args ...string) (string, error) {
	t.Helper()
	tools, err := k.Tools(ctx, client(t))
	if err != nil {
		return "", err
	}
	out, err := tools.WithExec(append([]string{"kubectl"}, args...), dagger.ContainerWithExecOpts{Stdin: stdin}).Stdout(ctx)
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), step.Explain(err))
	}
	return strings.TrimSpace(out), nil
}
