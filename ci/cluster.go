package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dagger.io/dagger"
	"github.com/gofrs/flock"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

const (
	// clusterStart bounds the start, the first one included, which makes the node's image: minutes on two processors.
	clusterStart = 45 * time.Minute
	clusterStop  = time.Minute
	// clusterSilence is for how long a cluster may not answer, as it does not on a machine that is busy, until it counts as gone.
	clusterSilence = time.Minute
	apiPort        = 6443
)

// keeper looks after the one cluster of "ci cluster". A process of ours holds the session that the cluster lives in,
// and the way to its API server; all that others know of it lies in one folder.
type keeper struct{ dir string }

// clusterState is what the process that holds a cluster tells the others.
type clusterState struct {
	PID    int         `json:"pid"`
	Engine engine.Kind `json:"engine"`
	// Address is where the API server answers on this machine; empty while the cluster is starting.
	Address string        `json:"address"`
	Ready   time.Duration `json:"ready"`
	Started time.Time     `json:"started"`
}

func newKeeper() (*keeper, error) {
	own, err := engine.NewEmbedded(os.Getenv, engine.Lines(io.Discard))
	if err != nil {
		return nil, err
	}
	dir := own.Runtime
	if os.Getenv("XDG_RUNTIME_DIR") == "" && os.Geteuid() != 0 {
		dir = own.Cache // the default for the engine's runtime folder is root's alone
	}
	k := &keeper{dir: filepath.Join(dir, "cluster")}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cluster's folder: %w", err)
	}
	return k, nil
}

func (k *keeper) path(name string) string { return filepath.Join(k.dir, name) }
func (k *keeper) kubeconfig() string      { return k.path("kubeconfig") }
func (k *keeper) log() string             { return k.path("log") }

// alive is held by the process that holds the cluster, for as long as it lives, so that no stale pid is ever believed.
func (k *keeper) alive() *flock.Flock { return flock.New(k.path("alive.lock")) }

// held says whether a process holds a cluster, or is starting one.
func (k *keeper) held() (bool, error) {
	lock := k.alive()
	free, err := lock.TryLock()
	if err != nil {
		return false, fmt.Errorf("look for the cluster: %w", err)
	}
	if free {
		return false, lock.Unlock()
	}
	return true, nil
}

// read returns what the process that holds a cluster tells; nil when there is none.
func (k *keeper) read() (*clusterState, error) {
	if held, err := k.held(); err != nil || !held {
		return nil, err
	}
	data, err := os.ReadFile(k.path("cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it has just begun, or is about to end
	}
	if err != nil {
		return nil, err
	}
	var s clusterState
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w", k.path("cluster.json"), err)
	}
	return &s, nil
}

// status returns the cluster that takes pods, or nil.
func (k *keeper) status() (*clusterState, error) {
	s, err := k.read()
	if err != nil || s == nil || s.Address == "" {
		return nil, err
	}
	return s, nil
}

// tell writes what others may know of the cluster.
func (k *keeper) tell(s clusterState) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return write(k.dir, "cluster.json", data)
}

// spawn starts the process that holds the cluster, and waits until pods can be started. If another command started one
// in the meantime, that one is waited for.
func (k *keeper) spawn(ctx context.Context, kind engine.Kind, port int) (*clusterState, error) {
	log, err := os.OpenFile(k.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "cluster", "hold", string(kind), strconv.Itoa(port))
	cmd.Stdout, cmd.Stderr = log, log
	// Its own session: the cluster outlives the terminal and the command that started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the process that holds the cluster: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	ctx, cancel := context.WithTimeout(ctx, clusterStart)
	defer cancel()
	for {
		if s, err := k.status(); err != nil || s != nil {
			return s, err
		}
		select {
		case <-ended:
			if held, err := k.held(); err != nil {
				return nil, err
			} else if held {
				ended = nil // another command's is starting
				continue
			}
			said, _ := os.ReadFile(k.log())
			return nil, fmt.Errorf("the cluster did not start:\n%s\nits log is %s", tail(string(said), 12), k.log())
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			return nil, fmt.Errorf("the cluster did not start: %w: its log is %s", ctx.Err(), k.log())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tail returns the last n lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// hold starts the cluster and keeps it, until ctx ends or the cluster or its engine does.
func (k *keeper) hold(ctx context.Context, e *engine.Engine, port int) (err error) {
	lock := k.alive()
	if free, err := lock.TryLock(); err != nil || !free {
		return errors.Join(errors.New("another process holds a cluster already"), err)
	}
	defer func() { _ = lock.Unlock() }()
	// What an earlier process said is nobody's concern any more.
	if err := os.Truncate(k.log(), 0); err != nil {
		return err
	}
	defer func() {
		for _, name := range []string{"cluster.json", "kubeconfig"} {
			if rm := os.Remove(k.path(name)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
				err = errors.Join(err, rm)
			}
		}
	}()
	state := clusterState{PID: os.Getpid(), Engine: e.Kind}
	if err := k.tell(state); err != nil {
		return err
	}
	if err := e.Ready(ctx); err != nil {
		return err
	}
	e.Prefetch(ctx, kube.References())
	session, err := os.OpenFile(k.path("session.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer session.Close()
	c, err := e.Connect(ctx, session)
	if err != nil {
		return err
	}
	defer c.Close()
	var options kube.Ephemeral
	if e.Registry != "" {
		if options.Registry, err = kube.HostRegistry(c, e.Registry); err != nil {
			return err
		}
	}
	cluster, err := options.Start(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.WithoutCancel(ctx))) }()
	way, err := k.direct(ctx, c, cluster)
	if err != nil {
		way, err = k.tunnel(ctx, c, cluster.Service)
	}
	if err != nil {
		return err
	}
	address, err := front(ctx, port, way)
	if err != nil {
		return err
	}
	if err := write(k.dir, "kubeconfig", []byte(cluster.KubeconfigAt("https://"+address))); err != nil {
		return err
	}
	if err := os.Chmod(k.kubeconfig(), 0o600); err != nil {
		return err
	}
	state.Address, state.Ready, state.Started = address, cluster.Ready, time.Now().UTC()
	if err := k.tell(state); err != nil {
		return err
	}
	return k.watch(ctx, address)
}

// direct returns the API server's address on the engine's network where this machine is on it, as it is with the embedded engine.
// The engine's tunnel is worse: it ends as a whole, now and then, when one of its connections does.
func (k *keeper) direct(ctx context.Context, c *dagger.Client, cluster *kube.Running) (string, error) {
	tools, err := cluster.Tools(ctx, c)
	if err != nil {
		return "", err
	}
	out, err := tools.WithExec([]string{"getent", "ahostsv4", cluster.Host}).Stdout(ctx)
	if err != nil {
		return "", err
	}
	ip, _, _ := strings.Cut(out, " ")
	address := net.JoinHostPort(ip, strconv.Itoa(apiPort))
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return address, answers(ctx, []byte(cluster.KubeconfigAt("https://"+address)), address)
}

// tunnel opens a port of this machine that leads to the API server, by the engine.
func (k *keeper) tunnel(ctx context.Context, c *dagger.Client, cluster *dagger.Service) (string, error) {
	tunnel, err := c.Host().Tunnel(cluster, dagger.HostTunnelOpts{Ports: []dagger.PortForward{{Backend: apiPort, Frontend: 0}}}).Start(ctx)
	if err != nil {
		return "", fmt.Errorf("open a way to the cluster: %w", err)
	}
	endpoint, err := tunnel.Endpoint(ctx)
	if err != nil {
		return "", fmt.Errorf("open a way to the cluster: %w", err)
	}
	_, number, err := net.SplitHostPort(endpoint)
	if err != nil {
		return "", fmt.Errorf("open a way to the cluster: %w", err)
	}
	return net.JoinHostPort("127.0.0.1", number), nil
}

// watch returns nil when ctx ends, and an error when the cluster does not answer any more.
func (k *keeper) watch(ctx context.Context, address string) error {
	for answered := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
		err := k.probe(ctx, address)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			answered = time.Now()
		case time.Since(answered) > clusterSilence:
			return fmt.Errorf("the cluster is gone: %w", err)
		}
	}
}

// probe says whether the cluster's API server answers at an address: only it can show the certificate.
func (k *keeper) probe(ctx context.Context, address string) error {
	text, err := os.ReadFile(k.kubeconfig())
	if err != nil {
		return err
	}
	return answers(ctx, text, address)
}

// answers reports why the API server of a kubeconfig does not answer at an address.
func answers(ctx context.Context, kubeconfig []byte, address string) error {
	var config struct {
		Clusters []struct {
			Cluster struct {
				Authority []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal(kubeconfig, &config); err != nil {
		return fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	roots := x509.NewCertPool()
	for _, c := range config.Clusters {
		roots.AppendCertsFromPEM(c.Cluster.Authority)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: "127.0.0.1", RootCAs: roots, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("the API server does not answer: %w", err)
	}
	return conn.Close()
}

// stop ends the process that holds the cluster, and with it the cluster. It returns false when there was none.
func (k *keeper) stop(ctx context.Context) (bool, error) {
	state, err := k.read()
	if err != nil || state == nil {
		return false, err
	}
	if err := syscall.Kill(state.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, fmt.Errorf("stop the cluster (pid %d): %w", state.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, clusterStop)
	defer cancel()
	lock := k.alive()
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return false, fmt.Errorf("the cluster (pid %d) did not stop: its log is %s", state.PID, k.log())
	}
	return true, lock.Unlock()
}
