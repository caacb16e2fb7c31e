package engine

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRules(t *testing.T) {
	t.Parallel()
	const listing = `-P FORWARD ACCEPT
-N CNI-ADMIN
-N CNI-FORWARD
-A FORWARD -j MINE
-A FORWARD -m comment --comment "CNI firewall \"plugin\" rules -j NOT-THIS" -j CNI-FORWARD
-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
-A CNI-FORWARD -d 10.88.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A CNI-FORWARD -s 10.89.0.2/32 -j ACCEPT
-A CNI-FORWARD -s 10.0.0.0/8 -g CNI-0123
`
	prefix := netip.MustParsePrefix
	rules := parseRules(listing)
	require.Equal(t, []rule{
		{"FORWARD", 1, nil, "MINE"},
		{"FORWARD", 2, nil, "CNI-FORWARD"},
		{"CNI-FORWARD", 1, nil, "CNI-ADMIN"},
		{"CNI-FORWARD", 2, []netip.Prefix{prefix("10.88.0.2/32")}, "ACCEPT"},
		{"CNI-FORWARD", 3, []netip.Prefix{prefix("10.89.0.2/32")}, "ACCEPT"},
		{"CNI-FORWARD", 4, []netip.Prefix{prefix("10.0.0.0/8")}, "CNI-0123"},
	}, rules)
	own := prefix("10.88.0.0/16")
	for i, r := range rules {
		require.Equal(t, i == 3, r.concerns(own), "a rule for more than our addresses is somebody else's: %+v", r)
	}
}

// Two engines at a time, the second of which goes last, leave the host as it was before the first.
func TestTheSecondEngineKnowsTheHostBeforeTheFirst(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first, second := filepath.Join(folder, "aaaaaa"), filepath.Join(folder, "bbbbbb")
	require.NoError(t, os.MkdirAll(first, 0o755))
	require.NoError(t, os.MkdirAll(second, 0o755))
	require.NoError(t, writeJSON(filepath.Join(first, networkRecord), Network{Forward: "0", Chains: []string{"filter/MINE"}}))
	require.NoError(t, writeJSON(filepath.Join(second, networkRecord), Network{Forward: "7"}))

	n := Network{Name: "n", Forward: "1", Chains: []string{"filter/MINE", "filter/CNI-FORWARD"}}
	require.NoError(t, n.inherit(second))
	require.Equal(t, Network{Name: "n", Forward: "0", Chains: []string{"filter/MINE"}}, n)

	require.NoError(t, os.Remove(filepath.Join(first, networkRecord)))
	alone := Network{Forward: "1"}
	require.NoError(t, alone.inherit(second))
	require.Equal(t, Network{Forward: "1"}, alone, "its own old record says nothing")
	require.NoError(t, os.WriteFile(filepath.Join(first, networkRecord), []byte("{"), 0o644))
	require.NoError(t, alone.inherit(second))
	require.Equal(t, Network{Forward: "1"}, alone)
}
