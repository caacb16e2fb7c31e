// Package store keeps what outlives a run: models, reports and small files of state.
package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

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
	// file that is there has the SHA-256 that digests has for its path. Files that are there already are not written again, and a
	// manifest.json at the root is written when all others are.
	Put(ctx context.Context, prefix string, dir *dagger.Directory, digests map[string]string) error
	// Get returns the files below prefix; an empty folder where there are none.
	Get(ctx context.Context, prefix string) (*dagger.Directory, error)
	// List returns the names of the folders and files right below prefix, sorted, folders without a slash.
	List(ctx context.Context, prefix string) ([]string, error)
	// String names the store for people, without secrets.
	String() string
}

// Tagger is a store in which a folder can have a second name, that moves, for those who look there without this library.
type Tagger interface {
	// Tag makes name stand for the folder that was put at prefix.
	Tag(ctx context.Context, prefix, name string) error
}

// Source is where tables come from.
type Source interface {
	// Fetch returns a folder in which each file that is wanted lies under its path; those that there are.
	Fetch(ctx context.Context, c *dagger.Client, paths []string) (*dagger.Directory, error)
	// String names the source for people, without secrets.
	String() string
}

// Pinner is a source whose content can change under its name.
type Pinner interface {
	// Pin returns the source by a name whose content can't change.
	Pin(ctx context.Context) (Source, error)
}

// ErrChanged says that a file has another version than its writer has read.
var ErrChanged = errors.New("somebody else has changed the file meanwhile")

// NotDescribedError says that a store does not tell what it has, so that nothing could be downloaded from there.
type NotDescribedError struct{ err error }

func (e *NotDescribedError) Error() string { return e.err.Error() }

func (e *NotDescribedError) Unwrap() error { return e.err }

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

// BucketVariables are the environment variables that hold credentials of buckets.
var BucketVariables = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY",
	"AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN",
}

var bucketAddress = regexp.MustCompile(`^(s3|gs|az|https?)://[^/?#@]+(/[^?#]*)?$`)

// CheckSource reports an address that no tables can come from.
func CheckSource(address string) error {
	if IsRegistry(address) {
		_, err := parseRegistry(address)
		return err
	}
	if !bucketAddress.MatchString(address) {
		return fmt.Errorf("%q is no address of a bucket or registry: use s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH, oci://HOST/REPOSITORY:TAG or https://HOST/PATH, without user and query", address)
	}
	return nil
}

// SplitObject returns the source of a table's address and the object in it. An artifact has no object: it is the table whole.
func SplitObject(address string) (source, object string, err error) {
	if err := CheckSource(address); err != nil {
		return "", "", err
	}
	if IsRegistry(address) {
		return address, "", nil
	}
	at := strings.LastIndex(address, "/")
	source, object = address[:at], address[at+1:]
	if object == "" || strings.HasSuffix(source, "/") {
		return "", "", fmt.Errorf("%q is a whole bucket: add the object's name", address)
	}
	return source, object, nil
}

// CheckAddress reports an address that nothing can be kept at.
func CheckAddress(address string) error {
	if IsRegistry(address) {
		a, err := parseRegistry(address)
		if err == nil && a.reference != "" {
			err = fmt.Errorf("%q names one artifact: a store is a whole repository, without a tag or digest", address)
		}
		return err
	}
	if !bucketAddress.MatchString(address) || strings.HasPrefix(address, "http") {
		return fmt.Errorf("nothing can be kept at %q: use s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or oci://HOST/REPOSITORY", address)
	}
	return nil
}
