package enginetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

var kubeconfigData = regexp.MustCompile(`"?(certificate-authority|client-certificate|client-key)-data"?: ?"?([A-Za-z0-9+/=]+)`)

// api asks the API server itself, which is faster than kubectl: what passes in a moment can be seen.
func (c *cable) api(t *testing.T) *http.Client {
	t.Helper()
	data := map[string][]byte{}
	for _, m := range kubeconfigData.FindAllStringSubmatch(c.text, -1) {
		raw, err := base64.StdEncoding.DecodeString(m[2])
		require.NoError(t, err)
		data[m[1]] = raw
	}
	pair, err := tls.X509KeyPair(data["client-certificate"], data["client-key"])
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(data["certificate-authority"]))
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}}}
}

// phase returns how far a revision has come, as its record says; empty if there is none.
func (c *cable) phase(t *testing.T, client *http.Client, namespace string, revision int) string {
	t.Helper()
	answer, err := client.Get(fmt.Sprintf("https://%s/api/v1/namespaces/%s/secrets/millrace-release-%d", c.listener.Addr(), namespace, revision))
	require.NoError(t, err)
	defer answer.Body.Close()
	var secret labelled
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&secret))
	return secret.phase()
}

// labelled is what matters of an object of the API's.
type labelled struct {
	Metadata struct {
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
}

func (l labelled) phase() string { return l.Metadata.Labels["millrace.dev/phase"] }

// await watches the record of revision 2, which tells of each phase at once, until it comes to one of some phases.
func (c *cable) await(t *testing.T, client *http.Client, namespace string, phases ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("https://%s/api/v1/namespaces/%s/secrets?watch=true&fieldSelector=metadata.name%%3Dmillrace-release-2", c.listener.Addr(), namespace), nil)
	require.NoError(t, err)
	answer, err := (&http.Client{Transport: client.Transport}).Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	events := json.NewDecoder(answer.Body)
	for {
		var event struct{ Object labelled }
		require.NoError(t, events.Decode(&event), "it does not come to %s", strings.Join(phases, " or "))
		if slices.Contains(phases, event.Object.phase()) {
			return
		}
	}
}

// folder writes a source tree with an environment called test, whose manifests are given.
func (p *place) folder(manifests, smoke string) string {
	p.t.Helper()
	dir := p.t.TempDir()
	for name, text := range map[string]string{
		"k8s/app.yaml":  manifests,
		"millrace.yaml": fmt.Sprintf("environments:\n  - name: test\n    namespace: %s\n    url: http://app\n    deadline: 3m\n%s", p.namespace, smoke),
	} {
		file := filepath.Join(dir, name)
		require.NoError(p.t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(p.t, os.WriteFile(file, []byte(text), 0o644))
	}
	return dir
}

// A deploy that is killed leaves the old version serving and a record by which the next run reverts it.
func TestDeployIsKilled(t *testing.T) {
	t.Parallel()
	many := strings.Builder{}
	for i := range 40 {
		many.WriteString(settings(fmt.Sprintf("part-%d", i), "new"))
	}
	type kill struct {
		phases    []string
		manifests func(p *place, version string) string
		smoke     string
		// serves is the version that serves when the run is dead.
		serves string
		// rollback has the next run roll back instead of deploying.
		rollback bool
	}
	sideBySide(t, map[string]kill{
		"after the record": {
			phases: []string{"recorded", "applying", "waiting"}, serves: "1", rollback: true,
			manifests: func(p *place, version string) string {
				return settings("app", "unready") + workload("app", appImage(p.t, version))
			},
		},
		"in mid-apply": {
			phases: []string{"applying"}, serves: "1",
			manifests: func(p *place, version string) string {
				return many.String() + settings("app", "unready") + workload("app", appImage(p.t, version))
			},
		},
		"in mid-wait": {
			phases: []string{"waiting"}, serves: "1",
			manifests: func(p *place, version string) string {
				return settings("app", "unready") + workload("app", appImage(p.t, version))
			},
		},
		"in mid-smoke": {
			phases: []string{"verifying"}, serves: "2", rollback: true,
			smoke: "    smoke: [{http: {url: /slow}, timeout: 2m}]\n",
			manifests: func(p *place, version string) string {
				return settings("app", "") + workload("app", appImage(p.t, version))
			},
		},
	}, func(t *testing.T, test kill) {
		p := newPlace(t)
		p.up()
		cable := newCable(t, p.cluster)
		client := cable.api(t)
		kubeconfig := withEnv("KUBE_CONFIG_TEST=" + base64.StdEncoding.EncodeToString([]byte(cable.text)))
		args := []string{"deploy", "test", "--event", "push", "--ref", "main", "--sha", sha}

		run := start(t, p.folder(test.manifests(p, "2"), test.smoke), args, kubeconfig)
		require.Eventually(t, func() bool {
			phase := cable.phase(t, client, p.namespace, 2)
			for _, one := range test.phases {
				if phase == one {
					return true
				}
			}
			return false
		}, 4*time.Minute, 10*time.Millisecond, "it does not come so far")
		require.NoError(t, syscall.Kill(-run.cmd.Process.Pid, syscall.SIGKILL))
		require.Error(t, <-run.ended)
		killed := cable.phase(t, client, p.namespace, 2)
		t.Logf("killed while it was %s", killed)
		p.serves("app", test.serves)

		good := p.folder(settings("app", "")+workload("app", appImage(t, "3")), "")
		status := ci(t, good, []string{"status", "test"}, kubeconfig)
		require.Zero(t, status.code)
		require.True(t, strings.HasPrefix(status.stdout, "INTERRUPTED: revision 2"), status.stdout)
		require.Contains(t, status.stdout, program+" rollback test --source "+good)

		if test.rollback {
			back := ci(t, good, []string{"rollback", "test"}, kubeconfig)
			require.Zero(t, back.code)
			require.Contains(t, back.stdout, "was interrupted while it was")
			p.serves("app", "1")
			p.requireStatuses(kube.RolledBack, kube.Deployed)
		} else {
			next := ci(t, good, args, kubeconfig)
			require.Zero(t, next.code)
			require.Contains(t, next.stdout, "was interrupted while it was")
			p.serves("app", "3")
			p.requireStatuses(kube.Deployed, kube.RolledBack, kube.Superseded)
		}
		require.Empty(t, kubectl(t, "get", "configmap", "settings-part-0", "--namespace", p.namespace, "--ignore-not-found", "-o", "name"), "something of the interrupted release is left")

		history := ci(t, good, []string{"history", "test"}, kubeconfig)
		require.Contains(t, history.stdout, "reverted by")
	})
}

// The engine is lost in mid-deploy, which the cluster survives: the old version serves, and a run on another engine finds the
// record and reverts. The lost engine is one of its own, since the tests' own cluster lives on the other.
func TestEngineIsLostInMidDeploy(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.up()
	cable := newCable(t, p.cluster)
	client := cable.api(t)
	kubeconfig := "KUBE_CONFIG_TEST=" + cable.text
	m := startMachine(t)
	args := []string{"deploy", "test", "--event", "push", "--ref", "main", "--sha", sha}
	run := start(t, p.folder(settings("app", "unready")+workload("app", appImage(t, "2")), ""), args,
		func(cmd *exec.Cmd) { cmd.Env = append(slices.Clone(m.env), kubeconfig) })
	cable.await(t, client, p.namespace, "waiting")

	require.NoError(t, syscall.Kill(m.running().PID, syscall.SIGKILL))
	got := run.wait(t, 2*time.Minute)
	require.Equal(t, 3, got.code)
	require.Equal(t, graph.Errored, got.node(t, "deploy-test").Verdict)
	require.Contains(t, got.node(t, "deploy-test").Reason, "engine")
	got.requireOneScreen(t)
	eventually(t, 10*time.Second, func() bool { return len(processes(t, m.cache)) == 0 }, "a session outlives its command")
	p.serves("app", "1")

	good := p.folder(settings("app", "")+workload("app", appImage(t, "3")), "")
	status := ci(t, good, []string{"status", "test"}, withEnv(kubeconfig))
	require.Zero(t, status.code)
	require.Contains(t, status.stdout, "INTERRUPTED: revision 2")
	next := ci(t, good, args, withEnv(kubeconfig))
	require.Zero(t, next.code)
	require.Contains(t, next.stdout, "was interrupted while it was")
	p.serves("app", "3")
	p.requireStatuses(kube.Deployed, kube.RolledBack, kube.Superseded)
}

// A run that is told to end undoes what it has begun, also where the signal goes to all processes of its group, as a terminal's Ctrl-C does.
func TestDeployIsInterrupted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		signal syscall.Signal
		group  bool
	}{
		"the process alone":     {syscall.SIGTERM, false},
		"everything in a group": {syscall.SIGINT, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.up()
			cable := newCable(t, p.cluster)
			client := cable.api(t)
			kubeconfig := withEnv("KUBE_CONFIG_TEST=" + cable.text)
			source := p.folder(settings("app", "unready")+workload("app", appImage(t, "2")), "")
			statuses := []kube.Status{kube.Deployed}
			for attempt := 1; ; attempt++ {
				run := start(t, source, []string{"deploy", "test"}, kubeconfig)
				require.Eventually(t, func() bool { return cable.phase(t, client, p.namespace, attempt+1) == "waiting" }, 4*time.Minute, 50*time.Millisecond, "it does not come so far")
				target := run.cmd.Process.Pid
				if test.group {
					target = -target
				}
				require.NoError(t, syscall.Kill(target, test.signal))
				got := run.wait(t, time.Minute)
				require.Equal(t, 130, got.code)
				require.Equal(t, graph.Cancelled, got.node(t, "deploy-test").Verdict)
				p.serves("app", "1")
				statuses = append([]kube.Status{kube.RolledBack}, statuses...)
				if strings.Contains(got.node(t, "deploy-test").Reason, "interrupted in mid-deploy; rolled back: deployment/app runs") {
					break
				}
				// On a machine with this much else to do, its time was over before: who comes next reverts it.
				require.Less(t, attempt, 3, "it is never rolled back in time")
				require.Contains(t, ci(t, source, []string{"status", "test"}, kubeconfig).stdout, "INTERRUPTED: revision")
			}
			p.requireStatuses(statuses...)
		})
	}
}

// The values of Secrets that live in the cluster, and the credentials of the kubeconfig, are in nothing that a deploy prints, leaves,
// or has the engine keep: a Secret in the source is known to whoever knows the source, but these are not.
func TestSecretsOfTheClusterStayThere(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cable := newCable(t, p.cluster)
	var key string
	for _, m := range kubeconfigData.FindAllStringSubmatch(cable.text, -1) {
		if m[1] == "client-key" {
			key = m[2]
		}
	}
	require.NotEmpty(t, key)
	kubeconfig := withEnv("KUBE_CONFIG_TEST=" + cable.text)
	const value = "canary-of-the-cluster-b81c5e"
	coded := base64.StdEncoding.EncodeToString([]byte(value))
	began := time.Now()

	secret := func(value string) string {
		return settings("app", "") + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {TOKEN: " + value + "}\n" +
			strings.Replace(workload("app", appImage(t, "1")), "envFrom: [", "envFrom: [{secretRef: {name: keys}}, ", 1)
	}
	args := []string{"deploy", "test", "--verbose"}
	first := ci(t, p.folder(secret("first"), ""), args, kubeconfig)
	require.Zero(t, first.code)
	// Somebody sets another value by hand, which a release that fails has to bring back. It goes the short way to the cluster: past the engine.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch,
		fmt.Sprintf("https://%s/api/v1/namespaces/%s/secrets/keys", cable.listener.Addr(), p.namespace), strings.NewReader(`{"data":{"TOKEN":"`+coded+`"}}`))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/merge-patch+json")
	answer, err := cable.api(t).Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)

	dry := ci(t, p.folder(secret("second"), ""), append(args, "--dry-run"), kubeconfig)
	require.Zero(t, dry.code)
	require.Contains(t, dry.stdout, "*** (before)")
	broken := ci(t, p.folder(strings.Replace(secret("second"), `MODE: ""`, `MODE: "crash"`, 1), ""), args, kubeconfig)
	require.Equal(t, 1, broken.code)
	require.Contains(t, broken.stdout, "rolled back")
	back := ci(t, p.folder(secret("third"), ""), []string{"rollback", "test", "--to-revision", "1", "--verbose"}, kubeconfig)
	require.Zero(t, back.code)

	for _, run := range []outcome{first, broken, back} {
		run.requireNowhere(t, value, coded, key)
	}
	require.NotContains(t, dry.stdout+dry.stderr, value)
	require.NotContains(t, dry.stdout+dry.stderr, coded)
	own, err := embedded()
	require.NoError(t, err)
	looked := 0
	require.NoError(t, filepath.WalkDir(own.State(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what others have the engine keep comes and goes
		}
		if d.IsDir() && filepath.Base(filepath.Dir(path)) == "snapshots" {
			// Hundreds of thousands of files lie in layers that were finished before, and don't change any more.
			if info, err := d.Info(); err == nil && info.ModTime().Before(began) && filepath.Base(path) != "snapshots" {
				return filepath.SkipDir
			}
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if strings.Contains(path, "/k3s/server/db/") {
			return nil // the cluster itself, which is a service of this engine
		}
		info, err := d.Info()
		if err != nil || info.ModTime().Before(began) || info.Size() > 64<<20 {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		looked++
		for _, secret := range []string{value, coded} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s has the secret %s", path, secret)
			}
		}
		return nil
	}))
	require.Greater(t, looked, 20)
}

// The Dagger module deploys, looks and rolls back as the command line does.
func TestModuleDeploys(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.up()
	cable := newCable(t, p.cluster)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, []byte(cable.text), 0o600))
	at := []string{"--environment=test", "--kubeconfig=file:" + kubeconfig, "--server=tcp://" + cable.listener.Addr().String()}
	source := p.folder(settings("app", "")+workload("app", appImage(t, "2")), "")

	dry := module(t, source, append([]string{"deploy", "--dry-run"}, at...)...)
	require.Zero(t, dry.code, dry.stderr)
	require.Contains(t, dry.stdout, "+        image: "+appImage(t, "2"))
	p.serves("app", "1")
	done := module(t, source, append([]string{"deploy", "--event=push", "--ref=main", "--sha=" + sha}, at...)...)
	require.Zero(t, done.code, done.stderr)
	require.Contains(t, done.stdout, "revision 2 runs")
	p.serves("app", "2")
	status := module(t, source, append([]string{"status"}, at...)...)
	require.Contains(t, status.stdout, "revision 2, deployed")
	require.Contains(t, status.stdout, appImage(t, "2"))
	back := module(t, source, append([]string{"rollback"}, at...)...)
	require.Zero(t, back.code, back.stderr)
	require.Contains(t, back.stdout, "revision 1 is back, as revision 3")
	p.serves("app", "1")
	history := module(t, source, append([]string{"history"}, at...)...)
	require.Contains(t, history.stdout, "deployed (back to 1)")

	gone := module(t, source, append([]string{"rollback", "--to-revision=17"}, at...)...)
	require.Equal(t, 2, gone.code)
	require.Contains(t, gone.stdout+gone.stderr, "test has no revision 17: there are 3, 2, 1")
	broken := module(t, p.folder(settings("app", "crash")+workload("app", appImage(t, "2")), ""), append([]string{"deploy"}, at...)...)
	require.Equal(t, 1, broken.code)
	require.Contains(t, broken.stdout+broken.stderr, "crashes at start with exit code 1; rolled back")
	p.serves("app", "1")
}
