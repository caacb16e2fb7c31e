package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two engines at a time, the second of which goes last, leave the host as it was before the first.
func TestTheSecondEngineKnowsTheHostBeforeTheFirst(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first, second := filepath.Join(folder, "aaaaaa"), filepath.Join(folder, "bbbbbb")
	require.NoError(t, os.MkdirAll(first, 0o755))
	require.NoError(t, os.MkdirAll(second, 0o755))
	require.NoError(t, writeJSON(filepath.Join(first, networkRecord), Network{Forward: "0", Rules: []string{"filter -A FORWARD -j MINE"}}))
	require.NoError(t, writeJSON(filepath.Join(second, networkRecord), Network{Forward: "7"}))

	n := Network{Name: "n", Forward: "1", Rules: []string{"filter -A FORWARD -j MINE", "filter -A FORWARD -j THE-FIRSTS"}}
	require.NoError(t, n.inherit(second))
	require.Equal(t, Network{Name: "n", Forward: "0", Rules: []string{"filter -A FORWARD -j MINE"}}, n)

	require.NoError(t, os.Remove(filepath.Join(first, networkRecord)))
	alone := Network{Forward: "1"}
	require.NoError(t, alone.inherit(second))
	require.Equal(t, Network{Forward: "1"}, alone, "its own old record says nothing")
	require.NoError(t, os.WriteFile(filepath.Join(first, networkRecord), []byte("{"), 0o644))
	require.NoError(t, alone.inherit(second))
	require.Equal(t, Network{Forward: "1"}, alone)
}

// Forwarding is left on where somebody has come to rely on it, and goes with the last.
func TestForwardingGoesWithTheLast(t *testing.T) {
	t.Parallel()
	mine, theirs := "filter -A FORWARD -j MINE", "filter -A FORWARD -s 10.89.0.0/16 -j ACCEPT"
	before := Network{Rules: []string{mine}}
	require.True(t, before.followed([]string{theirs, mine}))
	require.False(t, before.followed([]string{mine}))
	require.False(t, before.followed(nil), "a rule that the host had is gone")
}
