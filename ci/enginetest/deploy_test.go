package enginetest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// app serves its version. What it is told by its settings, it does wrong.
const app = `import http.server, os, sys, time
mode, version = os.environ.get("MODE", ""), os.environ["VERSION"]
if mode == "crash":
    sys.exit("no model at /models: set MODEL_DIR")
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(100)
        self.send_response(500 if mode == "unready" and self.path == "/readyz" else 200)
        self.end_headers()
        self.wfile.write(version.encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", 8000), App).serve_forever()
`

var images struct {
	mu   sync.Mutex
	refs map[string]string
}

// appImage returns a version of the app in the engine's registry, by digest.
func appImage(t *testing.T, version string) string {
	t.Helper()
	images.mu.Lock()
	defer images.mu.Unlock()
	if ref := images.refs[version]; ref != "" {
		return ref
	}
	ref, err := client(t).Container().From("python:3.11-slim").
		WithNewFile("/app.py", app).
		WithEnvVariable("VERSION", version).
		WithUser("1000").
		WithEntrypoint([]string{"python3", "/app.py"}).WithDefaultArgs(nil).
		Publish(t.Context(), running(t).Registry+"/deploy-test/app:"+version)
	require.NoError(t, err)
	if images.refs == nil {
		images.refs = map[string]string{}
	}
	images.refs[version] = ref
	return ref
}

// workload is a Deployment of the app that reads the ConfigMap settings.
func workload(name, image string) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: %[2]s
          envFrom: [{configMapRef: {name: settings-%[1]s}}]
          readinessProbe: {httpGet: {path: /readyz, port: 8000}, periodSeconds: 1}
          resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {selector: {app: %[1]s}, ports: [{port: 80, targetPort: 8000}]}
`, name, image)
}

func settings(name, mode string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings-%s}\ndata: {MODE: %q}\n", name, mode)
}

// place is a namespace of the shared cluster that a test deploys to.
type place struct {
	t         *testing.T
	namespace string
	cluster   kube.Cluster
}

// places bounds how many of the tests that deploy run side by side.
var places = make(chan struct{}, 3)

func newPlace(t *testing.T) *place {
	t.Helper()
	needsEngine(t)
	places <- struct{}{}
	t.Cleanup(func() { <-places })
	return &place{t: t, namespace: namespace(t), cluster: cluster(t)}
}

// deploy makes the step that deploys a version of the app.
func (p *place) deploy(version string) kube.Deploy {
	return kube.Deploy{
		Environment: "test", Namespace: p.namespace, Cluster: p.cluster, Manifests: kube.Manifests{Path: "k8s"},
		Images: map[string]string{"app": appImage(p.t, version)}, Deadline: 2 * time.Minute,
		Origin:   kube.Origin{Holder: "the test " + p.t.Name(), Commit: sha, Ref: "main"},
		Progress: func(text string) { p.t.Log(text) },
	}
}

func (p *place) source(manifests string) *dagger.Directory {
	return client(p.t).Directory().WithNewFile("k8s/app.yaml", manifests)
}

func (p *place) run(d kube.Deploy, manifests string) kube.Rollout {
	p.t.Helper()
	began := time.Now()
	got, err := d.Run(p.t.Context(), client(p.t), p.source(manifests))
	p.t.Logf("%s after %s: %s\n%s", got.Verdict, time.Since(began).Round(100*time.Millisecond), got.Reason, got.Output)
	require.NoError(p.t, err)
	return got
}

// up deploys version 1, which works.
func (p *place) up() kube.Rollout {
	p.t.Helper()
	manifests := settings("app", "") + workload("app", "app")
	got := p.run(p.deploy("1"), manifests)
	require.Equal(p.t, graph.Passed, got.Verdict, got.Reason)
	p.serves("app", "1")
	return got
}

// serves checks which version a Service answers with.
func (p *place) serves(service, version string) {
	p.t.Helper()
	require.Equal(p.t, version, kubectl(p.t, "get", "--raw", "/api/v1/namespaces/"+p.namespace+"/services/"+service+":80/proxy/version"))
}

func (p *place) history() []kube.Release {
	p.t.Helper()
	all, err := kube.Environment{Name: "test", Namespace: p.namespace, Cluster: p.cluster}.History(p.t.Context(), client(p.t))
	require.NoError(p.t, err)
	return all
}

// requireStatuses checks how the releases on record ended, the newest first.
func (p *place) requireStatuses(want ...kube.Status) {
	p.t.Helper()
	var got []kube.Status
	for _, r := range p.history() {
		got = append(got, r.Status)
	}
	require.Equal(p.t, want, got)
}

func TestDeployAndRollBack(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.up()
	require.Equal(t, 1, first.Revision)
	require.Equal(t, []kube.Placed{{Workload: "deployment/app", Container: "app", Reference: appImage(t, "1"), Built: "app"}}, first.Placed)

	manifests := settings("app", "") + workload("app", "app")
	diff := p.deploy("2")
	diff.DryRun = true
	dry := p.run(diff, manifests)
	require.Contains(t, dry.Diff, "+        image: "+appImage(t, "2"))
	require.Contains(t, dry.Diff, "-        image: "+appImage(t, "1"))
	p.serves("app", "1")
	p.requireStatuses(kube.Deployed)

	second := p.run(p.deploy("2"), manifests)
	require.Equal(t, graph.Passed, second.Verdict)
	p.serves("app", "2")
	p.requireStatuses(kube.Deployed, kube.Superseded)

	began := time.Now()
	back, err := kube.Rollback{
		Environment: "test", Namespace: p.namespace, Cluster: p.cluster, Origin: kube.Origin{Holder: t.Name()},
	}.Run(t.Context(), client(t))
	require.NoError(t, err)
	t.Logf("rolled back after %s, of which the rollout took %.1f s\n%s", time.Since(began), back.Metrics["rollout_seconds"], back.Output)
	require.Equal(t, graph.Passed, back.Verdict)
	p.serves("app", "1")
	history := p.history()
	require.Equal(t, 1, history[0].RollbackTo)
	require.Equal(t, map[string]string{"app": appImage(t, "1")}, history[0].Images)

	gone, err := kube.Rollback{Environment: "test", Namespace: p.namespace, Cluster: p.cluster, To: 17}.Run(t.Context(), client(t))
	require.ErrorContains(t, err, "test has no revision 17: there are 3, 2, 1")
	require.Zero(t, gone.Revision)
	p.requireStatuses(kube.Deployed, kube.Superseded, kube.Superseded)

	// A change to what the pods read rolls them.
	before := kubectl(t, "get", "pods", "--namespace", p.namespace, "-l", "app=app", "--field-selector=status.phase=Running", "-o", "name")
	changed := settings("app", "other") + workload("app", "app")
	require.Equal(t, graph.Passed, p.run(p.deploy("1"), changed).Verdict)
	require.NotEqual(t, before, kubectl(t, "get", "pods", "--namespace", p.namespace, "-l", "app=app", "--field-selector=status.phase=Running", "-o", "name"))

	// What a release no longer has is removed.
	fewer := settings("app", "") + strings.Split(workload("app", "app"), "---\napiVersion: v1\nkind: Service")[0]
	require.Equal(t, graph.Passed, p.run(p.deploy("1"), fewer).Verdict)
	require.Empty(t, kubectl(t, "get", "service", "app", "--namespace", p.namespace, "--ignore-not-found", "-o", "name"))

	state, err := kube.Environment{Name: "test", Namespace: p.namespace, Cluster: p.cluster}.Status(t.Context(), client(t))
	require.NoError(t, err)
	t.Log(state.Text())
	require.Equal(t, 5, state.Present.Revision)
	require.Nil(t, state.Unfinished)
	require.Nil(t, state.Holder)
	require.Equal(t, 1, state.Workloads[0].Up)
}

// What does not come up goes back to what was there, with one cause, on one screen.
func TestFaultsOfARelease(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		manifests string
		change    func(*place, *kube.Deploy)
		verdict   graph.Verdict
		cause     string
		screen    []string
	}{
		"a container that crashes at start": {
			manifests: settings("app", "crash") + workload("app", "app"),
			verdict:   graph.Failed, cause: "crashes at start with exit code 1",
			screen: []string{"last words of container app", "no model at /models: set MODEL_DIR", "BackOff"},
		},
		"a readiness probe that fails": {
			manifests: settings("app", "unready") + workload("app", "app"),
			change:    func(_ *place, d *kube.Deploy) { d.Deadline = 25 * time.Second },
			verdict:   graph.Failed, cause: "readiness probe failed: HTTP probe failed with statuscode: 500",
		},
		"a smoke test that fails after a good rollout": {
			manifests: settings("app", "") + workload("app", "app"),
			change: func(p *place, d *kube.Deploy) {
				d.Verify = func(_ context.Context, r kube.Rollout) (step.Result, error) {
					p.serves("app", "2")
					require.Equal(p.t, kube.Verifying, p.history()[0].Status)
					require.Equal(p.t, 2, r.Revision)
					return step.Result{Verdict: graph.Failed, Reason: "/version answers 2 and not 3"}, nil
				}
			},
			verdict: graph.Failed, cause: "the checks of the release did not pass: /version answers 2 and not 3",
		},
		"the second of two workloads": {
			manifests: settings("app", "") + workload("app", "app") + settings("worker", "crash") + workload("worker", "app"),
			verdict:   graph.Failed, cause: "deployment/worker: container app of pod worker-",
			screen: []string{"deployment/worker was not there before, and is gone again"},
		},
		"a quota that is used up": {
			manifests: settings("app", "") + strings.Replace(workload("app", "app"), "spec:\n", "spec:\n  replicas: 3\n", 1),
			change: func(p *place, _ *kube.Deploy) {
				apply(p.t, p.namespace, "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: small}\nspec: {hard: {pods: \"2\"}}\n")
			},
			verdict: graph.Errored, cause: "quota is used up",
		},
		"no room on any node": {
			manifests: settings("app", "") + strings.Replace(workload("app", "app"), "requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}", "requests: {cpu: 500}", 1),
			change:    func(_ *place, d *kube.Deploy) { d.Deadline = 15 * time.Second },
			verdict:   graph.Errored, cause: "Insufficient cpu",
		},
		"a ConfigMap that is not there": {
			manifests: settings("other", "") + workload("app", "app"),
			verdict:   graph.Failed, cause: "can't be started",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.up()
			if name == "a ConfigMap that is not there" {
				kubectl(t, "delete", "configmap", "settings-app", "--namespace", p.namespace)
				fault.manifests = strings.ReplaceAll(fault.manifests, "settings-app", "settings-nowhere")
			}
			d := p.deploy("2")
			if fault.change != nil {
				fault.change(p, &d)
			}
			got := p.run(d, fault.manifests)
			require.Equal(t, fault.verdict, got.Verdict)
			require.Contains(t, got.Reason, fault.cause)
			require.Contains(t, got.Reason, "rolled back: deployment/app runs "+appImage(t, "1")+" in 1 of 1 pods again")
			require.True(t, got.RolledBack)
			for _, text := range fault.screen {
				require.Contains(t, got.Output, text)
			}
			require.LessOrEqual(t, strings.Count(got.Output, "\n"), screenLines)
			p.serves("app", "1")
			p.requireStatuses(kube.RolledBack, kube.Deployed)
			require.Empty(t, kubectl(t, "get", "deployment,service", "worker", "--namespace", p.namespace, "--ignore-not-found", "-o", "name"))
			require.Contains(t, p.history()[0].Cause, fault.cause)
		})
	}
}

// What can't even be begun changes nothing, and leaves no record.
func TestFaultsBeforeARelease(t *testing.T) {
	t.Parallel()
	good := settings("app", "") + workload("app", "app")
	for name, fault := range map[string]struct {
		manifests string
		change    func(*place, *kube.Deploy)
		verdict   graph.Verdict
		cause     string
		transient bool
	}{
		"a manifest with a field that does not exist": {
			manifests: strings.Replace(good, "readinessProbe:", "readynessProbe:", 1),
			verdict:   graph.Failed, cause: "readynessProbe",
		},
		"a manifest that the server rejects": {
			manifests: strings.Replace(good, "matchLabels: {app: app}", "matchLabels: {app: other}", 1),
			verdict:   graph.Failed, cause: "the cluster rejects it: The Deployment \"app\" is invalid",
		},
		"a kind that the cluster does not know": {
			manifests: good + "---\napiVersion: example.com/v1\nkind: Unicorn\nmetadata: {name: a}\n",
			verdict:   graph.Failed, cause: "the cluster knows no kind Unicorn of example.com/v1",
		},
		"no namespace": {
			manifests: good,
			change:    func(_ *place, d *kube.Deploy) { d.Namespace = "nowhere" },
			cause:     "the namespace nowhere of test does not exist: create it with kubectl create namespace",
		},
		"a kubeconfig that has expired": {
			manifests: good,
			change: func(p *place, d *kube.Deploy) {
				text, err := d.Cluster.Kubeconfig.Plaintext(p.t.Context())
				require.NoError(p.t, err)
				d.Cluster.Kubeconfig = client(p.t).SetSecret("expired", withToken(p.t, text, "stale-canary-of-the-kubeconfig"))
			},
			cause: "the kubeconfig does not fit the cluster: it has expired, or is another cluster's",
		},
		"a kubeconfig that is none": {
			manifests: good,
			change:    func(p *place, d *kube.Deploy) { d.Cluster.Kubeconfig = client(p.t).SetSecret("none", "hello") },
			cause:     "neither a kubeconfig's text nor one in base64",
		},
		"an API server that can't be reached": {
			manifests: good,
			change: func(p *place, d *kube.Deploy) {
				cable := newCable(p.t, p.cluster)
				cable.cut()
				d.Cluster = cable.cluster()
			},
			cause: "the cluster can't be reached", transient: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.up()
			d := p.deploy("2")
			if fault.change != nil {
				fault.change(p, &d)
			}
			got, err := d.Run(t.Context(), client(t), p.source(fault.manifests))
			t.Logf("%s: %s (%v)\n%s", got.Verdict, got.Reason, err, got.Output)
			require.Equal(t, fault.transient, graph.IsTransient(err))
			if fault.verdict == "" {
				require.ErrorContains(t, err, fault.cause)
			} else {
				require.NoError(t, err)
				require.Equal(t, fault.verdict, got.Verdict)
				require.Contains(t, got.Reason, fault.cause)
				require.Contains(t, got.Reason, "nothing was changed")
			}
			require.NotContains(t, fmt.Sprint(got, err), "canary-of-the-kubeconfig")
			require.False(t, got.RolledBack)
			p.serves("app", "1")
			p.requireStatuses(kube.Deployed)
		})
	}
}

// withToken replaces the credentials of a kubeconfig.
func withToken(t *testing.T, kubeconfig, token string) string {
	t.Helper()
	var config map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(kubeconfig), &config))
	for _, user := range config["users"].([]any) {
		user.(map[string]any)["user"] = map[string]any{"token": token}
	}
	text, err := yaml.Marshal(config)
	require.NoError(t, err)
	return string(text)
}

// cable is the way to a cluster's API server through this machine, which can be cut.
type cable struct {
	t        *testing.T
	listener net.Listener
	backend  string
	text     string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

// wayIn returns the address of a cluster's API server on the embedded engine's network, which is a bridge of this machine: past the
// engine's own tunnels, of which one is closed as a whole when it has something for a connection that is gone.
func wayIn(t *testing.T, k kube.Cluster) string {
	t.Helper()
	tools, err := k.Tools(t.Context(), client(t))
	require.NoError(t, err)
	out, err := tools.WithExec([]string{"getent", "ahostsv4", k.Host}).Stdout(t.Context())
	require.NoError(t, err)
	address, _, _ := strings.Cut(out, " ")
	return net.JoinHostPort(address, "6443")
}

func newCable(t *testing.T, k kube.Cluster) *cable {
	t.Helper()
	endpoint := wayIn(t, k)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ephemeral.mu.Lock()
	text := ephemeral.running.KubeconfigAt("https://" + listener.Addr().String())
	ephemeral.mu.Unlock()
	c := &cable{t: t, listener: listener, backend: endpoint, text: text, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = listener.Close(); c.cut() })
	go c.accept()
	return c
}

func (c *cable) accept() {
	for {
		in, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.join(in)
	}
}

func (c *cable) join(in net.Conn) {
	defer in.Close()
	c.mu.Lock()
	down := c.down
	c.mu.Unlock()
	if down {
		return
	}
	out, err := net.Dial("tcp", c.backend)
	if err != nil {
		return
	}
	defer out.Close()
	c.mu.Lock()
	c.conns[in] = true
	c.mu.Unlock()
	go func() {
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}()
	_, _ = io.Copy(out, in)
}

// cut breaks all connections, and lets none through.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = map[net.Conn]bool{}
}

func (c *cable) cluster() kube.Cluster {
	return kube.HostCluster(client(c.t), "kubeconfig-"+c.listener.Addr().String(), base64.StdEncoding.EncodeToString([]byte(c.text)))
}

// A cluster that is out of reach for a moment is waited for; one that stays away leaves a record by which the next run reverts.
func TestClusterGoneInMidDeploy(t *testing.T) {
	t.Parallel()
	many := strings.Builder{}
	for i := range 40 {
		many.WriteString(settings(fmt.Sprintf("part-%d", i), "new"))
	}
	type cut struct{ phase, more string }
	sideBySide(t, map[string]cut{
		"during the apply": {"applying", many.String()},
		"after the apply":  {"waiting", ""},
	}, func(t *testing.T, test cut) {
		p := newPlace(t)
		p.up()
		manifests := test.more + settings("app", "unready") + workload("app", "app")

		cable, eye := newCable(t, p.cluster), newCable(t, p.cluster)
		d := p.deploy("2")
		d.Cluster, d.Deadline = cable.cluster(), 20*time.Second
		ended := make(chan error, 1)
		var got kube.Rollout
		go func() {
			var err error
			got, err = d.Run(t.Context(), client(t), p.source(manifests))
			ended <- err
		}()
		api := eye.api(t)
		eye.await(t, api, p.namespace, test.phase)
		cable.cut()
		err := <-ended
		t.Logf("%s: %s (%v)\n%s", got.Verdict, got.Reason, err, got.Output)
		if err != nil {
			var lost *kube.LostError
			require.True(t, errors.As(err, &lost) || strings.Contains(err.Error(), "can't be reached") || strings.Contains(err.Error(), "lease"), err)
		} else {
			require.Equal(t, graph.Errored, got.Verdict)
			require.Contains(t, got.Reason, "AND THE ROLLBACK FAILED")
			require.Contains(t, got.Output, "rollout undo deployment/app")
		}
		p.serves("app", "1") // the old pods stay until the new ones are ready
		p.requireStatuses(kube.Deploying, kube.Deployed)
		state, err := kube.Environment{Name: "test", Namespace: p.namespace, Cluster: p.cluster}.Status(t.Context(), client(t))
		require.NoError(t, err)
		require.Contains(t, state.Text(), "INTERRUPTED: revision 2")

		good := settings("app", "") + workload("app", "app")
		next := p.deploy("2")
		next.Wait = 2 * time.Minute
		again := p.run(next, good)
		require.Equal(t, graph.Passed, again.Verdict)
		require.Contains(t, again.Output, "was interrupted while it was deploying ("+test.phase+"): reverting it")
		p.serves("app", "2")
		p.requireStatuses(kube.Deployed, kube.RolledBack, kube.Superseded)
		require.Empty(t, kubectl(t, "get", "configmap", "settings-part-0", "--namespace", p.namespace, "--ignore-not-found", "-o", "name"), "something of the interrupted release is left")
	})
}

func TestTwoDeploysAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.up()
	manifests := settings("app", "") + workload("app", "app")
	hold, checking := make(chan struct{}), make(chan struct{})
	d := p.deploy("2")
	d.Verify = func(context.Context, kube.Rollout) (step.Result, error) {
		close(checking)
		<-hold
		return step.Result{Verdict: graph.Passed}, nil
	}
	first := make(chan kube.Rollout, 1)
	go func() {
		got, _ := d.Run(t.Context(), client(t), p.source(manifests))
		first <- got
	}()
	<-checking

	// One that does not want to wait is refused as soon as the holder is seen to be alive.
	_, err := p.deploy("3").Run(t.Context(), client(t), p.source(manifests))
	var held *kube.HeldError
	require.ErrorAs(t, err, &held)
	require.Contains(t, err.Error(), "test is being deployed to by the test TestTwoDeploysAtOnce, since 2")
	state, err := kube.Environment{Name: "test", Namespace: p.namespace, Cluster: p.cluster}.Status(t.Context(), client(t))
	require.NoError(t, err)
	require.True(t, state.Alive)
	require.Contains(t, state.Text(), "revision 2 is verifying now")

	// One that waits comes next.
	second := make(chan kube.Rollout, 1)
	waits := p.deploy("3")
	waits.Wait = 2 * time.Minute
	asked := make(chan struct{})
	var once sync.Once
	waits.Progress = func(text string) {
		if strings.Contains(text, "waiting") {
			once.Do(func() { close(asked) })
		}
	}
	go func() {
		got, _ := waits.Run(t.Context(), client(t), p.source(manifests))
		second <- got
	}()
	<-asked
	close(hold)
	require.Equal(t, graph.Passed, (<-first).Verdict)
	require.Equal(t, graph.Passed, (<-second).Verdict)
	p.serves("app", "3")
	p.requireStatuses(kube.Deployed, kube.Superseded, kube.Superseded)
}

// A lease that says it is from an hour ahead, or behind, is worth no more than any other.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.up()
	manifests := settings("app", "") + workload("app", "app")
	for i, skew := range []time.Duration{time.Hour, -time.Hour} {
		stamp := time.Now().Add(skew).UTC().Format("2006-01-02T15:04:05.000000Z")
		kubectl(t, "delete", "lease", "millrace-deploy", "--namespace", p.namespace)
		apply(t, p.namespace, fmt.Sprintf(`apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: millrace-deploy}
spec: {holderIdentity: "ada #1", leaseDurationSeconds: 12, acquireTime: %q, renewTime: %q, leaseTransitions: 1}
`, stamp, stamp))
		d := p.deploy("2")
		d.Wait = time.Minute
		began := time.Now()
		got := p.run(d, manifests)
		require.Equal(t, graph.Passed, got.Verdict)
		require.GreaterOrEqual(t, time.Since(began), 12*time.Second, "it did not wait for a holder that may be alive")
		require.Equal(t, 2+i, got.Revision)
	}
}

// A registry on the node that asks for a login, or has nothing.
const refusing = `apiVersion: v1
kind: Pod
metadata: {name: registry, labels: {app: registry}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
    - name: registry
      image: %s
      command: [python3, -c]
      args:
        - |
          import http.server
          class R(http.server.BaseHTTPRequestHandler):
              def do_GET(self):
                  self.send_response(401 if "/private/" in self.path else 404)
                  self.send_header("WWW-Authenticate", 'Basic realm="private"')
                  self.end_headers()
              do_HEAD = do_GET
          http.server.ThreadingHTTPServer(("127.0.0.1", %d), R).serve_forever()
`

func TestImagesThatCannotBePulled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.up()
	const port = 15999
	apply(t, p.namespace, fmt.Sprintf(refusing, appImage(t, "1"), port))
	kubectl(t, "wait", "pod/registry", "--namespace", p.namespace, "--for=condition=Ready", "--timeout=60s")
	for _, fault := range []struct {
		image   string
		verdict graph.Verdict
		cause   string
	}{
		{"private/model:1", graph.Errored, "the registry refuses the pull of 127.0.0.1:15999/private/model:1: give the pods a login with imagePullSecrets"},
		{"public/model:1", graph.Failed, "the image 127.0.0.1:15999/public/model:1 does not exist"},
	} {
		manifests := settings("app", "") + workload("app", fmt.Sprintf("127.0.0.1:%d/%s", port, fault.image))
		got := p.run(p.deploy("2"), manifests)
		require.Equal(t, fault.verdict, got.Verdict)
		require.Contains(t, got.Reason, fault.cause)
		require.Contains(t, got.Reason, "rolled back: deployment/app runs "+appImage(t, "1"))
		p.serves("app", "1")
	}
	p.requireStatuses(kube.RolledBack, kube.RolledBack, kube.Deployed)
}

// If nothing comes back either, that is said loudly, with what to type.
func TestRollbackFailsToo(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.up()
	eye := newCable(t, p.cluster)
	api := eye.api(t)
	manifests := settings("app", "crash") + workload("app", "app")
	d := p.deploy("2")
	d.Deadline = 70 * time.Second
	var once sync.Once
	d.Progress = func(text string) {
		t.Log(text)
		if strings.HasPrefix(text, "applying") {
			once.Do(func() {
				// From now on no pod that is new fits in, those of the old version included.
				go func() {
					eye.await(t, api, p.namespace, "waiting")
					apply(t, p.namespace, "apiVersion: v1\nkind: LimitRange\nmetadata: {name: large}\nspec: {limits: [{type: Container, min: {memory: 1Gi}}]}\n")
					kubectl(t, "delete", "pods", "--all", "--namespace", p.namespace, "--wait=false", "--grace-period=0", "--force")
				}()
			})
		}
	}
	got := p.run(d, manifests)
	require.Equal(t, graph.Errored, got.Verdict)
	require.Contains(t, got.Reason, "AND THE ROLLBACK FAILED")
	require.Contains(t, got.Output, "kubectl --namespace "+p.namespace+" rollout undo deployment/app")
	p.requireStatuses(kube.Failed, kube.Deployed)
}

// Secrets roll pods, come back with a rollback, and are seen nowhere on the way.
func TestSecretsOfARelease(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	secret := func(value string) string {
		return settings("app", "") + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {TOKEN: " + value + "}\n" +
			strings.Replace(workload("app", "app"), "envFrom: [", "envFrom: [{secretRef: {name: keys}}, ", 1)
	}
	const one, two, three = "canary-one-51c", "canary-two-8e2", "canary-three-77d"
	live := func() string {
		return kubectl(t, "get", "secret", "keys", "--namespace", p.namespace, "-o", "jsonpath={.data.TOKEN}")
	}
	coded := func(value string) string { return base64.StdEncoding.EncodeToString([]byte(value)) }
	var shown strings.Builder
	run := func(value string, change func(*kube.Deploy)) kube.Rollout {
		d := p.deploy("1")
		d.Progress = func(text string) { shown.WriteString(text) }
		if change != nil {
			change(&d)
		}
		got, err := d.Run(t.Context(), client(t), p.source(secret(value)))
		require.NoError(t, err)
		fmt.Fprint(&shown, got.Reason, got.Output, got.Diff, got.Findings)
		files, err := got.Reports.Glob(t.Context(), "**/*")
		require.NoError(t, err)
		for _, file := range files {
			text, err := got.Reports.File(file).Contents(t.Context())
			if err == nil {
				shown.WriteString(text)
			}
		}
		return got
	}
	require.Equal(t, graph.Passed, run(one, nil).Verdict)
	require.Equal(t, coded(one), live())
	dry := run(two, func(d *kube.Deploy) { d.DryRun = true })
	require.Contains(t, dry.Diff, "v1.Secret")
	require.Equal(t, coded(one), live())
	require.Equal(t, graph.Passed, run(two, nil).Verdict)
	require.Equal(t, coded(two), live())
	failed := run(three, func(d *kube.Deploy) {
		d.Verify = func(context.Context, kube.Rollout) (step.Result, error) {
			require.Equal(t, coded(three), live())
			return step.Result{Verdict: graph.Failed, Reason: "no"}, nil
		}
	})
	require.True(t, failed.RolledBack)
	require.Equal(t, coded(two), live(), "the value before is back")

	back, err := kube.Rollback{Environment: "test", Namespace: p.namespace, Cluster: p.cluster}.Run(t.Context(), client(t))
	require.NoError(t, err)
	require.Equal(t, graph.Passed, back.Verdict, back.Reason)
	require.Equal(t, coded(one), live(), "the value of the revision before is back")
	fmt.Fprint(&shown, back.Output)

	content := kubectl(t, "get", "secret", "millrace-release-2", "--namespace", p.namespace, "-o", "jsonpath={.data.release}")
	packed, err := base64.StdEncoding.DecodeString(content)
	require.NoError(t, err)
	shown.WriteString(gunzip(t, packed))
	for _, value := range []string{one, two, three} {
		require.NotContains(t, shown.String(), value)
		require.NotContains(t, shown.String(), coded(value))
	}
	require.Contains(t, shown.String(), `"kind":"ConfigMap"`, "the record was looked at")
}

func gunzip(t *testing.T, packed []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	text, err := io.ReadAll(z)
	require.NoError(t, err)
	return string(text)
}
