package engine

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyADamagedCacheIsGivenUp(t *testing.T) {
	t.Parallel()
	const base = "dagger-engine: failed to create engine: "
	for said, want := range map[string]bool{
		base + "failed to create base worker: failed to get active mount: requested snapshot buildkit/95502/fxx2 not active or view: failed precondition": true,
		base + "failed to create base worker: write metadata_v2.db: no space left on device":                                                              false,
		base + "failed to create network providers: interface not found":                                                                                  false,
		"the embedded engine did not answer within 2m0s":                                                                                                  false,
	} {
		require.Equal(t, want, damaged.MatchString(said), said)
	}
}
