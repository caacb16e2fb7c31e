package enginetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	kubectl localKubectl
}

// localKubectl works on the shared cluster from a folder of this machine. The tests look at it several hundred times, and to
// start a container takes five times as long as kubectl does.
type localKubectl struct{ folder, server, name string }

func newLocalKubectl(t *testing.T, r *kube.Running) localKubectl {
	t.Helper()
	folder, err := os.MkdirTemp("", "enginetest-kubectl-")
	require.NoError(t, err)
	tools, err := r.Tools(t.Context(), client(t))
	require.NoError(t, err)
	_, err = tools.WithExec([]string{"sh", "-euc", `cp "$(command -v kubectl)" /tmp/kubectl`}).File("/tmp/kubectl").Export(t.Context(), filepath.Join(folder, "kubectl"))
	require.NoError(t, err)
	k := localKubectl{folder: folder, server: "https://" + wayIn(t, r.Cluster), name: r.Host}
	require.NoError(t, os.WriteFile(k.path("config"), []byte(r.KubeconfigAt(k.server)), 0o600))
	return k
}

func (k localKubectl) path(name string) string { return filepath.Join(k.folder, name) }

func (k localKubectl) run(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, k.path("kubectl"), append([]string{"--kubeconfig", k.path("config"), "--tls-server-name", k.name, "--cache-dir", k.path("cache")}, args...)...)
	// The cluster is on a bridge of this machine; and a third of so short a command is collecting garbage.
	cmd.Env = append(slices.Clone(environment), "NO_PROXY=*", "GOGC=off")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

// cluster returns the cluster that all tests share; it is started when it is first asked for, and stopped at the end.
func cluster(t *testing.T) kube.Cluster {
	t.Helper()
	c := client(t)
	ephemeral.mu.Lock()
	defer ephemeral.mu.Unlock()
	if ephemeral.running == nil {
		running := startCluster(t, c, "cluster")
		ephemeral.kubectl = newLocalKubectl(t, running)
		ephemeral.running = running
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
		_ = os.RemoveAll(ephemeral.kubectl.folder)
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

// kubectlOn runs kubectl on a cluster: the shared one's from this machine, another's in a container.
func kubectlOn(ctx context.Context, t *testing.T, k kube.Cluster, stdin string, args ...string) (out string, err error) {
	t.Helper()
	ephemeral.mu.Lock()
	shared, from := ephemeral.running != nil && k.Service != nil && k.Service == ephemeral.running.Service, ephemeral.kubectl
	ephemeral.mu.Unlock()
	if shared {
		out, err = from.run(ctx, stdin, args...)
	} else {
		var tools *dagger.Container
		if tools, err = k.Tools(ctx, client(t)); err != nil {
			return "", err
		}
		out, err = tools.WithExec(append([]string{"kubectl"}, args...), dagger.ContainerWithExecOpts{Stdin: stdin}).Stdout(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), step.Explain(err))
	}
	return strings.TrimSpace(out), nil
}
