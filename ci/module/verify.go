package main

import (
	"context"

	"dagger/millrace/internal/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
)

// Make the smoke tests of an environment; changes nothing there.
//
// Prints the summary.
//
// +cache="never"
func (m *Millrace) Smoke(
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
	t := target{environment: environment, kubeconfig: kubeconfig, server: server}
	return m.graphAt(ctx, t, request{source: source, config: config}, func(in pipelines.Inputs) (*graph.Graph, error) {
		return pipelines.Smoke(in, environment)
	})
}

// Put an environment under load with k6, and compare with the last accepted run.
//
// Prints the summary.
//
// +cache="never"
func (m *Millrace) LoadTest(
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
	// Commit that runs there, for the record; unknown if left out.
	// +optional
	sha string,
	// Make this run the baseline, although it is worse than the one before.
	// +optional
	accept bool,
) (string, error) {
	t := target{environment: environment, kubeconfig: kubeconfig, server: server}
	return m.graphAt(ctx, t, request{source: source, config: config, sha: sha}, func(in pipelines.Inputs) (*graph.Graph, error) {
		return pipelines.LoadTest(in, environment, accept)
	})
}

// Deploy to an environment what runs in another, by the same digests; builds nothing.
//
// Prints the summary.
//
// +cache="never"
func (m *Millrace) Promote(
	ctx context.Context,
	// Environment whose images are taken, as millrace.yaml names it.
	from string,
	// Environment to deploy to.
	to string,
	// Kubeconfig of the environment to deploy to, raw or in base64, for example env:KUBE_CONFIG_PRODUCTION.
	kubeconfig *dagger.Secret,
	// Kubeconfig of the environment whose images are taken; kubeconfig if left out.
	// +optional
	fromKubeconfig *dagger.Secret,
	// API server that an address of the loopback in the kubeconfigs stands for, for example tcp://127.0.0.1:6443.
	// +optional
	server *dagger.Service,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
	// Signed approval, as "ci approve" prints it.
	// +optional
	approval *dagger.Secret,
) (string, error) {
	t := target{environment: to, kubeconfig: kubeconfig, server: server, source: fromKubeconfig, approval: approval}
	return m.graphAt(ctx, t, request{source: source, config: config}, func(in pipelines.Inputs) (*graph.Graph, error) {
		if err := t.addSource(ctx, in.Client, in, from); err != nil {
			return nil, err
		}
		return pipelines.Promote(in, from, to)
	})
}
