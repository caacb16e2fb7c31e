package kube

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Ephemeral is a throw-away Kubernetes cluster of one node, for a test or a step.
// Its zero value is a cluster whose pods pull their images from where their references say.
//
// It is k3s in a privileged container, so the engine must allow that, which it does unless it was told not to.
// Traefik, the service load balancer, the metrics server and local storage are left out.
type Ephemeral struct {
	// Name is the name under which containers reach the cluster; empty means "cluster".
	Name string
	// Registry is where the pods' images come from; its zero value leaves that to the images' references.
	Registry Registry
	// Timeout bounds the start; zero means three minutes.
	Timeout time.Duration
}

// Registry is a registry as a cluster reaches it.
type Registry struct {
	// Service is the registry.
	Service *dagger.Service
	// Port is where it listens; zero means 5000.
	Port int
	// For lists the registries, as images' references name them, that it is asked in place of, such as "docker.io".
	For []string
}

// HostRegistry returns the registry at an address such as "127.0.0.1:5000" on the loopback of the machine that the
// session was opened on, for itself and for Docker Hub, so that references by which images were pushed there hold in the cluster too.
//
// A function of a Dagger module has no way to that machine: its own host is its container. There, take
// a *dagger.Service as an argument, which callers give as tcp://127.0.0.1:5000, and make a [Registry] of it.
func HostRegistry(c *dagger.Client, address string) (Registry, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Registry{}, fmt.Errorf("the registry %q is not an address such as 127.0.0.1:5000: %w", address, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return Registry{}, fmt.Errorf("the port of the registry %q is no number", address)
	}
	service := c.Host().Service([]dagger.PortForward{{Backend: number, Frontend: registryPort}}, dagger.HostServiceOpts{Host: host})
	return Registry{Service: service, Port: registryPort, For: []string{"docker.io", address}}, nil
}

const (
	registryPort = 5000
	// registryHost is the name that the node knows the registry by.
	registryHost = "registry"
	// apiPort and kubeletPort are open once a node runs.
	apiPort, kubeletPort = 6443, 10250
	nodeState            = "/var/lib/rancher/k3s"
)

// Running is an ephemeral cluster that runs.
type Running struct {
	Cluster
	// Ready is how long it took until the cluster took pods.
	Ready time.Duration

	access *access
}

// Start starts the cluster, and returns when it takes pods. It ends with [Running.Stop], or with the session.
func (e Ephemeral) Start(ctx context.Context, c *dagger.Client) (*Running, error) {
	began := time.Now()
	if e.Name == "" {
		e.Name = "cluster"
	}
	if e.Timeout == 0 {
		e.Timeout = 3 * time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.Timeout, fmt.Errorf("the cluster did not take pods within %s", e.Timeout))
	defer cancel()
	access, err := newAccess()
	if err != nil {
		return nil, fmt.Errorf("make the cluster's certificates: %w", err)
	}
	// Two clusters at a time are two services, and one is never the cached one of an earlier run.
	id := strings.ToLower(rand.Text()[:12])
	node, err := e.node(ctx, c, id, access)
	if err != nil {
		return nil, err
	}
	service, err := node.AsService(dagger.ContainerAsServiceOpts{
		Args: []string{
			"server",
			"--disable=traefik,servicelb,metrics-server,local-storage",
			"--node-name=" + e.Name,
			"--tls-san=" + e.Name,
		},
		UseEntrypoint:            true,
		InsecureRootCapabilities: true,
		// It looks after the control groups of its own only as the first process.
		NoInit: true,
	}).Start(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the cluster: %w", cause(ctx, err))
	}
	r := &Running{access: access, Cluster: Cluster{
		Kubeconfig: c.SetSecret("kubeconfig-"+id, access.kubeconfig(fmt.Sprintf("https://%s:%d", e.Name, apiPort))),
		Service:    service,
		Host:       e.Name,
	}}
	if err := r.awaitPods(ctx, c); err != nil {
		err = fmt.Errorf("wait for the cluster: %w", cause(ctx, err))
		return nil, errors.Join(err, r.Stop(context.WithoutCancel(ctx)))
	}
	r.Ready = time.Since(began)
	return r, nil
}

// cause prefers the reason why ctx ended to the error that followed from it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// node returns the container of the node.
func (e Ephemeral) node(ctx context.Context, c *dagger.Client, id string, access *access) (*dagger.Container, error) {
	node := c.Container().From(image.K3s).WithEnvVariable("MILLRACE_CLUSTER", id)
	// containerd needs a file system that is no overlay. A folder that has secrets below it would hide them.
	for _, dir := range []string{nodeState + "/agent", "/var/lib/kubelet", "/var/lib/cni"} {
		node = node.WithMountedTemp(dir)
	}
	// k3s takes the authorities that it finds at its first start, so clients' certificates can be made out here.
	for name, text := range access.authorities() {
		node = node.WithMountedSecret(nodeState+"/server/tls/"+name, c.SetSecret("cluster-"+id+"-"+name, text))
	}
	if e.Registry.Service != nil {
		text, err := e.Registry.mirrors()
		if err != nil {
			return nil, err
		}
		node = step.WithService(ctx, node, registryHost, e.Registry.Service).
			WithNewFile("/etc/rancher/k3s/registries.yaml", text)
	}
	return node.WithExposedPort(apiPort).WithExposedPort(kubeletPort), nil
}

// mirrors returns k3s's file of registries. It is JSON, which is a part of YAML.
func (r Registry) mirrors() (string, error) {
	if len(r.For) == 0 {
		return "", errors.New("the cluster's registry is asked in place of no other: set For, for example to docker.io")
	}
	port := r.Port
	if port == 0 {
		port = registryPort
	}
	mirrors := map[string]any{}
	for _, name := range r.For {
		mirrors[name] = map[string]any{"endpoint": []string{fmt.Sprintf("http://%s:%d", registryHost, port)}}
	}
	text, err := json.MarshalIndent(map[string]any{"mirrors": mirrors}, "", "  ")
	return string(text), err
}

// awaitPods waits until pods can be started, which is when they have a name server: it is the last of a node to come up.
func (r *Running) awaitPods(ctx context.Context, c *dagger.Client) error {
	for {
		tools, err := r.Tools(ctx, c)
		if err != nil {
			return err
		}
		// Until the object is there, kubectl does not wait for it, but fails.
		_, err = tools.WithExec([]string{
			"kubectl", "wait", "--namespace=kube-system", "endpointslices", "--selector=kubernetes.io/service-name=kube-dns",
			"--for=jsonpath={.endpoints[0].conditions.ready}=true", "--timeout=60s",
		}).Sync(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Stop ends the cluster, and all that runs on it.
func (r *Running) Stop(ctx context.Context) error {
	if _, err := r.Service.Stop(ctx, dagger.ServiceStopOpts{Kill: true}); err != nil {
		return fmt.Errorf("stop the cluster: %w", err)
	}
	return nil
}

// KubeconfigAt returns the text of the administrator's kubeconfig for the cluster behind another address, such as
// https://127.0.0.1:6443. The cluster's certificate is good for 127.0.0.1, localhost and its name.
func (r *Running) KubeconfigAt(server string) string { return r.access.kubeconfig(server) }

// References lists the images that clusters and their tools are made of.
func References() []string { return []string{image.K3s, image.KubeTools} }
