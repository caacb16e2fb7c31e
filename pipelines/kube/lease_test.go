package kube

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A holder is dead when its lease has not changed for the lease's duration by the clock of who watches. What times stand in the
// lease does not count: here its holder's clock is an hour ahead, or behind.
func TestLeaseExpiresByTheWatchersClock(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	for _, skew := range []time.Duration{-time.Hour, 0, time.Hour} {
		lease := func(version string, at time.Time) leaseState {
			return leaseState{exists: true, holder: Holder{Name: "ada"}, version: version, renewed: at.Add(skew).Format(time.RFC3339), duration: 40 * time.Second}
		}
		var w watch
		require.False(t, w.expired(lease("1", now), now))
		require.False(t, w.expired(lease("1", now), now.Add(39*time.Second)))
		require.False(t, w.alive)
		require.False(t, w.expired(lease("2", now), now.Add(39*time.Second)), "it was renewed")
		require.True(t, w.alive)
		require.False(t, w.expired(lease("2", now), now.Add(78*time.Second)))
		require.True(t, w.expired(lease("2", now), now.Add(79*time.Second)))
	}
}

func TestLeaseManifest(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	l := lease{namespace: "shop", identity: "ada #1", acquired: began, transitions: 2}
	require.Equal(t, leaseCreate, l.script())
	o, err := decode([]byte(l.manifest(l.identity, began.Add(time.Minute))))
	require.NoError(t, err)
	require.Nil(t, o.at("metadata", "resourceVersion"))
	found := leaseOf(o)
	require.True(t, found.held())
	require.Equal(t, leaseDuration, found.duration)
	require.Equal(t, 2, found.transitions)
	require.Equal(t, "ada, since 2026-01-02 03:04:05 UTC", found.holder.String())

	l.version = "17"
	require.Equal(t, leaseReplace, l.script())
	o, err = decode([]byte(l.manifest("", began)))
	require.NoError(t, err)
	require.Equal(t, "17", o.text("metadata", "resourceVersion"), "or it could be taken from somebody")
	require.False(t, leaseOf(o).held(), "a lease that was given back")
	require.False(t, leaseOf(nil).held())

	// A holder gives up while nobody can have taken over yet.
	require.Less(t, leaseGiveUp+leaseRenewal, leaseDuration)
	require.Less(t, 2*leaseRenewal, leaseGiveUp, "one renewal may fail")
	_, err = json.Marshal(found.holder)
	require.NoError(t, err)
}

// Whoever waits is told for how long at most.
func TestPatienceIsSaid(t *testing.T) {
	t.Parallel()
	require.Equal(t, "waiting for up to 10m00s for that run to end, or 1m00s if it is dead; --wait TIME changes that", untilFree(10*time.Minute))
	require.Equal(t, "looking for up to 1m00s whether that run is alive; --wait TIME waits for its end", untilFree(0))
}
