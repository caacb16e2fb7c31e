// Package folder keeps a store in a folder of this machine.
package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dagger.io/dagger"
	"github.com/gofrs/flock"

	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// Store is a folder as a store. The folder is made when something is written. Several processes can use it at once, if
// its file system has locks.
type Store struct {
	// Client is the engine's; Read, Write and List do without.
	Client *dagger.Client
	// Path is the folder's.
	Path string
}

var _ store.Store = Store{}

func (s Store) String() string { return s.Path }

// path returns where a name lies. No name leads out of the store.
func (s Store) path(name string) (string, error) {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return "", fmt.Errorf("%q lies outside of %s", name, s)
	}
	return filepath.Join(s.Path, local), nil
}

// Read returns a file; its version is the SHA-256 of its content.
func (s Store) Read(_ context.Context, name string) ([]byte, string, error) {
	file, err := s.path(name)
	if err != nil {
		return nil, "", err
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return data, digest(data), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Write replaces a file, whole or not at all, unless it has changed.
func (s Store) Write(ctx context.Context, name string, data []byte, version string) (err error) {
	target, err := s.path(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(s.Path, ".lock"))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		return fmt.Errorf("wait for another run in %s: %w", s.Path, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	_, now, err := s.Read(ctx, name)
	if err != nil {
		return err
	}
	if now != version {
		return store.ErrChanged
	}
	temporary, err := os.CreateTemp(filepath.Dir(target), ".writing-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Sync(), temporary.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return os.Rename(temporary.Name(), target)
}

// Put writes the folder beside its place first, so that what lies in its place is always whole.
func (s Store) Put(ctx context.Context, prefix string, dir *dagger.Directory, digests map[string]string) error {
	target, err := s.path(prefix)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if s.verify(target, prefix, digests) == nil {
		return nil
	}
	beside, err := os.MkdirTemp(filepath.Dir(target), ".writing-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(beside)
	if _, err := dir.Export(ctx, beside, dagger.DirectoryExportOpts{Wipe: true}); err != nil {
		return fmt.Errorf("write %s: %w", target, step.Explain(err))
	}
	if err := os.Chmod(beside, 0o755); err != nil {
		return err
	}
	// What lies there is not whole, or it would have been kept.
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.Rename(beside, target); err != nil {
		return err
	}
	return s.verify(target, prefix, digests)
}

// verify reads the files of prefix, which lie in a folder, back.
func (s Store) verify(folder, prefix string, digests map[string]string) error {
	for name, want := range digests {
		got, err := hashFile(filepath.Join(folder, filepath.FromSlash(name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if got != want {
			return &store.CorruptError{Store: s.Path, Name: prefix + "/" + name, Want: want, Got: got}
		}
	}
	return nil
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Get returns the files below prefix.
func (s Store) Get(_ context.Context, prefix string) (*dagger.Directory, error) {
	folder, err := s.path(prefix)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return s.Client.Directory(), nil
	} else if err != nil {
		return nil, err
	}
	return s.Client.Host().Directory(folder), nil
}

// List returns what lies right below prefix, but for what is being written.
func (s Store) List(_ context.Context, prefix string) ([]string, error) {
	folder, err := s.path(prefix)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Name()[0] != '.' {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
