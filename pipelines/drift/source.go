package drift

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// Source is where a table comes from.
type Source interface {
	// Fetch returns a folder that holds the table and nothing else: one file, or several with the same columns.
	Fetch(ctx context.Context, c *dagger.Client) (*dagger.Directory, error)
	// String names the source for people, without secrets.
	String() string
}

// FromFile is a table in one file.
func FromFile(file *dagger.File, name string) Source { return fileSource{file, name} }

// FromFolder is a table in the files of a folder.
func FromFolder(folder *dagger.Directory, name string) Source { return folderSource{folder, name} }

// FromStore is a table in a bucket, the object at path, or in an artifact, all of whose files it is if there is no path.
func FromStore(source store.Source, path string) Source { return storeSource{source, path} }

// FromWeb is a table at a web address.
func FromWeb(address string) Source { return webSource(address) }

type fileSource struct {
	file *dagger.File
	name string
}

func (s fileSource) String() string { return s.name }

func (s fileSource) Fetch(ctx context.Context, c *dagger.Client) (*dagger.Directory, error) {
	name, err := s.file.Name(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.name, step.Explain(err))
	}
	return c.Directory().WithFile(name, s.file), nil
}

type folderSource struct {
	folder *dagger.Directory
	name   string
}

func (s folderSource) String() string { return s.name }

func (s folderSource) Fetch(context.Context, *dagger.Client) (*dagger.Directory, error) {
	return s.folder, nil
}

type storeSource struct {
	source store.Source
	path   string
}

func (s storeSource) String() string { return strings.TrimSuffix(s.source.String()+"/"+s.path, "/") }

func (s storeSource) Fetch(ctx context.Context, c *dagger.Client) (*dagger.Directory, error) {
	var paths []string
	if s.path != "" {
		paths = []string{s.path}
	}
	dir, err := s.source.Fetch(ctx, c, paths)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", s, err)
	}
	names, err := dir.Entries(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s, step.Explain(err))
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("download %s: there is nothing: correct the address", s)
	}
	return dir, nil
}

type webSource string

// String leaves out what may be a secret: user, password and query.
func (s webSource) String() string {
	u, err := url.Parse(string(s))
	if err != nil {
		return "a web address"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

func (s webSource) Fetch(ctx context.Context, c *dagger.Client) (*dagger.Directory, error) {
	u, err := url.Parse(string(s))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the address of the table is no web address: it begins with https://")
	}
	dir, err := s.inParts(ctx, c, u)
	var undescribed *store.NotDescribedError
	if dir != nil || err != nil && !errors.As(err, &undescribed) {
		return dir, err
	}
	name := path.Base(u.Path)
	if name == "." || name == "/" {
		name = "table.csv"
	}
	file := c.HTTP(string(s), dagger.HTTPOpts{Name: name})
	if _, err := file.Sync(ctx); err != nil {
		text := strings.ReplaceAll(step.Explain(err).Error(), string(s), s.String())
		return nil, fmt.Errorf("download %s: %s", s, text)
	}
	return c.Directory().WithFile(name, file), nil
}

// inParts downloads what lies at a plain address in parts, so that one that breaks off is taken up where it did, and checks a
// NAME.sha256 beside it. It returns nothing where that can't be done: the container that does it does not reach this machine's
// loopback, takes no query, and needs a server that says how large a file is.
func (s webSource) inParts(ctx context.Context, c *dagger.Client, u *url.URL) (*dagger.Directory, error) {
	local := u.Hostname() == "localhost"
	if address, err := netip.ParseAddr(u.Hostname()); err == nil {
		local = address.IsLoopback()
	}
	if local || u.User != nil || strings.ContainsAny(string(s), "?#%") {
		return nil, nil
	}
	base, object, err := store.SplitObject(string(s))
	if err != nil {
		return nil, nil //nolint:nilerr // an address without a file name
	}
	return FromStore(store.Bucket{Client: c, URL: base}, object).Fetch(ctx, c)
}
