package store

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

//go:embed oci.py
var ociProgram string

//go:embed oci.txt
var ociLock string

// Registry is a repository of an OCI registry as a store, and for reading also one artifact in it. A container talks to it,
// so its address must be one that the engine's containers reach.
//
// A folder is an artifact with a layer for each file, under a tag that never moves: its name, with a dot for a slash. A file of
// its own is an artifact with one layer. The protocol has no conditional write: a writer writes, waits three seconds and looks
// whether its tag was overwritten. Of two writers at once the slower one learns that, unless looking at the tag and writing it took
// either more than those three seconds.
type Registry struct {
	Client *dagger.Client
	// Address is oci://HOST/REPOSITORY; for reading with :TAG or @DIGEST, the tag latest if there is none. It is
	// oci+http://… where the registry has no TLS.
	Address string
	// User and Password are the login; without them nobody is logged in. The user is no secret: the engine blots out secrets in what
	// a container says, and a short name is part of many a digest.
	User     string
	Password *dagger.Secret
}

var (
	_ Store  = Registry{}
	_ Tagger = Registry{}
	_ Source = Registry{}
	_ Pinner = Registry{}
)

var registryAddress = regexp.MustCompile(`^(oci|oci\+http)://([^/?#@]+/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(sha256:[0-9a-f]{64}))?$`)

// IsRegistry reports whether an address is that of a registry.
func IsRegistry(address string) bool {
	return strings.HasPrefix(address, "oci://") || strings.HasPrefix(address, "oci+http://")
}

type registryParts struct {
	scheme, repository, reference string
}

func parseRegistry(address string) (registryParts, error) {
	m := registryAddress.FindStringSubmatch(address)
	if m == nil {
		return registryParts{}, fmt.Errorf("%q is no address in a registry: use oci://HOST/REPOSITORY, with :TAG or @sha256:… for one artifact, and oci+http:// for a registry without TLS", address)
	}
	return registryParts{scheme: m[1], repository: m[2], reference: cmp.Or(m[3], m[4])}, nil
}

func (r Registry) String() string { return r.Address }

func (r Registry) do(ctx context.Context, operation string, settings map[string]any, cached bool, prepare func(*dagger.Container) *dagger.Container) (answer, *dagger.Container, error) {
	parts, err := parseRegistry(r.Address)
	if err != nil {
		return answer{}, nil, err
	}
	settings["repository"], settings["plain"] = parts.repository, parts.scheme == "oci+http"
	p := program{client: r.Client, name: "oci.py", text: ociProgram, lock: ociLock, where: r.String()}
	if r.Password != nil {
		p.plain, p.credentials = map[string]string{"REGISTRY_USER": r.User}, map[string]*dagger.Secret{"REGISTRY_PASSWORD": r.Password}
	}
	a, ctr, err := p.do(ctx, operation, settings, cached, prepare)
	if err != nil {
		return a, nil, err
	}
	return a, ctr, r.fault(a)
}

// fault turns what is wrong with the registry into an error.
func (r Registry) fault(a answer) error {
	switch a.Error {
	case "":
		return nil
	case "changed":
		return ErrChanged
	case "corrupt":
		return &CorruptError{Store: r.String(), Name: a.Name, Want: a.Want, Got: a.Got}
	case "denied":
		const variables = "REGISTRY_USER, REGISTRY_PASSWORD"
		if r.User == "" || r.Password == nil {
			return fmt.Errorf("%s wants a login, and none is given: set %s: %s", r, variables, a.Text)
		}
		return fmt.Errorf("%s refuses this login: see %s, and what the user may do there: %s", r, variables, a.Text)
	case "missing":
		return fmt.Errorf("%s has no such repository or artifact: correct the address: %s", r, a.Text)
	case "unusable":
		return fmt.Errorf("%s can't be used: %s", r, a.Text)
	}
	return graph.Transient(fmt.Errorf("%s can't be used: %s", r, a.Text))
}

// Read returns a file; its version is the digest of its artifact.
func (r Registry) Read(ctx context.Context, name string) ([]byte, string, error) {
	return operations(r.do).read(ctx, name)
}

// Write replaces a file if its tag still has the digest that was read, and is not overwritten within three seconds.
func (r Registry) Write(ctx context.Context, name string, data []byte, version string) error {
	return operations(r.do).write(ctx, name, data, version)
}

// Put writes what is not there yet, reads all of it back, and gives it its tag after that.
func (r Registry) Put(ctx context.Context, prefix string, dir *dagger.Directory, digests map[string]string) error {
	return operations(r.do).put(ctx, prefix, dir, digests)
}

// Tag moves a tag to a folder's artifact, if that is whole.
func (r Registry) Tag(ctx context.Context, prefix, name string) error {
	_, _, err := r.do(ctx, "alias", map[string]any{"prefix": prefix, "name": name}, false, nil)
	return err
}

// List returns what lies right below prefix.
func (r Registry) List(ctx context.Context, prefix string) ([]string, error) {
	return operations(r.do).list(ctx, prefix)
}

// Get returns the files of a folder.
func (r Registry) Get(ctx context.Context, prefix string) (*dagger.Directory, error) {
	a, err := operations(r.do).stat(ctx, map[string]any{"prefix": prefix})
	if err != nil {
		return nil, err
	}
	return operations(r.do).fetch(ctx, r.Client, a.Objects, "")
}

// Pin returns the artifact by its digest.
func (r Registry) Pin(ctx context.Context) (Source, error) {
	parts, err := parseRegistry(r.Address)
	if err != nil {
		return nil, err
	}
	a, err := operations(r.do).stat(ctx, map[string]any{"reference": cmp.Or(parts.reference, "latest")})
	if err != nil {
		return nil, err
	}
	r.Address = parts.scheme + "://" + parts.repository + "@" + a.Version
	return r, nil
}

// Fetch returns the files of an artifact, all of them where none is named. They are downloaded again when its digest has
// changed, and not when time has passed.
func (r Registry) Fetch(ctx context.Context, _ *dagger.Client, names []string) (*dagger.Directory, error) {
	parts, err := parseRegistry(r.Address)
	if err != nil {
		return nil, err
	}
	settings := map[string]any{"reference": cmp.Or(parts.reference, "latest")}
	if len(names) > 0 {
		settings["names"] = names
	}
	a, err := operations(r.do).stat(ctx, settings)
	if err != nil {
		return nil, err
	}
	return operations(r.do).fetch(ctx, r.Client, a.Objects, "")
}
