// Package store keeps what outlives a run: models, reports and small files of state.
package store

import (
	"context"
	"errors"
	"fmt"

	"dagger.io/dagger"
)

// Files keeps small files under slash-separated names.
//
// Writes are conditional, so that of two runs at once neither loses what the other wrote.
type Files interface {
	// Read returns a file and its version; no data and an empty version where there is no such file.
	Read(ctx context.Context, name string) (data []byte, version string, err error)
	// Write replaces a file whose version still is the one given; an empty version means that there must be no such file.
	// Otherwise it writes nothing and returns [ErrChanged].
	Write(ctx context.Context, name string, data []byte, version string) error
}

// Store keeps folders besides.
type Store interface {
	Files
	// Put writes the files of a folder below prefix, and reads them back: it returns without an error only when every
	// file that is there has the SHA-256 that digests has for its path. Files that are there already are not written again.
	Put(ctx context.Context, prefix string, dir *dagger.Directory, digests map[string]string) error
	// Get returns the files below prefix; an empty folder where there are none.
	Get(ctx context.Context, prefix string) (*dagger.Directory, error)
	// List returns the names of the folders and files right below prefix, sorted, folders without a slash.
	List(ctx context.Context, prefix string) ([]string, error)
	// String names the store for people, without secrets.
	String() string
}

// ErrChanged says that a file has another version than its writer has read.
var ErrChanged = errors.New("somebody else has changed the file meanwhile")

// CorruptError says that what a store holds is not what was put into it.
type CorruptError struct {
	Store, Name, Want, Got string
}

func (e *CorruptError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("%s in %s is missing after it was written", e.Name, e.Store)
	}
	return fmt.Sprintf("%s in %s has the SHA-256 %s, and not %s", e.Name, e.Store, e.Got, e.Want)
}
