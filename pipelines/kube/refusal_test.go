package kube

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	for stderr, want := range map[string]struct {
		kind    RefusalKind
		verdict graph.Verdict
		text    string
	}{
		"E0101 10:00:00.000000       7 memcache.go:265] \"Unhandled Error\" err=\"couldn't get\"\nThe connection to the server cluster:6443 was refused - did you specify the right host or port?\nUnable to connect to the server: dial tcp 10.0.0.1:6443: connect: connection refused\n": {
			Unreachable, graph.Errored, "connection refused"},
		"Unable to connect to the server: dial tcp: lookup nowhere.invalid: no such host": {Unreachable, graph.Errored, "no such host"},
		"error: You must be logged in to the server (Unauthorized)":                       {Unauthorized, graph.Errored, "it has expired, or is another cluster's"},
		"Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority": {
			Unauthorized, graph.Errored, "x509"},
		`Error from server (Forbidden): secrets is forbidden: User "system:serviceaccount:a:b" cannot list resource "secrets" in API group "" in the namespace "shop"`: {
			Forbidden, graph.Errored, "grant it with a Role"},
		`Error from server (Forbidden): error when creating "/run/millrace/input": pods "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0`: {
			Quota, graph.Errored, "quota is used up"},
		`Error from server (NotFound): namespaces "shop" not found`: {NoNamespace, graph.Errored, "kubectl create namespace"},
		`Error from server (Conflict): error when replacing "STDIN": Operation cannot be fulfilled on leases.coordination.k8s.io "millrace-deploy": the object has been modified; please apply your changes to the latest version and try again`: {
			Conflict, graph.Errored, "has been modified"},
		`Error from server (AlreadyExists): error when creating "STDIN": leases.coordination.k8s.io "millrace-deploy" already exists`: {Conflict, graph.Errored, "already exists"},
		"The Deployment \"api\" is invalid: spec.template.spec.containers[0].image: Required value\n":                                 {Rejected, graph.Failed, "the cluster rejects it: The Deployment"},
		`error: resource mapping not found for name: "a" namespace: "" from "/run/millrace/input": no matches for kind "Foo" in version "x/v1"`: {
			Rejected, graph.Failed, "no matches for kind"},
		"": {Other, graph.Errored, "kubectl ended without saying why"},
	} {
		err := explain(stderr)
		var refused *Refusal
		require.True(t, errors.As(err, &refused), stderr)
		require.Equal(t, want.kind, refused.Kind, stderr)
		require.Equal(t, want.verdict, refused.Verdict(), stderr)
		require.Contains(t, err.Error(), want.text)
		require.Equal(t, want.kind == Unreachable, graph.IsTransient(err), stderr)
		require.NotContains(t, err.Error(), "/run/millrace", "paths in the container mean nothing to people")
		require.NotContains(t, err.Error(), "memcache")
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{`"kubectl" using apps/v1: .spec.replicas`, `"helm" with subresource "scale" using v1 .a .b`}, conflictsOf(`
error: Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: .spec.replicas
Please review the fields above--they currently have other managers.
error: Apply failed with 2 conflicts: conflicts with "x"
conflict with "helm" with subresource "scale" using v1:
- .a
- .b
`))
}
