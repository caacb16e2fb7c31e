package main

import (
	"context"
	"fmt"

	sdk "dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

// clusters returns the cluster that was given, for all models that are trained on one. Where they want several, the error says
// what to do instead.
func (t target) clusters(ctx context.Context, c *sdk.Client, in pipelines.Inputs, instead string) (map[string]kube.Cluster, error) {
	if t.kubeconfig == nil {
		return nil, nil
	}
	cluster, err := t.cluster(ctx, c)
	if err != nil {
		return nil, err
	}
	clusters, err := pipelines.OneCluster(in, cluster)
	if err != nil {
		return nil, usageError{fmt.Errorf("%w: %s", err, instead)}
	}
	return clusters, nil
}
