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
	ctr, err := image.Toolbox(t.Context(), c, "", string(lock))
	require.NoError(t, err)
	ran := ctr.
		WithDirectory("/opt/tools", c.Host().Directory(folder, dagger.HostDirectoryOpts{Exclude: []string{"**/__pycache__"}})).
		WithExec([]string{image.ToolboxPython, "-m", "unittest", "discover", "-s", "/opt/tools/tests"}, dagger.ContainerWithExecOpts{Expect: dagger.ReturnTypeAny})
	said, err := ran.Stderr(t.Context())
	require.NoError(t, err)
	code, err := ran.ExitCode(t.Context())
	require.NoError(t, err)
	require.Equal(t, 0, code, said)
	require.Regexp(t, `Ran \d{2,} tests`, said)
	require.NotContains(t, said, "skipped")
}
