package enginetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

// repository is the root of this repository, seen from the tests.
const repository = "../.."

// program is the ci program under test, as an absolute path.
var program string

// environment is what the program runs with: nothing of a CI host, a session or another engine that the tests
// themselves may run in, and none of the secrets that it reads.
var environment []string

func TestMain(m *testing.M) {
	engine.BecomeSession()
	flag.Parse()
	if testing.Short() || flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	// What runs side by side waits for clusters, servers and the engine about as much as it works: two for each processor. The
	// tests of one file do much the same, and would wait, or work, all at once: they are mixed, each time in the same way.
	if parallel, processors := flag.Lookup("test.parallel"), runtime.GOMAXPROCS(0); parallel.Value.String() == strconv.Itoa(processors) {
		set(parallel, strconv.Itoa(2*processors))
	}
	ordered := false
	flag.Visit(func(f *flag.Flag) { ordered = ordered || f.Name == "test.shuffle" })
	if !ordered {
		set(flag.Lookup("test.shuffle"), "1")
	}
	status, err := withEngine(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "enginetest:", err)
		status = max(status, 1)
	}
	os.Exit(status)
}

func set(f *flag.Flag, value string) {
	if err := f.Value.Set(value); err != nil {
		panic(err)
	}
}

// needsEngine skips a test where there is no engine.
func needsEngine(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the engine, and -short was given")
	}
}

// enough is what the tests take on a machine where everything has to be made first.
const enough = 100 * time.Minute

func withEngine(run func() int) (status int, err error) {
	timeout := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	all := flag.Lookup("test.run").Value.String() == ""
	if all && timeout > 0 && timeout < enough {
		return 0, fmt.Errorf("the first run takes up to %s, and would be ended after %s: add -timeout 110m", enough, timeout)
	}
	environment = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "REGISTRY_USER", "REGISTRY_PASSWORD", "CODECOV_TOKEN", "SAFETY_API_KEY", "RETRAIN_TOKEN", "MILLRACE_STATE", "SLACK_WEBHOOK_URL", "NOTIFY_WEBHOOK_URL", "NOTIFY_WEBHOOK_KEY", "SMTP_PASSWORD", "TF_BUILD", "JENKINS_URL", "JENKINS_HOME":
			return true
		}
		for _, prefix := range []string{"_EXPERIMENTAL_DAGGER_", "MLFLOW_", "DAGGER_", "GITHUB_", "GITLAB_", "CI", "BUILDKITE", "CIRCLE", "BITBUCKET_"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	})
	dir, err := os.MkdirTemp("", "enginetest-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program = filepath.Join(dir, "ci")
	if err := visibly("go", "build", "-o", program, repository+"/ci"); err != nil {
		return 0, fmt.Errorf("build the ci program: %w", err)
	}
	own, err := embedded()
	if err != nil {
		return 0, err
	}
	before, err := own.Status()
	if err != nil {
		return 0, err
	}
	if before == nil {
		// Whatever fails from here on, what these tests started does not stay.
		host := hostNetwork()
		defer func() {
			if err = errors.Join(err, visibly(program, "engine", "down")); err != nil {
				return
			}
			// The kernel takes devices away a moment after the namespaces that they led to.
			after := hostNetwork()
			for range 20 {
				if after == host {
					return
				}
				time.Sleep(500 * time.Millisecond)
				after = hostNetwork()
			}
			err = fmt.Errorf("after the engine the host's network is not as it was before it:\n%s\nand it was:\n%s", after, host)
		}()
	}
	if err := visibly(program, "engine", "up", "--engine", "embedded"); err != nil {
		return 0, fmt.Errorf("start the engine: %w", err)
	}
	defer closeClient()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if all { // a test that is run by itself is not to have Kubernetes compiled beside it
		go makeStandIns(ctx, own)
	}
	return run(), nil
}

// makeStandIns asks for the images that take longest to make, from the start: the first tests stop things, run one by one, and
// leave half of the machine idle. They also stop the engine in the midst of it, so it asks again. What can't be made is for the
// test that needs it to say.
func makeStandIns(ctx context.Context, own *engine.Embedded) {
	for _, reference := range append(kube.References(), image.K6, image.GolangciLint) {
		repository, tag, _ := strings.Cut(reference, ":")
		for range 20 {
			// Not by way of [engine.Engine.Prefetch], which starts an engine where a test has stopped it.
			if r, err := own.Status(); err == nil && r != nil {
				request, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+r.Registry+"/v2/"+repository+"/manifests/"+tag+"?ns=docker.io", nil)
				if err != nil {
					break
				}
				if response, err := http.DefaultClient.Do(request); err == nil {
					_ = response.Body.Close()
					if response.StatusCode == http.StatusOK {
						break
					}
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(3 * time.Second):
			}
		}
	}
}

// hostNetwork describes what an engine changes of the host's network while it runs: forwarding, name servers, interfaces, routes,
// firewall. A machine without iptables has no rules.
func hostNetwork() string {
	var all strings.Builder
	for _, file := range []string{"/proc/sys/net/ipv4/ip_forward", "/etc/resolv.conf"} {
		text, _ := os.ReadFile(file)
		fmt.Fprintf(&all, "%s: %s\n", file, text)
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addresses, _ := i.Addrs()
		fmt.Fprintln(&all, i.Name, addresses)
	}
	routes, _ := os.ReadFile("/proc/net/route")
	all.Write(routes)
	for _, table := range []string{"filter", "nat"} {
		rules, _ := exec.Command("iptables", "--wait", "-t", table, "-S").Output()
		for rule := range strings.Lines(string(rules)) {
			if !strings.HasPrefix(rule, "-P ") { // what a chain does by itself is listed once there is an iptables
				fmt.Fprint(&all, table, " ", rule)
			}
		}
	}
	return all.String()
}

// visibly runs a command whose output people who wait should see.
func visibly(argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = environment
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// embedded is the engine that all tests use: it alone has a registry of its own, reaches registries on this machine's
// loopback, and can be killed.
func embedded() (*engine.Embedded, error) {
	return engine.NewEmbedded(os.Getenv, engine.Lines(io.Discard))
}

// running returns the engine's present process.
func running(t *testing.T) engine.Running {
	t.Helper()
	own, err := embedded()
	require.NoError(t, err)
	r, err := own.Status()
	require.NoError(t, err)
	require.NotNil(t, r, "no engine is running")
	return *r
}

var shared struct {
	mu     sync.Mutex
	client *dagger.Client
}

// client returns the session that all tests of the library share.
func client(t *testing.T) *dagger.Client {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.client != nil {
		return shared.client
	}
	chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, os.Getenv, engine.Lines(io.Discard))
	require.NoError(t, err)
	// Not the test's context: the session outlives the test that happens to be the first.
	shared.client, err = chosen.Connect(context.Background(), io.Discard)
	require.NoError(t, err)
	return shared.client
}

// prefetch has images made before a step of the library asks for them, as the program does: the engine does not wait for as
// long as the largest of them take.
func prefetch(t *testing.T, images ...string) {
	t.Helper()
	chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, os.Getenv, engine.Lines(os.Stderr))
	require.NoError(t, err)
	require.NoError(t, chosen.Ready(t.Context()))
	chosen.Prefetch(t.Context(), images)
}

// reachable starts a server that containers reach, on this machine's side of the engine's network.
func reachable(t *testing.T, handler http.Handler) (url string) {
	t.Helper()
	// That side is there once a container has run.
	_, err := client(t).Container().From(image.Python("")).WithExec([]string{"true"}).Sync(t.Context())
	require.NoError(t, err)
	bridge, err := net.InterfaceByName(running(t).Network + "0")
	require.NoError(t, err)
	addresses, err := bridge.Addrs()
	require.NoError(t, err)
	require.NotEmpty(t, addresses)
	ip, _, err := net.ParseCIDR(addresses[0].String())
	require.NoError(t, err)
	listener, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// closeClient ends the shared session, and what runs in it; the next test that wants one gets a new one.
func closeClient() {
	stopCluster()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.client != nil {
		// A session whose engine was killed can't be closed well, and need not be.
		_ = shared.client.Close()
		shared.client = nil
	}
}
