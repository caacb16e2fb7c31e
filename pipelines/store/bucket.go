package store

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

//go:embed bucket.py
var program string

// The lock is written by
//
//	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate store.in -o store.txt
//
//go:embed store.txt
var lock string

// Variables are the environment variables that hold credentials of buckets.
var Variables = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY",
	"AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN",
}

// Bucket is an object store: S3 and what is compatible with it, Google Cloud Storage, Azure Blob Storage; for reading,
// also web servers. A container talks to it, so its address must be one that the engine's containers reach.
type Bucket struct {
	Client *dagger.Client
	// URL is s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH, or http(s)://HOST/PATH.
	URL string
	// Endpoint of an S3-compatible server, such as https://s3.example.com; Amazon's if it is empty.
	Endpoint string
	// Region of the bucket; us-east-1 if it is empty.
	Region string
	// Credentials by the names of [Variables]; without any, requests are not signed.
	Credentials map[string]*dagger.Secret
}

var _ Store = Bucket{}

var addressPattern = regexp.MustCompile(`^(s3|gs|az|https?)://[^/?#@]+(/[^?#]*)?$`)

// CheckAddress reports an address that is none of a bucket.
func CheckAddress(address string) error {
	if !addressPattern.MatchString(address) {
		return fmt.Errorf("%q is no address of a bucket: use s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or https://HOST/PATH, without user and query", address)
	}
	return nil
}

func (b Bucket) String() string { return strings.TrimSuffix(b.URL, "/") }

// answer is what the program says.
type answer struct {
	Error, Text, Name, Want, Got string

	Data    *string
	Version string
	Names   []string
	Objects []Object
}

// Object is an object in a bucket, and what tells its present content from any other.
type Object struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	Version string `json:"version"`
}

const settingsFile = "/millrace/settings.json"

// do runs the program. What it does is not answered from the cache, unless cached is true.
func (b Bucket) do(ctx context.Context, operation string, settings map[string]any, cached bool, prepare func(*dagger.Container) *dagger.Container) (answer, *dagger.Container, error) {
	ctr, err := image.Toolbox(ctx, b.Client, "", lock)
	if err != nil {
		return answer{}, nil, err
	}
	settings["url"], settings["endpoint"], settings["region"] = b.String(), b.Endpoint, b.Region
	text, err := json.Marshal(settings)
	if err != nil {
		return answer{}, nil, err
	}
	ctr = ctr.WithNewFile("/millrace/bucket.py", program).WithNewFile(settingsFile, string(text))
	for _, name := range slices.Sorted(maps.Keys(b.Credentials)) {
		ctr = ctr.WithSecretVariable(name, b.Credentials[name])
	}
	if !cached {
		ctr = ctr.WithEnvVariable("MILLRACE_NOW", time.Now().UTC().Format(time.RFC3339Nano))
	}
	if prepare != nil {
		ctr = prepare(ctr)
	}
	done, err := step.Exec(ctx, ctr, "/answer", operation, []string{image.ToolboxPython, "/millrace/bucket.py", operation, settingsFile})
	if err != nil {
		return answer{}, nil, err
	}
	if done.ExitCode != 0 {
		said, _ := done.Tail(ctx)
		return answer{}, nil, fmt.Errorf("the program that talks to %s broke:\n%s", b, said)
	}
	out, err := done.Stdout(ctx)
	if err != nil {
		return answer{}, nil, err
	}
	var a answer
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		return a, nil, fmt.Errorf("read the answer about %s: %w", b, err)
	}
	return a, done.Container, b.fault(a)
}

// fault turns what is wrong with the store into an error.
func (b Bucket) fault(a answer) error {
	where := b.String()
	if b.Endpoint != "" {
		where += " at " + b.Endpoint
	}
	text, _, _ := strings.Cut(a.Text, "\n")
	switch a.Error {
	case "":
		return nil
	case "changed":
		return ErrChanged
	case "corrupt":
		return &CorruptError{Store: where, Name: a.Name, Want: a.Want, Got: a.Got}
	case "denied":
		return fmt.Errorf("%s refuses these credentials: see %s and the bucket's policy: %s", where, or(b.variables()), text)
	case "missing":
		return fmt.Errorf("%s has no such bucket: make it, or correct the address: %s", where, text)
	case "moved":
		return graph.Transient(fmt.Errorf("%s: %s", where, text))
	}
	switch {
	case strings.Contains(a.Text, "InvalidAccessKeyId"), strings.Contains(a.Text, "SignatureDoesNotMatch"), strings.Contains(a.Text, "403 Forbidden"):
		return fmt.Errorf("%s refuses these credentials: see %s: %s", where, or(b.variables()), text)
	case strings.Contains(a.Text, "NoSuchBucket"):
		return fmt.Errorf("%s has no such bucket: make it, or correct the address", where)
	}
	return graph.Transient(fmt.Errorf("%s can't be used: %s", where, text))
}

// variables are those that matter to the bucket.
func (b Bucket) variables() []string {
	prefix := map[string]string{"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}[strings.SplitN(b.URL, ":", 2)[0]]
	return slices.DeleteFunc(slices.Clone(Variables), func(v string) bool { return prefix == "" || !strings.HasPrefix(v, prefix) })
}

func or(names []string) string { return strings.Join(names, ", ") }

// Read returns a file; its version is the bucket's entity tag.
func (b Bucket) Read(ctx context.Context, name string) ([]byte, string, error) {
	a, _, err := b.do(ctx, "read", map[string]any{"name": name}, false, nil)
	if err != nil || a.Data == nil {
		return nil, "", err
	}
	return []byte(*a.Data), a.Version, nil
}

// Write replaces a file by a conditional request, if it has not changed.
func (b Bucket) Write(ctx context.Context, name string, data []byte, version string) error {
	_, _, err := b.do(ctx, "write", map[string]any{"name": name, "data": string(data), "version": version}, false, nil)
	return err
}

// Put writes what is not there yet, and reads all of it back.
func (b Bucket) Put(ctx context.Context, prefix string, dir *dagger.Directory, digests map[string]string) error {
	_, _, err := b.do(ctx, "put", map[string]any{"prefix": prefix, "folder": "/upload", "digests": digests}, false,
		func(ctr *dagger.Container) *dagger.Container { return ctr.WithMountedDirectory("/upload", dir) })
	return err
}

// List returns what lies right below prefix.
func (b Bucket) List(ctx context.Context, prefix string) ([]string, error) {
	a, _, err := b.do(ctx, "list", map[string]any{"prefix": prefix}, false, nil)
	return a.Names, err
}

// Get returns the files below prefix.
func (b Bucket) Get(ctx context.Context, prefix string) (*dagger.Directory, error) {
	a, _, err := b.do(ctx, "stat", map[string]any{"prefix": prefix}, false, nil)
	if err != nil {
		return nil, err
	}
	return b.download(ctx, a.Objects, prefix)
}

// Fetch returns a folder with the objects named, those that exist. They are downloaded again when their entity tags have
// changed, and not when time has passed.
func (b Bucket) Fetch(ctx context.Context, _ *dagger.Client, names []string) (*dagger.Directory, error) {
	a, _, err := b.do(ctx, "stat", map[string]any{"names": names}, false, nil)
	if err != nil {
		return nil, err
	}
	return b.download(ctx, a.Objects, "")
}

func (b Bucket) download(ctx context.Context, objects []Object, strip string) (*dagger.Directory, error) {
	if len(objects) == 0 {
		return b.Client.Directory(), nil
	}
	settings := map[string]any{"objects": objects, "strip": strip, "out": "/out"}
	_, ctr, err := b.do(ctx, "fetch", settings, true, nil)
	if err != nil {
		// It may be the answer of an earlier try, from the cache.
		_, ctr, err = b.do(ctx, "fetch", settings, false, nil)
	}
	if err != nil {
		return nil, err
	}
	return ctr.Directory("/out"), nil
}
