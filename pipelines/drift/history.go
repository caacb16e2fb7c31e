package drift

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/millrace-ci/millrace/pipelines/store"
)

// HistorySchema names the format of the history.
const HistorySchema = "millrace/drift-history/v1"

// maxEntries bounds the history: more than a year of daily runs.
const maxEntries = 400

// Entry is what the history keeps of a run.
type Entry struct {
	Time   time.Time `json:"time"`
	Status string    `json:"status"`
	// Severity is the gravest alert's level, and Score the weighted share of the columns that had moved.
	Severity Level   `json:"severity"`
	Score    float64 `json:"score"`
	Rows     int     `json:"rows"`
	// Reference and Current are the tables' SHA-256.
	Reference string `json:"reference"`
	Current   string `json:"current"`
	// Subjects are the columns that had moved, whether or not that was an alert.
	Subjects map[string]Moved `json:"subjects"`
	// Alerts are the subjects of the alerts.
	Alerts      []string           `json:"alerts"`
	Performance map[string]float64 `json:"performance"`
	// Retraining is what the run did about it; nil if nothing.
	Retraining *Retraining `json:"retraining,omitempty"`
}

// Moved is what the history keeps of a column.
type Moved struct {
	Level  Level   `json:"level"`
	Test   string  `json:"test"`
	Effect float64 `json:"effect"`
	Q      float64 `json:"q"`
}

// History is what earlier runs have found, the oldest first.
type History struct {
	Schema  string  `json:"schema"`
	Entries []Entry `json:"entries"`
	// Recovered is when a history that could not be read was put aside; nothing is known of what was retrained before.
	Recovered *time.Time `json:"recovered,omitempty"`
}

// decodeHistory reads a history; no data is an empty one.
func decodeHistory(data []byte) (History, error) {
	if len(data) == 0 {
		return History{Schema: HistorySchema}, nil
	}
	var h History
	if err := json.Unmarshal(data, &h); err != nil {
		return History{}, err
	}
	if h.Schema != HistorySchema {
		return History{}, fmt.Errorf("its schema is %q, and only %q can be read", h.Schema, HistorySchema)
	}
	for i, e := range h.Entries {
		if e.Time.IsZero() || !slices.Contains([]Level{OK, Warn, Critical}, e.Severity) {
			return History{}, fmt.Errorf("its entry %d lacks a time or a severity", i)
		}
	}
	return h, nil
}

func (h History) encode() ([]byte, error) {
	if len(h.Entries) > maxEntries {
		h.Entries = h.Entries[len(h.Entries)-maxEntries:]
	}
	if h.Entries == nil {
		h.Entries = []Entry{}
	}
	data, err := json.MarshalIndent(h, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write the history: %w", err)
	}
	return append(data, '\n'), nil
}

// Ledger is the history of one model's drift in a store. The zero Store keeps nothing.
type Ledger struct {
	Store store.Files
	// Name is the model's, or the table's; its history is the file drift/NAME/history.json.
	Name string
	// Now is the time of the run.
	Now time.Time
}

// File is the history's name in the store.
func (l Ledger) File() string { return "drift/" + l.Name + "/history.json" }

// Load returns the history. One that can't be read is put aside under another name in the store and replaced by an empty
// one, and aside says so.
func (l Ledger) Load(ctx context.Context) (h History, aside string, err error) {
	h, _, aside, err = l.read(ctx)
	return h, aside, err
}

func (l Ledger) read(ctx context.Context) (h History, version, aside string, err error) {
	if l.Store == nil {
		return History{Schema: HistorySchema}, "", "", nil
	}
	data, version, err := l.Store.Read(ctx, l.File())
	if err != nil {
		return History{}, "", "", fmt.Errorf("read the history %s: %w", l.File(), err)
	}
	h, broken := decodeHistory(data)
	if broken == nil {
		return h, version, "", nil
	}
	sum := sha256.Sum256(data)
	kept := fmt.Sprintf("drift/%s/history.corrupt-%s.json", l.Name, hex.EncodeToString(sum[:6]))
	// Whoever reads the same broken file at the same time keeps the same copy of it.
	if err := l.Store.Write(ctx, kept, data, ""); err != nil && !errors.Is(err, store.ErrChanged) {
		return History{}, "", "", fmt.Errorf("put the history %s aside, which can't be read (%w): %w", l.File(), broken, err)
	}
	now := l.Now
	aside = fmt.Sprintf("the history could not be read (%v): it is kept as %s, and a new one begins; nothing is retrained for one cooldown", broken, kept)
	return History{Schema: HistorySchema, Recovered: &now}, version, aside, nil
}

// attempts bounds how often a write is tried again because another run was faster.
const attempts = 20

// Change reads the history, lets change alter it, and writes it back; all again when another run was faster.
func (l Ledger) Change(ctx context.Context, change func(*History)) (History, error) {
	for try := range attempts {
		h, version, _, err := l.read(ctx)
		if err != nil {
			return History{}, err
		}
		change(&h)
		if l.Store == nil {
			return h, nil
		}
		data, err := h.encode()
		if err != nil {
			return History{}, err
		}
		err = l.Store.Write(ctx, l.File(), data, version)
		if err == nil {
			return h, nil
		}
		if !errors.Is(err, store.ErrChanged) {
			return History{}, fmt.Errorf("write the history %s: %w", l.File(), err)
		}
		select {
		case <-ctx.Done():
			return History{}, ctx.Err()
		case <-time.After(time.Duration(rand.Int64N(int64(10*time.Millisecond) << min(try, 6)))):
		}
	}
	return History{}, fmt.Errorf("write the history %s: other runs were faster %d times: see whether something rewrites it all the time", l.File(), attempts)
}

// add puts an entry into its place in time. One of the same run, told by its time, is replaced.
func (h *History) add(e Entry) {
	h.Entries = slices.DeleteFunc(slices.Clone(h.Entries), func(o Entry) bool { return o.Time.Equal(e.Time) && o.Current == e.Current })
	at, _ := slices.BinarySearchFunc(h.Entries, e, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	h.Entries = slices.Insert(h.Entries, at, e)
}
