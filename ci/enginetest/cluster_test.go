package enginetest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
)

// greeter answers with its name on port 8000.
const greeter = `import http.server, socket
class Greeter(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from " + socket.gethostname().encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", 8000), Greeter).serve_forever()
`

// greeters are three pods that run as what a careful cluster demands, and a service in front of them.
func greeters(image string, nodePort int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: greeter}
spec:
  replicas: 3
  selector: {matchLabels: {app: greeter}}
  template:
    metadata: {labels: {app: greeter}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: greeter
        image: %s
        readinessProbe: {httpGet: {path: /, port: 8000}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        resources: {requests: {cpu: 20m, memory: 32Mi}, limits: {memory: 128Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec:
  type: NodePort
  selector: {app: greeter}
  ports: [{port: 80, targetPort: 8000, nodePort: %d}]
`, image, nodePort)
}

// publishGreeter pushes the greeter to the engine's registry, and returns the reference by digest, as a release has it.
func publishGreeter(t *testing.T) string {
	t.Helper()
	reference, err := client(t).Container().From("python:3.11-slim").
		WithNewFile("/greeter.py", greeter).
		WithUser("1000").
		WithEntrypoint([]string{"python3", "/greeter.py"}).WithDefaultArgs(nil).
		Publish(t.Context(), running(t).Registry+"/cluster-test/greeter:"+strings.ToLower(rand.Text()[:8]))
	require.NoError(t, err)
	require.Contains(t, reference, "@sha256:")
	return reference
}

func TestCluster(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	image := publishGreeter(t)
	ns := namespace(t)
	apply(t, ns, greeters(image, 30080))
	kubectl(t, "rollout", "status", "--namespace", ns, "deployment/greeter", "--timeout=120s")

	t.Run("runs the digest that was pushed", func(t *testing.T) {
		images := strings.Fields(kubectl(t, "get", "pods", "--namespace", ns, "--output", "jsonpath={.items[*].status.containerStatuses[*].imageID}"))
		require.Len(t, images, 3)
		_, digest, _ := strings.Cut(image, "@")
		for _, id := range images {
			require.Contains(t, id, digest)
		}
	})

	// The node's rules for services may be a second behind the rollout.
	eventually(t, 30*time.Second, func() bool {
		_, err := kubectlOn(t.Context(), t, cluster(t), "", "exec", "--namespace", ns, "deployment/greeter", "--", "python3", "-c",
			"import socket, sys; socket.create_connection((sys.argv[1], 80), 5)", "greeter."+ns+".svc.cluster.local")
		return err == nil
	}, "the service takes no connection")

	fetch := "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
	t.Run("a service answers pods by its name", func(t *testing.T) {
		said := kubectl(t, "exec", "--namespace", ns, "deployment/greeter", "--", "python3", "-c", fetch, "http://greeter."+ns+".svc.cluster.local/")
		require.Contains(t, said, "hello from greeter-")
	})
	t.Run("a service answers pods by its address", func(t *testing.T) {
		address := kubectl(t, "get", "service", "greeter", "--namespace", ns, "--output", "jsonpath={.spec.clusterIP}")
		said := kubectl(t, "exec", "--namespace", ns, "deployment/greeter", "--", "python3", "-c", fetch, "http://"+address+"/")
		require.Contains(t, said, "hello from greeter-")
	})
	t.Run("a node port answers containers beside the cluster", func(t *testing.T) {
		tools, err := cluster(t).Tools(t.Context(), client(t))
		require.NoError(t, err)
		said, err := tools.WithExec([]string{"curl", "--silent", "--show-error", "--fail", "--retry", "10", "--retry-connrefused", "http://" + cluster(t).Host + ":30080/"}).Stdout(t.Context())
		require.NoError(t, err)
		require.Contains(t, said, "hello from greeter-")
	})
	t.Run("pods may be of images of Docker Hub", func(t *testing.T) {
		kubectl(t, "run", "plain", "--namespace", ns, "--image", "python:3.11-slim", "--restart", "Never", "--", "python3", "-c", "print('plain')")
		kubectl(t, "wait", "--namespace", ns, "pod/plain", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
		require.Equal(t, "plain", kubectl(t, "logs", "--namespace", ns, "plain"))
	})
	t.Run("pods' use of processor and memory can be read", func(t *testing.T) {
		var summary struct {
			Pods []struct {
				PodRef struct{ Name, Namespace string }
				Memory struct{ WorkingSetBytes int64 }
				CPU    struct{ UsageCoreNanoSeconds int64 }
			}
		}
		// The kubelet takes samples, and has none of a pod that just began.
		eventually(t, time.Minute, func() bool {
			text, err := kubectlOn(t.Context(), t, cluster(t), "", "get", "--raw", "/api/v1/nodes/"+cluster(t).Host+"/proxy/stats/summary")
			if err != nil || json.Unmarshal([]byte(text), &summary) != nil {
				return false
			}
			found := 0
			for _, p := range summary.Pods {
				if p.PodRef.Namespace == ns && strings.HasPrefix(p.PodRef.Name, "greeter-") && p.Memory.WorkingSetBytes > 1<<20 && p.CPU.UsageCoreNanoSeconds > 0 {
					found++
				}
			}
			return found == 3
		}, "the kubelet has no figures of the pods")
	})
}

func TestAStoppedClusterLeavesNothing(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	name := "node-" + strings.ToLower(rand.Text()[:8])
	k := startCluster(t, client(t), name)
	require.NotEmpty(t, processes(t, "--hostname-override="+name))
	out, err := kubectlOn(t.Context(), t, k.Cluster, "", "get", "nodes", "--output", "name")
	require.NoError(t, err)
	require.Equal(t, "node/"+name, out)
	require.NoError(t, k.Stop(t.Context()))
	eventually(t, 30*time.Second, func() bool { return len(processes(t, "--hostname-override="+name)) == 0 }, "a process of the node goes on")
}

func TestAClusterEndsWithItsSession(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, os.Getenv, engine.Lines(io.Discard))
	require.NoError(t, err)
	session, err := chosen.Connect(t.Context(), io.Discard)
	require.NoError(t, err)
	name := "node-" + strings.ToLower(rand.Text()[:8])
	startCluster(t, session, name)
	require.NotEmpty(t, processes(t, "--hostname-override="+name))
	require.NoError(t, session.Close())
	eventually(t, 30*time.Second, func() bool { return len(processes(t, "--hostname-override="+name)) == 0 }, "a process of the node goes on")
}

// clusterCommand runs "ci cluster", which needs no source.
func clusterCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append([]string{"cluster"}, args...)...)
	cmd.Env = environment
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

func TestClusterCommand(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	t.Cleanup(func() {
		cmd := exec.CommandContext(context.Background(), program, "cluster", "down")
		cmd.Env = environment
		_ = cmd.Run()
	})
	_, err := clusterCommand(t, "kubeconfig")
	require.ErrorContains(t, err, "ci cluster up")

	said, err := clusterCommand(t, "up", "--engine", "embedded")
	require.NoError(t, err)
	require.Contains(t, said, "export KUBECONFIG=")
	again, err := clusterCommand(t, "up", "--engine", "embedded")
	require.NoError(t, err)
	require.Equal(t, said, again, "the second one is the first one")

	text, err := clusterCommand(t, "kubeconfig")
	require.NoError(t, err)
	require.Contains(t, versionAt(t, text), "v1.34")

	status, err := clusterCommand(t, "status")
	require.NoError(t, err)
	require.Contains(t, status, "running since")
	require.Contains(t, status, ", answers\n")

	said, err = clusterCommand(t, "down")
	require.NoError(t, err)
	require.Equal(t, "the cluster is stopped\n", said)
	said, err = clusterCommand(t, "down")
	require.NoError(t, err)
	require.Equal(t, "no cluster was running\n", said)
	_, err = clusterCommand(t, "kubeconfig")
	require.ErrorContains(t, err, "no cluster is running")

	// One whose process was killed is gone too, and the next one is not kept from starting by what it left.
	_, err = clusterCommand(t, "up", "--engine", "embedded")
	require.NoError(t, err)
	status, err = clusterCommand(t, "status")
	require.NoError(t, err)
	var pid int
	_, after, _ := strings.Cut(status, "(pid ")
	_, err = fmt.Sscan(strings.TrimRight(strings.Fields(after)[0], ")"), &pid)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, 30*time.Second, func() bool {
		status, err := clusterCommand(t, "status")
		return err == nil && strings.Contains(status, "not running")
	}, "the cluster is said to run")
	_, err = clusterCommand(t, "up", "--engine", "embedded")
	require.NoError(t, err)
	text, err = clusterCommand(t, "kubeconfig")
	require.NoError(t, err)
	require.Contains(t, versionAt(t, text), "v1.34")
}

// versionAt asks the API server of a kubeconfig for its version, the way a client on this machine does.
func versionAt(t *testing.T, kubeconfig string) string {
	t.Helper()
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server    string
				Authority []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(kubeconfig), &config))
	require.True(t, strings.HasPrefix(config.Clusters[0].Cluster.Server, "https://127.0.0.1:"))
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(config.Clusters[0].Cluster.Authority))
	own, err := tls.X509KeyPair(config.Users[0].User.Certificate, config.Users[0].User.Key)
	require.NoError(t, err)
	http := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}}}
	defer http.CloseIdleConnections()
	resp, err := http.Get(config.Clusters[0].Cluster.Server + "/version")
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}
