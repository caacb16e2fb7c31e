package folder_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/folder"
	"github.com/millrace-ci/millrace/pipelines/store"
)

func TestWritesAreConditional(t *testing.T) {
	t.Parallel()
	s := folder.Store{Path: filepath.Join(t.TempDir(), "made", "later")}
	ctx := t.Context()
	data, version, err := s.Read(ctx, "a/b.json")
	require.NoError(t, err)
	require.Nil(t, data)
	require.Empty(t, version)

	require.NoError(t, s.Write(ctx, "a/b.json", []byte("1"), ""))
	require.ErrorIs(t, s.Write(ctx, "a/b.json", []byte("2"), ""), store.ErrChanged)
	data, version, err = s.Read(ctx, "a/b.json")
	require.NoError(t, err)
	require.Equal(t, "1", string(data))
	require.NoError(t, s.Write(ctx, "a/b.json", []byte("3"), version))
	require.ErrorIs(t, s.Write(ctx, "a/b.json", []byte("4"), version), store.ErrChanged)

	_, _, err = s.Read(ctx, "../outside")
	require.ErrorContains(t, err, "lies outside of")
	require.ErrorContains(t, s.Write(ctx, "/etc/x", nil, ""), "lies outside of")
	require.ErrorContains(t, s.Put(ctx, "../outside", nil, nil), "lies outside of")
	_, err = s.List(ctx, "..")
	require.ErrorContains(t, err, "lies outside of")

	left, err := filepath.Glob(filepath.Join(s.Path, "a", "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(s.Path, "a", "b.json")}, left)
	names, err := s.List(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, []string{"b.json"}, names, "what is being written is not listed")
	names, err = s.List(ctx, "nothing")
	require.NoError(t, err)
	require.Empty(t, names)
}

// Of many writers at once, each loses nothing of what another wrote.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const writers, each = 8, 10
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			s := folder.Store{Path: dir}
			for range each {
				for {
					data, version, err := s.Read(context.Background(), "count")
					if err == nil {
						err = s.Write(context.Background(), "count", append(data, '.'), version)
					}
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrChanged) {
						panic(fmt.Sprint(err))
					}
				}
			}
		})
	}
	group.Wait()
	data, err := os.ReadFile(filepath.Join(dir, "count"))
	require.NoError(t, err)
	require.Len(t, data, writers*each)
}
