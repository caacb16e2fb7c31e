package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	sdk "dagger.io/dagger"
	"dagger/millrace/internal/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

// target is an environment that a function works on.
type target struct {
	environment string
	kubeconfig  *dagger.Secret
	server      *dagger.Service
	// source is the kubeconfig of the environment that images come from; the same as kubeconfig if it is nil.
	source *dagger.Secret
	// approval is a signed approval, if there is one.
	approval *dagger.Secret
}

// cluster returns the cluster of a kubeconfig. server, if it is given, is what the kubeconfig's address stands for.
func (t target) cluster(ctx context.Context, c *sdk.Client) (kube.Cluster, error) {
	text, err := t.kubeconfig.Plaintext(ctx)
	if err != nil {
		return kube.Cluster{}, fmt.Errorf("read the kubeconfig: %w", err)
	}
	if t.server == nil {
		return kube.Cluster{Kubeconfig: c.SetSecret("kubeconfig-"+t.environment, text)}, nil
	}
	id, err := t.server.ID(ctx)
	if err != nil {
		return kube.Cluster{}, fmt.Errorf("load the API server: %w", err)
	}
	return kube.ServiceCluster(c, "kubeconfig-"+t.environment, text, c.LoadServiceFromID(sdk.ServiceID(id))), nil
}

// delivery gathers what the nodes that deploy have to know.
func delivery(ctx context.Context, c *sdk.Client, r request) (pipelines.Delivery, error) {
	d := pipelines.Delivery{Holder: "dagger call", Clusters: map[string]kube.Cluster{}, Progress: func(node, text string) {
		fmt.Fprintln(os.Stderr, node+": "+text)
	}}
	if len(r.environments) != len(r.kubeconfigs) {
		return d, usageError{fmt.Errorf("there are %d environments and %d kubeconfigs: give one for each, in the same order", len(r.environments), len(r.kubeconfigs))}
	}
	for i, name := range r.environments {
		k, err := target{environment: name, kubeconfig: r.kubeconfigs[i]}.cluster(ctx, c)
		if err != nil {
			return d, err
		}
		d.Clusters[name] = k
	}
	if !r.ephemeral {
		return d, nil
	}
	e := kube.Ephemeral{}
	if r.registryService != nil {
		id, err := r.registryService.ID(ctx)
		if err != nil {
			return d, fmt.Errorf("load the registry: %w", err)
		}
		host, _, _ := strings.Cut(r.registry, "/")
		_, text, _ := strings.Cut(host, ":")
		port, err := strconv.Atoi(text)
		if err != nil {
			return d, usageError{fmt.Errorf("with a registry's service, the registry is its host and port, such as 127.0.0.1:5000/shop: %q", r.registry)}
		}
		e.Registry = kube.Registry{Service: c.LoadServiceFromID(sdk.ServiceID(id)), Port: port, For: []string{"docker.io", host}}
	}
	d.Ephemeral = func(ctx context.Context) (kube.Cluster, error) {
		running, err := e.Start(ctx, c)
		if err != nil {
			return kube.Cluster{}, err
		}
		return running.Cluster, nil // it ends with the session
	}
	return d, nil
}

// at gathers what the functions that work on an environment need.
func (m *Millrace) at(ctx context.Context, t target, r request) (pipelines.Inputs, error) {
	c, err := connect(ctx)
	if err != nil {
		return pipelines.Inputs{}, err
	}
	in, err := m.inputs(ctx, c, r)
	if err != nil {
		return in, err
	}
	if t.kubeconfig == nil {
		return in, nil
	}
	k, err := t.cluster(ctx, c)
	if err != nil {
		return in, err
	}
	in.Delivery.Clusters = map[string]kube.Cluster{t.environment: k}
	if t.approval != nil {
		text, err := t.approval.Plaintext(ctx)
		if err != nil {
			return in, fmt.Errorf("read the approval: %w", err)
		}
		in.Delivery.Approval = []byte(text)
	}
	e, found := in.Project.Environment(t.environment)
	if !found || e.Gates == nil || e.Gates.From == "" {
		return in, nil
	}
	return in, t.addSource(ctx, c, in, e.Gates.From)
}

// addSource adds the cluster of the environment that images come from.
func (t target) addSource(ctx context.Context, c *sdk.Client, in pipelines.Inputs, environment string) error {
	if t.source == nil {
		in.Delivery.Clusters[environment] = in.Delivery.Clusters[t.environment]
		return nil
	}
	k, err := target{environment: environment, kubeconfig: t.source, server: t.server}.cluster(ctx, c)
	in.Delivery.Clusters[environment] = k
	return err
}

// graphAt runs a graph on an environment, and says how that went.
func (m *Millrace) graphAt(ctx context.Context, t target, r request, build func(pipelines.Inputs) (*graph.Graph, error)) (string, error) {
	in, err := m.at(ctx, t, r)
	if err != nil {
		return "", failure(err)
	}
	g, err := build(in)
	if err != nil {
		return "", failure(err)
	}
	if err := g.Check(r.options()...); err != nil {
		return "", failure(usageError{err})
	}
	result, run := m.record(ctx, in, g, r)
	if err := pipelines.Mistaken(result); err != nil {
		return "", failure(err)
	}
	return judge(run, r)
}

// Build, publish and deploy to an environment, whatever the branch; runs no tests.
//
// Prints the summary. With dryRun it builds and changes nothing, and prints the diff against the live cluster.
//
// +cache="never"
func (m *Millrace) Deploy(
	ctx context.Context,
	// Environment, as millrace.yaml names it.
	environment string,
	// Kubeconfig, raw or in base64, for example env:KUBE_CONFIG_STAGING.
	kubeconfig *dagger.Secret,
	// API server that an address of the loopback in the kubeconfig stands for, for example tcp://127.0.0.1:6443.
	// +optional
	server *dagger.Service,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
	// What started the run: push, pull_request, tag, schedule or manual; manual if left out.
	// +optional
	event string,
	// Branch, tag or pull request, as a name, a number or refs/…; what --git says if left out.
	// +optional
	ref string,
	// Commit; what --git says if left out.
	// +optional
	sha string,
	// Git reference that the source is of, for what ref and sha leave out; for example ".#HEAD".
	// +optional
	git *dagger.GitRef,
	// Where images are published, as host/path; millrace.yaml's if left out.
	// +optional
	registry string,
	// User name for the registry.
	// +optional
	registryUser string,
	// Password or token for the registry, for example env:REGISTRY_PASSWORD.
	// +optional
	registryPassword *dagger.Secret,
	// Only say what would change.
	// +optional
	dryRun bool,
	// Kubeconfig of the environment that the gates name under from; kubeconfig if left out.
	// +optional
	fromKubeconfig *dagger.Secret,
	// Signed approval, as "ci approve" prints it.
	// +optional
	approval *dagger.Secret,
) (string, error) {
	t := target{environment: environment, kubeconfig: kubeconfig, server: server, source: fromKubeconfig, approval: approval}
	r := request{
		source: source, config: config, event: event, ref: ref, sha: sha, git: git,
		registry: registry, registryUser: registryUser, registryPassword: registryPassword, only: []string{"deploy-" + environment},
	}
	if !dryRun {
		return m.graphAt(ctx, t, r, func(in pipelines.Inputs) (*graph.Graph, error) {
			in, err := pipelines.DeployAnyway(in, environment)
			return pipelines.CICD(in).Graph, err
		})
	}
	in, err := m.at(ctx, t, r)
	if err != nil {
		return "", failure(err)
	}
	rollout, err := pipelines.DeployDryRun(ctx, in, environment)
	if err != nil {
		return "", failure(err)
	}
	if code := rollout.Verdict.ExitCode(); code != 0 {
		return "", exit(code, strings.TrimSpace(rollout.Reason+"\n"+rollout.Output))
	}
	return rollout.Diff, nil
}

// Bring an environment back to an earlier revision.
//
// Prints the summary.
//
// +cache="never"
func (m *Millrace) Rollback(
	ctx context.Context,
	// Environment, as millrace.yaml names it.
	environment string,
	// Kubeconfig, raw or in base64, for example env:KUBE_CONFIG_STAGING.
	kubeconfig *dagger.Secret,
	// API server that an address of the loopback in the kubeconfig stands for, for example tcp://127.0.0.1:6443.
	// +optional
	server *dagger.Service,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
	// Revision to go back to; the one before the present if left out.
	// +optional
	toRevision int,
) (string, error) {
	return m.graphAt(ctx, target{environment: environment, kubeconfig: kubeconfig, server: server}, request{source: source, config: config}, func(in pipelines.Inputs) (*graph.Graph, error) {
		return pipelines.Rollback(in, environment, toRevision)
	})
}

// List what was deployed to an environment, by whom, and how that ended.
//
// +cache="never"
func (m *Millrace) History(
	ctx context.Context,
	// Environment, as millrace.yaml names it.
	environment string,
	// Kubeconfig, raw or in base64, for example env:KUBE_CONFIG_STAGING.
	kubeconfig *dagger.Secret,
	// API server that an address of the loopback in the kubeconfig stands for, for example tcp://127.0.0.1:6443.
	// +optional
	server *dagger.Service,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
) (string, error) {
	in, err := m.at(ctx, target{environment: environment, kubeconfig: kubeconfig, server: server}, request{source: source, config: config})
	if err != nil {
		return "", failure(err)
	}
	where, err := pipelines.EnvironmentOf(ctx, in, environment)
	if err != nil {
		return "", failure(err)
	}
	all, err := where.History(ctx, in.Client)
	if err != nil {
		return "", failure(err)
	}
	return kube.HistoryText(all), nil
}

// Show what runs in an environment, who deploys to it, and what was interrupted.
//
// +cache="never"
func (m *Millrace) Status(
	ctx context.Context,
	// Environment, as millrace.yaml names it.
	environment string,
	// Kubeconfig, raw or in base64, for example env:KUBE_CONFIG_STAGING.
	kubeconfig *dagger.Secret,
	// API server that an address of the loopback in the kubeconfig stands for, for example tcp://127.0.0.1:6443.
	// +optional
	server *dagger.Service,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
) (string, error) {
	in, err := m.at(ctx, target{environment: environment, kubeconfig: kubeconfig, server: server}, request{source: source, config: config})
	if err != nil {
		return "", failure(err)
	}
	where, err := pipelines.EnvironmentOf(ctx, in, environment)
	if err != nil {
		return "", failure(err)
	}
	state, err := where.Status(ctx, in.Client)
	if err != nil {
		return "", failure(err)
	}
	return state.Text(), nil
}
