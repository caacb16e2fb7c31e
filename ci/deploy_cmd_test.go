package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAKubeconfigMayBeAFilesName(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte("apiVersion: v1\n"), 0o600))
	for value, want := range map[string]string{
		"": "", file: "apiVersion: v1\n", file + ".gone": file + ".gone", "apiVersion: v1\nkind: Config": "apiVersion: v1\nkind: Config", "YXBpVmVyc2lvbjogdjE=": "YXBpVmVyc2lvbjogdjE=",
	} {
		require.Equal(t, want, kubeconfigIn(value))
	}
}
