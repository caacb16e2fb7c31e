// Package kube works on Kubernetes clusters with the ordinary command-line tools, which run in containers.
package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Cluster is a Kubernetes cluster as steps reach it.
type Cluster struct {
	// Kubeconfig is the text of a kubeconfig, raw or in base64.
	Kubeconfig *dagger.Secret
	// Service is the cluster itself where the engine runs it; nil for a cluster that lies elsewhere.
	Service *dagger.Service
	// Host is the name under which the kubeconfig knows Service.
	Host string
}

// kubeconfigPath is where the tools find the kubeconfig in their container.
const kubeconfigPath = "/run/secrets/kubeconfig"

// Tools returns a container with kubectl, helm, kustomize and kubeconform in which the cluster can be reached.
// What runs in it is not answered from the cache: a cluster changes without the container.
func (k Cluster) Tools(ctx context.Context, c *dagger.Client) (*dagger.Container, error) {
	if k.Kubeconfig == nil {
		return nil, errors.New("no kubeconfig is given")
	}
	config, err := k.kubeconfig(ctx, c)
	if err != nil {
		return nil, err
	}
	tools := c.Container().From(image.KubeTools).
		// A third of what kubectl does in its short life is collecting garbage: it begins with that when it has grown large.
		WithEnvVariable("GOGC", "off").
		WithEnvVariable("GOMEMLIMIT", "256MiB").
		WithMountedSecret(kubeconfigPath, config).
		WithEnvVariable("KUBECONFIG", kubeconfigPath).
		WithEnvVariable("MILLRACE_NOW", time.Now().UTC().Format(time.RFC3339Nano))
	if k.Service != nil {
		tools = step.WithService(ctx, tools, k.Host, k.Service)
	}
	return tools, nil
}

// kubeconfig returns the kubeconfig as text, as a secret again.
func (k Cluster) kubeconfig(ctx context.Context, c *dagger.Client) (*dagger.Secret, error) {
	text, err := k.Kubeconfig.Plaintext(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	if strings.Contains(text, "apiVersion") {
		return k.Kubeconfig, nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || !strings.Contains(string(raw), "apiVersion") {
		return nil, errors.New("the kubeconfig is neither a kubeconfig's text nor one in base64: set the variable to its content, such as \"$(cat FILE)\"")
	}
	name, err := k.Kubeconfig.Name(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return c.SetSecret(name+"-decoded", string(raw)), nil
}
