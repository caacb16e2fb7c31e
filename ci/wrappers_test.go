package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// The wrappers can't be run on their hosts here, but they must call commands and flags that exist.
func TestWrappersCallWhatThereIs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/wrappers/*")
	require.NoError(t, err)
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, ".md") {
			continue
		}
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		if strings.HasSuffix(name, ".yml") {
			var any map[string]any
			require.NoError(t, yaml.Unmarshal(data, &any), name)
		}
		_, call, ok := bytes.Cut(data, []byte("/ci@latest "))
		require.True(t, ok, "%s does not call the command", name)
		call, _, _ = bytes.Cut(call, []byte("\n"))
		var args []string
		for _, arg := range strings.Fields(string(call)) {
			args = append(args, strings.Trim(arg, `'"`))
		}
		var c cli
		parser, err := kong.New(&c)
		require.NoError(t, err)
		_, err = parser.Parse(args)
		require.NoError(t, err, "%s: ci %s", name, args)
		require.Equal(t, "out", c.CICD.Out, name)
		found++
	}
	require.Equal(t, 8, found)
}
