package enginetest

import (
	"os"
	"path/filepath"
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/image"
)

// The programs that judge models pass their own tests, with the libraries that they run with.
func TestModelTools(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	c := client(t)
	folder, err := filepath.Abs(repository + "/pipelines/model/tools")
	require.NoError(t, err)
	lock, err := os.ReadFile(repository + "/pipelines/model/locks/model.txt")
	require.NoError(t, err)
	said := requireRuns(t, c, string(lock), func(ctr *dagger.Container) *dagger.Container {
		return ctr.WithDirectory("/opt/tools", c.Host().Directory(folder, dagger.HostDirectoryOpts{Exclude: []string{"**/__pycache__"}}))
	}, "-m", "unittest", "discover", "-s", "/opt/tools/tests")
	require.Regexp(t, `Ran \d{2,} tests`, said)
}

// requireRuns checks that Python ends well in a container with what a lock pins, and returns what it said.
func requireRuns(t *testing.T, c *dagger.Client, lock string, prepare func(*dagger.Container) *dagger.Container, args ...string) string {
	t.Helper()
	ctr, err := image.Toolbox(t.Context(), c, "", lock)
	require.NoError(t, err)
	ran := prepare(ctr).WithExec(append([]string{image.ToolboxPython}, args...), dagger.ContainerWithExecOpts{Expect: dagger.ReturnTypeAny})
	said, err := ran.CombinedOutput(t.Context())
	require.NoError(t, err)
	code, err := ran.ExitCode(t.Context())
	require.NoError(t, err)
	require.Equal(t, 0, code, said)
	require.NotContains(t, said, "skipped")
	return said
}
