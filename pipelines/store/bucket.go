package store

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

//go:embed bucket.py
var bucketProgram string

// The locks are written by
//
//	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate NAME.in -o NAME.txt
//
//go:embed bucket.txt
var bucketLock string

// Bucket is an object store: S3 and what is compatible with it, Google Cloud Storage, Azure Blob Storage; for reading,
// also web servers. A container talks to it, so its address must be one that the engine's containers reach.
type Bucket struct {
	Client *dagger.Client
	// URL is s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH, or http(s)://HOST/PATH.
	URL string
	// Endpoint is where the cloud's own service is not meant: an S3-compatible server, such as https://s3.example.com; an account of Azure
	// elsewhere, such as https://ACCOUNT.blob.core.usgovcloudapi.net; for gs:// what stands for https://storage.googleapis.com.
	Endpoint string
	// Region of a bucket of S3; us-east-1 if it is empty.
	Region string
	// Credentials by the names of [BucketVariables]; without any, requests are not signed.
	Credentials map[string]*dagger.Secret
}

var (
	_ Store  = Bucket{}
	_ Source = Bucket{}
)

func (b Bucket) String() string { return strings.TrimSuffix(b.URL, "/") }

func (b Bucket) do(ctx context.Context, operation string, settings map[string]any, cached bool, prepare func(*dagger.Container) *dagger.Container) (answer, *dagger.Container, error) {
	settings["url"], settings["endpoint"], settings["region"] = b.String(), b.Endpoint, b.Region
	p := program{client: b.Client, name: "bucket.py", text: bucketProgram, lock: bucketLock, where: b.String(), credentials: b.Credentials}
	a, ctr, err := p.do(ctx, operation, settings, cached, prepare)
	if err != nil {
		return a, nil, err
	}
	return a, ctr, b.fault(a)
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
	case strings.Contains(a.Text, "InvalidAccessKeyId"), strings.Contains(a.Text, "SignatureDoesNotMatch"), strings.Contains(a.Text, "403 Forbidden"), strings.Contains(a.Text, "401 Unauthorized"):
		return fmt.Errorf("%s refuses these credentials: see %s: %s", where, or(b.variables()), text)
	case strings.Contains(a.Text, "NoSuchBucket"), strings.Contains(a.Text, "ContainerNotFound"):
		return fmt.Errorf("%s has no such bucket: make it, or correct the address", where)
	}
	return graph.Transient(fmt.Errorf("%s can't be used: %s", where, text))
}

// variables are those that matter to the bucket.
func (b Bucket) variables() []string {
	prefix := map[string]string{"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}[strings.SplitN(b.URL, ":", 2)[0]]
	return slices.DeleteFunc(slices.Clone(BucketVariables), func(v string) bool { return prefix == "" || !strings.HasPrefix(v, prefix) })
}

func or(names []string) string { return strings.Join(names, ", ") }

// Read returns a file; its version is what conditional writes go by: the generation in Google's buckets, else the entity tag.
func (b Bucket) Read(ctx context.Context, name string) ([]byte, string, error) {
	return operations(b.do).read(ctx, name)
}

// Write replaces a file by a conditional request, if it has not changed.
func (b Bucket) Write(ctx context.Context, name string, data []byte, version string) error {
	return operations(b.do).write(ctx, name, data, version)
}

// Put writes what is not there yet, and reads all of it back.
func (b Bucket) Put(ctx context.Context, prefix string, dir *dagger.Directory, digests map[string]string) error {
	return operations(b.do).put(ctx, prefix, dir, digests)
}

// List returns what lies right below prefix.
func (b Bucket) List(ctx context.Context, prefix string) ([]string, error) {
	return operations(b.do).list(ctx, prefix)
}

// Get returns the files below prefix.
func (b Bucket) Get(ctx context.Context, prefix string) (*dagger.Directory, error) {
	a, err := operations(b.do).stat(ctx, map[string]any{"prefix": prefix})
	if err != nil {
		return nil, err
	}
	return operations(b.do).fetch(ctx, b.Client, a.Objects, prefix)
}

// Fetch returns a folder with the objects named, those that exist. They are downloaded again when their entity tags have
// changed, and not when time has passed.
func (b Bucket) Fetch(ctx context.Context, _ *dagger.Client, names []string) (*dagger.Directory, error) {
	a, err := operations(b.do).stat(ctx, map[string]any{"names": names})
	if err != nil {
		return nil, &NotDescribedError{err}
	}
	return operations(b.do).fetch(ctx, b.Client, a.Objects, "")
}
