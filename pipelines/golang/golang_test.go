package golang

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModuleDirsPassOverWhatTheGoCommandDoes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{".", "ci/module"}, moduleDirs([]string{
		"go.mod", "ci/module/go.mod", "vendor/x/go.mod", "a/testdata/go.mod", ".cache/go.mod", "_old/go.mod",
	}))
}

func TestParseCompile(t *testing.T) {
	t.Parallel()
	findings := parseCompile("=== Errors\n./g.go:4:9: undefined: x\nvet: ./g_test.go:6:2: bad call\n    g_test.go:7: wrong\n", "sub")
	require.Len(t, findings, 2)
	require.Equal(t, "sub/g.go:4:9: undefined: x (go test build)", findings[0].String())
	require.Equal(t, "sub/g_test.go", findings[1].File)
}
