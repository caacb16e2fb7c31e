package enginetest

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/golang"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// This project is checked by its own steps for Go.
func TestSelf(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	root, err := filepath.Abs(repository)
	require.NoError(t, err)
	prefetch(t, image.GolangciLint, image.Golang)
	c := client(t)
	src := c.Host().Directory(root, dagger.HostDirectoryOpts{Exclude: []string{".git", "out", "**/__pycache__", "**/.venv"}})

	t.Run("lint", func(t *testing.T) {
		got, err := golang.Lint{Modules: []string{"."}}.Run(t.Context(), c, src)
		require.NoError(t, err)
		requirePassed(t, got)
	})
	t.Run("test", func(t *testing.T) {
		list := exec.CommandContext(t.Context(), "go", "list", "./...")
		list.Dir = root
		out, err := list.Output()
		require.NoError(t, err)
		// This package has nothing that is tested without an engine, and is the longest to compile.
		packages := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return strings.HasSuffix(name, "/ci/enginetest") })
		require.Greater(t, len(packages), 20)
		got, err := golang.Test{Modules: []string{"."}, Packages: packages, Short: true}.Run(t.Context(), c, src)
		require.NoError(t, err)
		requirePassed(t, got)
		require.Greater(t, got.Metrics["tests"], 100.0)
		require.Greater(t, got.Metrics["coverage_percent"], 0.0)
	})
}

// requirePassed checks that a step of the library passed, and says what it found otherwise.
func requirePassed(t *testing.T, got step.Result) {
	t.Helper()
	for _, f := range got.Findings {
		t.Log(f)
	}
	require.Equal(t, graph.Passed, got.Verdict, got.Reason)
}
