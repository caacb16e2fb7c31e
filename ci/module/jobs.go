package main

import (
	"context"

	sdk "dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

// clusters returns the cluster that was given, for all models that are trained on one.
func (t target) clusters(ctx context.Context, c *sdk.Client, in pipelines.Inputs) (map[string]kube.Cluster, error) {
	clusters := map[string]kube.Cluster{}
	if t.kubeconfig == nil {
		return clusters, nil
	}
	cluster, err := t.cluster(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, m := range in.Project.Models {
		if m.OnKubernetes() {
			clusters[m.Kubernetes.Variable()] = cluster
		}
	}
	return clusters, nil
}
