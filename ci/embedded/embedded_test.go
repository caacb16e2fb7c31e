package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
	for _, m := range []Module{EngineModule, RegistryModule} {
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
