package engine

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJumps(t *testing.T) {
	t.Parallel()
	const listing = `-P FORWARD ACCEPT
-N CNI-ADMIN
-N CNI-FORWARD
-A FORWARD -j MINE
-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
-A FORWARD -i eth0 -g CNI-FORWARD
-A CNI-FORWARD -m comment --comment "says -j CNI-FORWARD in words" -j CNI-ADMIN
-A CNI-FORWARD -s 10.88.0.2/32 -j ACCEPT
`
	require.Equal(t, []ruleNumber{{"FORWARD", 3}, {"FORWARD", 2}}, jumps(listing, "CNI-FORWARD"), "the last first")
	require.Equal(t, []ruleNumber{{"CNI-FORWARD", 1}}, jumps(listing, "CNI-ADMIN"))
	require.Empty(t, jumps(listing, "CNI"))
}
