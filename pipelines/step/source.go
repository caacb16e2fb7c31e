package step

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"
)

// Source is a source tree of which parts are taken, such that an edit outside of a part touches as little as possible.
//
// The engine's cache knows a filtered directory by the whole directory that it was taken from, whatever is left of that:
// an edit to a README would run everything again. A file, and a folder of an uploaded tree, it knows by their content. So a
// part is put together from those of the root's files and folders that can hold something of it, see [Folder] and [File],
// and filtered then.
type Source struct {
	c       *dagger.Client
	tree    *dagger.Directory
	entries []entry
}

// entry is a file or folder at the root.
type entry struct {
	name string
	kind kind
}

type kind int

const (
	folder kind = iota
	file
	other // a symbolic link, or a name that is no text
)

// OpenSource looks at what lies at the root of a tree.
func OpenSource(ctx context.Context, c *dagger.Client, tree *dagger.Directory) (Source, error) {
	names, err := tree.Entries(ctx)
	if err != nil {
		return Source{}, fmt.Errorf("list the source: %w", Explain(err))
	}
	slices.Sort(names)
	s := Source{c: c, tree: tree, entries: make([]entry, len(names))}
	group, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		if strings.ContainsRune(name, utf8.RuneError) {
			s.entries[i] = entry{name, other}
			continue
		}
		if folderName, ok := strings.CutSuffix(name, "/"); ok {
			s.entries[i] = entry{folderName, folder}
			continue
		}
		group.Go(func() error {
			regular, err := tree.Exists(ctx, name, dagger.DirectoryExistsOpts{ExpectedType: dagger.ExistsTypeRegularType, DoNotFollowSymlinks: true})
			if err != nil {
				return fmt.Errorf("look at %s: %w", name, Explain(err))
			}
			s.entries[i] = entry{name, other}
			if regular {
				s.entries[i].kind = file
			}
			return nil
		})
	}
	return s, group.Wait()
}

// Part returns what include names, all if it names nothing, without what exclude names.
func (s Source) Part(include, exclude []string) *dagger.Directory {
	dir := s.c.Directory()
	for _, e := range s.entries {
		if !e.matters(include, exclude) {
			continue
		}
		switch e.kind {
		case folder:
			dir = dir.WithDirectory(e.name, Folder(s.c, s.tree, e.name))
		case file:
			dir = dir.WithFile(e.name, File(s.c, s.tree, e.name))
		default: // right for all, if not as spare
			return s.tree.Filter(dagger.DirectoryFilterOpts{Include: include, Exclude: exclude})
		}
	}
	return dir.Filter(dagger.DirectoryFilterOpts{Include: include, Exclude: exclude})
}

// matters reports whether something of the entry may be in a part. A folder that holds nothing of it does no harm but to
// the cache, so it is only left out where the patterns are plain.
func (e entry) matters(include, exclude []string) bool {
	named := func(pattern string) bool {
		matched, err := path.Match(strings.TrimPrefix(pattern, "**/"), e.name)
		return matched && err == nil
	}
	switch {
	case slices.ContainsFunc(exclude, func(p string) bool { return strings.HasPrefix(p, "!") }):
		return true // an exception to the rest, somewhere
	case slices.ContainsFunc(exclude, named):
		return false
	case e.kind == other || len(include) == 0 || slices.ContainsFunc(include, named):
		return true
	}
	return e.kind != file && slices.ContainsFunc(include, func(p string) bool {
		first, _, deep := strings.Cut(p, "/")
		matched, err := path.Match(first, e.name)
		return deep && (first == "**" || matched || err != nil)
	})
}
