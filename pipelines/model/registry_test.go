package model_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// shelf is a store in memory.
type shelf map[string]string

func (s shelf) String() string { return "the shelf" }

func (s shelf) Read(_ context.Context, name string) ([]byte, string, error) {
	text, ok := s[name]
	if !ok {
		return nil, "", nil
	}
	return []byte(text), text, nil
}

func (s shelf) Write(_ context.Context, name string, data []byte, version string) error {
	if s[name] != version {
		return store.ErrChanged
	}
	s[name] = string(data)
	return nil
}

func (s shelf) List(_ context.Context, prefix string) ([]string, error) {
	var names []string
	for name := range s {
		if rest, below := strings.CutPrefix(name, prefix+"/"); below {
			names = append(names, strings.SplitN(rest, "/", 2)[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s shelf) Put(context.Context, string, *dagger.Directory, map[string]string) error {
	return errors.New("nothing is put here")
}

func (s shelf) Get(context.Context, string) (*dagger.Directory, error) {
	return nil, errors.New("nothing is got here")
}

// churn puts a version of that model there as a registration does, and returns it.
func (s shelf) churn(data string) string {
	const name = "churn"
	manifest := fmt.Sprintf(`{"schema": %q, "name": %q, "data": %q}`, model.ManifestSchema, name, data)
	sum := sha256.Sum256([]byte(manifest))
	digits := hex.EncodeToString(sum[:])
	s[path.Join("models", name, "versions", "sha256-"+digits, "manifest.json")] = manifest
	return "sha256:" + digits
}

func TestPromoteAndRollBack(t *testing.T) {
	t.Parallel()
	s, ctx := shelf{}, t.Context()
	r := model.Registry{Store: s}
	one, two, three := s.churn("1"), s.churn("2"), s.churn("3")
	champion := func() string {
		c, _, err := r.Champion(ctx, "churn")
		require.NoError(t, err)
		return c.Version
	}
	require.Empty(t, champion())
	_, err := r.Rollback(ctx, "churn", time.Now())
	require.ErrorContains(t, err, "no champion before")

	for _, version := range []string{one, two, three, three} {
		require.NoError(t, r.Promote(ctx, "churn", version, "promoted", time.Now()))
		require.Equal(t, version, champion())
	}
	// Each rollback goes one further back, and never forth.
	for _, want := range []string{two, one} {
		got, err := r.Rollback(ctx, "churn", time.Now())
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, want, champion())
	}
	_, err = r.Rollback(ctx, "churn", time.Now())
	require.ErrorContains(t, err, "no champion before")
	require.Equal(t, one, champion())

	c, _, err := r.Champion(ctx, "churn")
	require.NoError(t, err)
	require.Len(t, c.History, 5)
	require.Equal(t, "rolled back", c.History[4].Reason)
}

// What people took out of use, no training brings back.
func TestWhatWasRolledBackStaysSo(t *testing.T) {
	t.Parallel()
	s, ctx := shelf{}, t.Context()
	r := model.Registry{Store: s}
	one, two := s.churn("1"), s.churn("2")
	champion := func() string {
		c, _, err := r.Champion(ctx, "churn")
		require.NoError(t, err)
		return c.Version
	}
	require.NoError(t, r.Promote(ctx, "churn", one, "trained", time.Now()))
	require.NoError(t, r.Promote(ctx, "churn", two, "trained", time.Now()))
	_, err := r.Rollback(ctx, "churn", time.Now())
	require.NoError(t, err)
	require.Error(t, r.Promote(ctx, "churn", two, "trained", time.Now()))
	require.Equal(t, one, champion())
	require.NoError(t, r.Promote(ctx, "churn", two, "promoted", time.Now()))
	require.Equal(t, two, champion())
	require.NoError(t, r.Promote(ctx, "churn", one, "trained", time.Now()), "it has only been followed")
	require.NoError(t, r.Promote(ctx, "churn", two, "trained", time.Now()))
}

// labels is a store in memory that has tags, too.
type labels struct {
	shelf
	tags map[string]string
	// down makes tagging fail.
	down bool
}

func (l *labels) Tag(_ context.Context, prefix, name string) error {
	if l.down {
		return errors.New("down")
	}
	l.tags[name] = prefix
	return nil
}

func TestTheTagFollowsTheChampion(t *testing.T) {
	t.Parallel()
	s, ctx := &labels{shelf: shelf{}, tags: map[string]string{}}, t.Context()
	r := model.Registry{Store: s}
	one, two := s.churn("1"), s.churn("2")
	tagged := func() string {
		return strings.Replace(strings.TrimPrefix(s.tags["models/churn/champion"], "models/churn/versions/"), "-", ":", 1)
	}
	require.NoError(t, r.Promote(ctx, "churn", one, "promoted", time.Now()))
	require.Equal(t, one, tagged())

	s.down = true
	require.ErrorContains(t, r.Promote(ctx, "churn", two, "promoted", time.Now()), "its tag could not be moved: run it again")
	require.Equal(t, one, tagged())
	s.down = false
	require.NoError(t, r.Promote(ctx, "churn", two, "promoted", time.Now()))
	require.Equal(t, two, tagged())
	c, _, err := r.Champion(ctx, "churn")
	require.NoError(t, err)
	require.Len(t, c.History, 2, "it became champion once")

	_, err = r.Rollback(ctx, "churn", time.Now())
	require.NoError(t, err)
	require.Equal(t, one, tagged())
}

func TestFindByDigits(t *testing.T) {
	t.Parallel()
	s, ctx := shelf{}, t.Context()
	r := model.Registry{Store: s}
	one := s.churn("1")
	s.churn("2")
	got, err := r.Find(ctx, "churn", model.Short(one))
	require.NoError(t, err)
	require.Equal(t, one, got)
	for digits, want := range map[string]string{"": "give more digits", "zz": "no version zz"} {
		_, err := r.Find(ctx, "churn", digits)
		require.ErrorContains(t, err, want)
	}
	_, err = r.Find(ctx, "clv", "1")
	require.ErrorContains(t, err, `no model "clv"`)
	require.Error(t, r.Promote(ctx, "churn", "sha256:none", "promoted", time.Now()))
}

func TestADamagedChampionIsNoChampion(t *testing.T) {
	t.Parallel()
	r := model.Registry{Store: shelf{"models/churn/champion.json": "{"}}
	_, _, err := r.Champion(t.Context(), "churn")
	require.ErrorContains(t, err, "models/churn/champion.json in the shelf can't be read")
}

func TestPoints(t *testing.T) {
	t.Parallel()
	require.Equal(t, []map[string]string{{}}, model.Points(project.Model{}))
	require.Equal(t, []map[string]string{
		{"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "2", "b": "x"}, {"a": "2", "b": "y"},
	}, model.Points(project.Model{Grid: map[string][]string{"b": {"x", "y"}, "a": {"1", "2"}}}))
}
