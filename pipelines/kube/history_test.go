package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What was interrupted stands on top, with the command to type.
func TestStatusBeginsWithWhatWasInterrupted(t *testing.T) {
	t.Parallel()
	ended := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	state := func(status Status, holder *Holder, alive bool) State {
		return State{
			Environment: "production", Namespace: "shop", Server: "v1.34.4", Exists: true, Holder: holder, Alive: alive,
			Present:    &Release{Revision: 1, Status: Deployed, Ended: &ended, Holder: "ada"},
			Unfinished: &Release{Revision: 2, Status: status, Phase: "waiting", Holder: "bob #1", Cause: "too little data"},
		}
	}
	first := func(s State) string { line, _, _ := strings.Cut(s.Text(), "\n"); return line }

	interrupted := state(Deploying, nil, false)
	require.Equal(t, `INTERRUPTED: revision 2 by bob was deploying (waiting) when its run ended
  revert it: ci rollback production
  the next deploy does that too, before anything else

production: namespace shop on Kubernetes v1.34.4
  revision 1, deployed 2026-01-02 03:04:05 UTC by ada
`, interrupted.Text())
	interrupted.Revert = "go run ./ci rollback production --source app"
	require.Contains(t, interrupted.Text(), "  revert it: go run ./ci rollback production --source app\n")
	require.Contains(t, first(state(Verifying, &Holder{Name: "bob #1", Since: ended}, false)), "INTERRUPTED: revision 2")

	goesOn := state(Deploying, &Holder{Name: "bob #1", Since: ended}, true)
	require.Equal(t, "production: namespace shop on Kubernetes v1.34.4", first(goesOn))
	require.Contains(t, goesOn.Text(), "revision 2 is deploying now (waiting), by bob, since 2026-01-02 03:04:05 UTC")
	paused := state(Paused, nil, false)
	require.Equal(t, "production: namespace shop on Kubernetes v1.34.4", first(paused))
	require.Contains(t, paused.Text(), "PAUSED: the canary of revision 2 by bob keeps its share: too little data")
}
