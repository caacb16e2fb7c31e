package pipelines_test

import (
	"context"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/project"
)

// inputs are those of a project with one module and one image.
func inputs(t *testing.T, ref host.Ref, registry string) pipelines.Inputs {
	t.Helper()
	p, err := project.Detect(project.FS(fstest.MapFS{
		"scores/__init__.py": {Data: []byte("\n")},
		"Dockerfile":         {Data: []byte("FROM scratch\nCOPY scores /scores\n")},
	}), nil)
	require.NoError(t, err)
	return pipelines.Inputs{Project: p, Ref: ref, Registry: pipelines.Registry{Address: registry}}
}

// skipped returns the reason for which the plan skips a node; empty when it runs.
func skipped(t *testing.T, g *graph.Graph, name string) string {
	t.Helper()
	require.NoError(t, g.Check())
	for _, n := range g.Plan().Nodes {
		if n.Name == name {
			return n.Skip
		}
	}
	t.Fatalf("the plan has no node %q", name)
	return ""
}

func TestPublishing(t *testing.T) {
	t.Parallel()
	const registry = "registry.example.com/acme"
	push := func(branch string) host.Ref { return host.Ref{Event: host.Push, Branch: branch} }
	for name, c := range map[string]struct {
		ref      host.Ref
		registry string
		anyway   bool
		why      string
	}{
		"push to main":          {ref: push("main"), registry: registry},
		"push to develop":       {ref: push("develop"), registry: registry},
		"push to another":       {ref: push("feature/x"), registry: registry, why: "a push of feature/x"},
		"another, by name":      {ref: push("feature/x"), registry: registry, anyway: true},
		"unknown, by name":      {ref: host.Ref{Event: host.Manual}, registry: registry, anyway: true},
		"tag":                   {ref: host.Ref{Event: host.Tag, Tag: "v1.2.3"}, registry: registry},
		"manual on main":        {ref: host.Ref{Event: host.Manual, Branch: "main"}, registry: registry, why: "a manual run of main"},
		"pull request":          {ref: host.Ref{Event: host.PullRequest, PullRequest: 7}, registry: registry, why: "pull requests build"},
		"pull request, by name": {ref: host.Ref{Event: host.PullRequest, PullRequest: 7}, registry: registry, anyway: true, why: "pull requests build"},
		"no registry":           {ref: push("main"), why: "no registry given"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := inputs(t, c.ref, c.registry)
			own := in.Project
			if c.anyway {
				in = pipelines.PublishAnyway(in)
			}
			why := skipped(t, pipelines.CICD(in).Graph, "publish")
			if c.why == "" {
				require.Empty(t, why)
			} else {
				require.Contains(t, why, c.why)
			}
			require.Equal(t, []string{"main", "develop"}, own.Publish.Branches, "the caller's project is its own")
		})
	}
}

// TestOwnStep adds a step as an importer does: by the handle of the node whose value it needs.
func TestOwnStep(t *testing.T) {
	t.Parallel()
	ci := pipelines.CICD(inputs(t, host.Ref{}, ""))
	graph.Add(ci.Graph, "smoke", func(context.Context) (int, error) { return len(ci.Build.Value().Images), nil }, graph.Needs(ci.Build))
	require.NoError(t, ci.Check(graph.Only("smoke")))
	for _, n := range ci.Plan(graph.Only("smoke")).Nodes {
		require.Equal(t, n.Name == "smoke" || n.Name == "build", n.Skip == "", n.Name)
	}
}
