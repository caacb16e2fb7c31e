package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/image"
)

func TestFindRecipe(t *testing.T) {
	t.Parallel()
	for reference, found := range map[string]bool{
		"library/debian:12":                   true,
		"library/debian:bookworm-slim":        true,
		"library/debian:11":                   false,
		"library/python:3.11-slim":            true,
		"library/python:3.12-slim":            false,
		"someone/python:3.11-slim":            false,
		"library/golang:1.26":                 true,
		"golangci/golangci-lint:v2.15.0":      true,
		"golangci/golangci-lint:latest":       false,
		"library/registry:3":                  true,
		"alpine/k8s:1.34.4":                   true,
		"alpine/k8s:1.33.0":                   false,
		"rancher/k3s:v1.34.4-k3s1":            true,
		"grafana/k6:1.6.1":                    true,
		"library/python:3.11-slim@sha256:000": false,
	} {
		_, ok := FindRecipe(reference)
		require.Equal(t, found, ok, reference)
	}
	slim, _ := FindRecipe("library/python:3.11-slim")
	labels := slim.Labels("library/python:3.11-slim")
	require.Equal(t, "python:3.11-slim", labels["io.millrace.stand-in.for"])
	require.Contains(t, labels["io.millrace.stand-in.made-of"], "Python 3.11")
}

// What the library pulls, the embedded engine must have.
func TestTheLibrarysImagesHaveStandIns(t *testing.T) {
	t.Parallel()
	for _, reference := range []string{image.KubeTools, image.K3s, image.K6, image.GolangciLint, "library/" + image.Golang, "library/" + image.Python("")} {
		_, ok := FindRecipe(reference)
		require.True(t, ok, "there is no recipe for %s", reference)
	}
}

// An image is made again when its own recipe, its base or its programs change, and only then.
func TestRecipesHaveDigestsOfTheirOwn(t *testing.T) {
	t.Parallel()
	digest := func(r Recipe) string {
		d, err := r.Digest()
		require.NoError(t, err)
		return d
	}
	k6, _ := FindRecipe("grafana/k6:1.6.1")
	require.Equal(t, digest(k6), digest(k6))
	for what, change := range map[string]func(*Recipe){
		"its file":     func(r *Recipe) { r.file = "python.go" },
		"its base":     func(r *Recipe) { r.Base = "library/debian:13" },
		"its programs": func(r *Recipe) { r.Programs = []Module{NodeModule} },
		"its contents": func(r *Recipe) { r.MadeOf = "nothing" },
	} {
		other := k6
		change(&other)
		require.NotEqual(t, digest(k6), digest(other), what)
	}
	lint, _ := FindRecipe("golangci/golangci-lint:v2.15.0")
	require.Equal(t, []string{"golang.go", "golang.go", "debian.go"}, parts(t, lint))
}

// parts lists the files that say how an image and its bases are made.
func parts(t *testing.T, r Recipe) (files []string) {
	t.Helper()
	for ; ; r, _ = FindRecipe(r.Base) {
		files = append(files, r.file)
		if r.Suite != "" {
			return files
		}
	}
}

// The README's table is the users' only list of what there is a stand-in for.
func TestTheReadmeListsTheStandIns(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, r := range StandIns() {
		var names []string
		for _, name := range strings.Split(r[0], ", ") {
			names = append(names, "`"+name+"`")
		}
		require.Contains(t, string(readme), "| "+strings.Join(names, ", ")+" |")
	}
}

func TestExtract(t *testing.T) {
	t.Parallel()
	for _, m := range []Module{EngineModule, RegistryModule, KubeToolsModule, KubernetesModule, NodeModule, K6Module} {
		dir := t.TempDir()
		require.NoError(t, m.Extract(dir))
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		require.NoError(t, err)
		require.Contains(t, string(text), "module github.com/millrace-ci/millrace/ci/embedded/"+string(m))
		require.FileExists(t, filepath.Join(dir, "go.sum"))
		digest, err := m.Digest()
		require.NoError(t, err)
		require.Len(t, digest, 12)
	}
	a, _ := EngineModule.Digest()
	b, _ := RegistryModule.Digest()
	require.NotEqual(t, a, b)
}
