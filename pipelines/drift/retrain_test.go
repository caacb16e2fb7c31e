package drift_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/store"
)

var now = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// critical is a result with an alert of that level and kind.
func critical(level drift.Level, kind string) drift.Result {
	return drift.Result{
		Severity: level, Alerts: []drift.Alert{{Subject: "age", Kind: kind, Level: level, Said: "moved"}},
		Entry: drift.Entry{Time: now, Status: "measured", Severity: level, Current: "today"},
	}
}

// retrained is a history in which retrainings began so long ago.
func retrained(ago ...time.Duration) drift.History {
	var h drift.History
	for _, d := range ago {
		at := now.Add(-d)
		h.Entries = append(h.Entries, drift.Entry{Time: at, Severity: drift.Critical, Retraining: &drift.Retraining{Started: true, Time: at, State: "dispatched"}})
	}
	return h
}

func TestDecide(t *testing.T) {
	t.Parallel()
	hour, day := time.Hour, 24*time.Hour
	never := retrained(5 * hour)
	never.Entries[0].Retraining.Started = false
	recovered := drift.History{}
	before := now.Add(-2 * hour)
	recovered.Recovered = &before
	for _, test := range []struct {
		name   string
		policy drift.Policy
		found  drift.Result
		past   drift.History
		starts bool
		reason string
	}{
		{"critical drift", drift.Policy{Mode: drift.Dispatched}, critical(drift.Critical, "feature"), drift.History{}, true, "critical: age"},
		{"a warning", drift.Policy{Mode: drift.Dispatched}, critical(drift.Warn, "feature"), drift.History{}, false, "no critical drift"},
		{"nothing", drift.Policy{Mode: drift.Dispatched}, drift.Result{}, drift.History{}, false, "no critical drift"},
		{"off", drift.Policy{}, critical(drift.Critical, "feature"), drift.History{}, false, "retraining is off"},
		{"a table that is unfit", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "contract"), drift.History{}, false, "repair the data"},
		{"cooldown", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "feature"), retrained(23 * hour), false, "the next may on 2026-03-01 07:00 UTC"},
		{"after the cooldown", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "feature"), retrained(24 * hour), true, "critical"},
		{"another cooldown", drift.Policy{Mode: drift.Inline, Cooldown: hour}, critical(drift.Critical, "feature"), retrained(2 * hour), true, "critical"},
		{"one that never began", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "feature"), never, true, "critical"},
		{"budget", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "feature"), retrained(6*day, 2*day), false, "the next may begin on 2026-03-02 06:00 UTC"},
		{"budget of last week", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "feature"), retrained(8*day, 7*day, 2*day), true, "critical"},
		{"a larger budget", drift.Policy{Mode: drift.Inline, Budget: 3}, critical(drift.Critical, "feature"), retrained(6*day, 2*day), true, "critical"},
		{"a clock that is ahead", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "feature"), retrained(-90 * day), false, "the next may on 2026-03-02 06:00 UTC"},
		{"a history that was lost", drift.Policy{Mode: drift.Inline}, critical(drift.Critical, "feature"), recovered, false, "cooldown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := test.policy.Decide(test.found, test.past, now)
			require.Equal(t, test.starts, got.Started, got.Reason)
			require.Contains(t, got.Reason, test.reason)
			require.Equal(t, test.starts, got.State == "claimed")
		})
	}
}

// memory is a store in memory, with the semantics that a store must have.
type memory struct {
	mu    sync.Mutex
	files map[string]string
	// before, if set, is called before each write: another run comes in between.
	before func(*memory)
}

func (m *memory) Read(_ context.Context, name string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return []byte(m.files[name]), m.files[name], nil
}

func (m *memory) Write(_ context.Context, name string, data []byte, version string) error {
	if before := m.before; before != nil {
		m.before = nil
		before(m)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] != version {
		return store.ErrChanged
	}
	if m.files == nil {
		m.files = map[string]string{}
	}
	m.files[name] = string(data)
	return nil
}

func TestTwoRunsAtOnceRetrainOnce(t *testing.T) {
	t.Parallel()
	store := &memory{}
	policy := drift.Policy{Mode: drift.Dispatched}
	run := func(current string, at time.Time) drift.Retraining {
		found := critical(drift.Critical, "feature")
		found.Entry.Current, found.Entry.Time = current, at
		ledger := drift.Ledger{Store: store, Name: "churn", Now: at}
		claim := policy.Claim(ledger, found)
		var decided drift.Retraining
		_, err := ledger.Change(t.Context(), func(h *drift.History) { decided = claim(h) })
		require.NoError(t, err)
		return decided
	}
	var other drift.Retraining
	// The other run writes between this one's reading and writing.
	store.before = func(*memory) { other = run("b", now.Add(time.Second)) }
	own := run("a", now)
	require.True(t, other.Started)
	require.False(t, own.Started)
	require.Contains(t, own.Reason, "cooldown")
	h, aside, err := drift.Ledger{Store: store, Name: "churn", Now: now}.Load(t.Context())
	require.NoError(t, err)
	require.Empty(t, aside)
	require.Len(t, h.Entries, 2)
	require.Equal(t, "a", h.Entries[0].Current, "entries are in the order of time")
}

func TestRunIsInTheHistoryOnce(t *testing.T) {
	t.Parallel()
	ledger := drift.Ledger{Store: &memory{}, Name: "churn", Now: now}
	claim := drift.Policy{}.Claim(ledger, critical(drift.Warn, "feature"))
	for range 2 {
		_, err := ledger.Change(t.Context(), func(h *drift.History) { claim(h) })
		require.NoError(t, err)
	}
	h, _, err := ledger.Load(t.Context())
	require.NoError(t, err)
	require.Len(t, h.Entries, 1)
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	ledger := drift.Ledger{Store: &memory{}, Name: "churn", Now: now}
	_, err := ledger.Change(t.Context(), func(h *drift.History) {
		for i := range 1000 {
			h.Entries = append(h.Entries, drift.Entry{Time: now.Add(time.Duration(i) * time.Hour), Severity: drift.OK})
		}
	})
	require.NoError(t, err)
	h, _, err := ledger.Load(t.Context())
	require.NoError(t, err)
	require.Len(t, h.Entries, 400)
	require.Equal(t, now.Add(999*time.Hour), h.Entries[399].Time)
}

func TestCorruptHistoryIsKeptAside(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"{", `{"schema": "other"}`, `{"schema": "millrace/drift-history/v1", "entries": [{}]}`, "\x00\x01"} {
		store := &memory{files: map[string]string{"drift/churn/history.json": content}}
		ledger := drift.Ledger{Store: store, Name: "churn", Now: now}
		h, aside, err := ledger.Load(t.Context())
		require.NoError(t, err)
		require.Contains(t, aside, "the history could not be read")
		require.Contains(t, aside, "drift/churn/history.corrupt-")
		require.NotNil(t, h.Recovered)
		policy := drift.Policy{Mode: drift.Inline}
		claim := policy.Claim(ledger, critical(drift.Critical, "feature"))
		var decided drift.Retraining
		_, err = ledger.Change(t.Context(), func(h *drift.History) { decided = claim(h) })
		require.NoError(t, err)
		require.False(t, decided.Started, "nothing is known of the last retraining")
		kept := ""
		for name, data := range store.files {
			if strings.Contains(name, "corrupt") {
				kept = data
			}
		}
		require.Equal(t, content, kept)
		_, aside, err = ledger.Load(t.Context())
		require.NoError(t, err)
		require.Empty(t, aside)
	}
}

// broken is a store that is down.
type broken struct{}

func (broken) Read(context.Context, string) ([]byte, string, error) {
	return nil, "", errors.New("down")
}

func (broken) Write(context.Context, string, []byte, string) error { return errors.New("down") }

// busy is a store in which somebody else is always faster.
type busy struct{}

func (busy) Read(context.Context, string) ([]byte, string, error) { return nil, "", nil }

func (busy) Write(context.Context, string, []byte, string) error { return store.ErrChanged }

func TestStoreThatDoesNotWork(t *testing.T) {
	t.Parallel()
	_, err := drift.Ledger{Store: broken{}, Name: "churn"}.Change(t.Context(), func(*drift.History) {})
	require.EqualError(t, err, "read the history drift/churn/history.json: down")
	_, err = drift.Ledger{Store: busy{}, Name: "churn"}.Change(t.Context(), func(*drift.History) {})
	require.ErrorContains(t, err, "other runs were faster 20 times")
}
