package enginetest

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// published is an entry of the publish node's images.json.
type published struct {
	Name, Reference, Digest string
	Tags                    []string
}

// images reads what the publish node says it has published.
func (o outcome) images(t *testing.T) []published {
	t.Helper()
	var all []published
	require.NoError(t, json.Unmarshal([]byte(o.text(t, "reports/publish/images.json")), &all))
	return all
}

// digests maps the name of each published image to its digest.
func (o outcome) digests(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, image := range o.images(t) {
		all[image.Name] = image.Digest
	}
	return all
}

// requirePullable pulls an image by its digest, checks that each of its tags points there, and returns it.
func requirePullable(t *testing.T, image published, checks ...validate.Option) v1.Image {
	t.Helper()
	ref, err := name.NewDigest(image.Reference, name.Insecure)
	require.NoError(t, err)
	require.Equal(t, image.Digest, ref.DigestStr())
	pulled, err := remote.Image(ref)
	require.NoError(t, err)
	require.NoError(t, validate.Image(pulled, checks...))
	for _, tag := range image.Tags {
		head, err := remote.Head(ref.Context().Tag(tag))
		require.NoError(t, err)
		require.Equal(t, image.Digest, head.Digest.String(), "the tag %s of %s points elsewhere", tag, image.Name)
	}
	return pulled
}

// The main job on the example: all of it passes, and what it makes is there.
func TestPlatform(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	// Not the example's own name: whoever runs the main job by hand at the same time moves its tags.
	const folder = "enginetest-customer-intelligence"
	source := filepath.Join(t.TempDir(), folder)
	require.NoError(t, os.CopyFS(source, os.DirFS(repository+"/examples/customer-intelligence")))
	commit := committed(t, source, "https://github.com/acme/customer-intelligence.git")

	t.Run("a push to main publishes", func(t *testing.T) {
		got := ci(t, source, []string{"ci-cd", "--event", "push", "--ref", "main"})
		require.Equal(t, 0, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{
			"lint": graph.Passed, "test": graph.Passed, "security": graph.Passed, "build": graph.Passed,
			"publish": graph.Passed, "coverage": graph.Skipped,
		})
		require.Equal(t, commit, got.run.Ref.SHA)
		require.Equal(t, "push", got.run.Ref.Event)
		require.Equal(t, "main", got.run.Ref.Branch)
		require.Equal(t, "embedded", got.run.Engine.Kind)
		require.Equal(t, running(t).Version, got.run.Engine.Version)
		require.GreaterOrEqual(t, got.node(t, "test").Metrics["tests"], 40.0)
		require.Greater(t, got.node(t, "test").Metrics["coverage_percent"], 80.0)
		got.requireOneScreen(t)

		images := got.images(t)
		var names []string
		for _, image := range images {
			names = append(names, image.Name)
			require.Equal(t, running(t).Registry+"/"+folder+"/"+image.Name+"@"+image.Digest, image.Reference)
			require.ElementsMatch(t, []string{"main", "sha-" + commit[:7]}, image.Tags)
			config, err := requirePullable(t, image, validate.Fast).ConfigFile()
			require.NoError(t, err)
			require.Equal(t, "linux/amd64", config.OS+"/"+config.Architecture)
			require.NotContains(t, []string{"", "0", "root"}, config.Config.User, "%s runs as root", image.Name)
			for key, value := range map[string]string{
				"title": image.Name, "source": "https://github.com/acme/customer-intelligence", "revision": commit,
				"version": "main", "created": "2026-03-01T12:00:00Z",
			} {
				require.Equal(t, value, config.Config.Labels["org.opencontainers.image."+key], "label %s of %s", key, image.Name)
			}
		}
		require.Equal(t, []string{"api", "batch", "monitoring", "training"}, names)

		require.Contains(t, got.text(t, "index.html"), "<html")
		require.Contains(t, got.text(t, "summary.md"), "ci-cd")
		require.Empty(t, slices.DeleteFunc(got.findings(t), func(f finding) bool { return f.tool == "bandit" }), "findings of a run that passed")
		var junit struct {
			XMLName xml.Name
		}
		require.NoError(t, xml.Unmarshal([]byte(got.text(t, "junit.xml")), &junit))
		require.Equal(t, "testsuites", junit.XMLName.Local)
		for _, node := range got.run.Nodes {
			if node.Verdict == graph.Passed {
				require.Equal(t, "reports/"+node.Name, node.Reports)
				entries, err := os.ReadDir(filepath.Join(got.out, node.Reports))
				require.NoError(t, err)
				require.NotEmpty(t, entries, "%s has no reports", node.Name)
			}
		}
	})

	t.Run("a pull request does not", func(t *testing.T) {
		before := tagsOf(t, folder)
		got := ci(t, source, []string{"ci-cd", "--event", "pull_request", "--ref", "refs/pull/7/merge"})
		require.Equal(t, 0, got.code)
		got.requireVerdicts(t, map[string]graph.Verdict{"test": graph.Passed, "build": graph.Passed, "publish": graph.Skipped})
		require.Contains(t, got.node(t, "publish").Reason, "pull requests")
		require.Equal(t, 7, got.run.Ref.PullRequest)
		require.Equal(t, before, tagsOf(t, folder))
	})
}

// tagsOf lists the tags of the example's images in the engine's own registry.
func tagsOf(t *testing.T, folder string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, image := range []string{"api", "batch", "monitoring", "training"} {
		repo, err := name.NewRepository(running(t).Registry+"/"+folder+"/"+image, name.Insecure)
		require.NoError(t, err)
		all[image], err = remote.List(repo)
		require.NoError(t, err)
	}
	return all
}
