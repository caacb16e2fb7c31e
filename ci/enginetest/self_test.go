package enginetest

import (
	"os/exec"
	"path/filepath"
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
		list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}} `, "./pipelines/...")
		list.Dir = root
		out, err := list.Output()
		require.NoError(t, err)
		// Dagger's SDK and what it needs would be half of what is compiled for the race detector: the packages that call it are tested
		// without.
		var packages []string
		for line := range strings.Lines(string(out)) {
			if name, deps, _ := strings.Cut(line, " "); !strings.Contains(deps, "dagger.io/dagger ") {
				packages = append(packages, name)
			}
		}
		require.Contains(t, strings.Join(packages, " "), "pipelines/graph ", "what runs most of all at once")
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
