// Package state keeps what runs must remember of earlier ones: the history of drift.
package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/millrace-ci/millrace/pipelines/drift"
)

// Folder is a folder on disk as a [drift.Store]. Several processes can use it at once, if its file system has locks.
type Folder string

var _ drift.Store = Folder("")

// Read implements [drift.Store]. A file's version is the hash of its content.
func (f Folder) Read(_ context.Context, name string) ([]byte, string, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, "", err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return data, version(data), nil
}

// Write implements [drift.Store]. A file is replaced as a whole or not at all.
func (f Folder) Write(ctx context.Context, name string, data []byte, expected string) (err error) {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(string(f), ".lock"))
	locked, err := lock.TryLockContext(ctx, 5*time.Millisecond)
	if err != nil {
		return fmt.Errorf("lock %s: %w", f, err)
	}
	if !locked {
		return fmt.Errorf("lock %s: another process holds it", f)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	_, now, err := f.Read(ctx, name)
	if err != nil {
		return err
	}
	if now != expected {
		return drift.ErrChanged
	}
	return replace(path, data)
}

// replace writes a file beside its place and moves it there.
func replace(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(data)
	if err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func (f Folder) path(name string) (string, error) {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return "", fmt.Errorf("the file %q lies outside of %s", name, f)
	}
	return filepath.Join(string(f), local), nil
}

func version(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
