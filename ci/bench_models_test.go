package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tables that drift is timed on are of the size that they are said to be, and differ.
func TestTablesOfTheBench(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var before []byte
	for seed := range uint64(2) {
		name := filepath.Join(dir, "table.csv")
		require.NoError(t, writeTable(name, seed, 20, 7))
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
		require.Len(t, lines, 21)
		require.Equal(t, "c0,c1,c2,c3,c4,c5,c6", string(lines[0]))
		for _, line := range lines[1:] {
			require.Regexp(t, `^[a-h](,-?\d+\.\d{4}){4},[a-h],-?\d+\.\d{4}$`, string(line))
		}
		require.NotEqual(t, before, data)
		before = data
	}
}
