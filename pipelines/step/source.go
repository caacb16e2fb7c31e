package step

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"dagger.io/dagger"
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
	// id is that of what [Folder] or [File] returns.
	id string
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
	for i, name := range names {
		folderName, isFolder := strings.CutSuffix(name, "/")
		switch {
		case strings.ContainsRune(name, utf8.RuneError):
			s.entries[i] = entry{name: name, kind: other}
		case isFolder:
			s.entries[i] = entry{name: folderName, kind: folder}
		default:
			s.entries[i] = entry{name: name, kind: file}
		}
	}
	if err := s.identify(ctx); err != nil {
		return Source{}, fmt.Errorf("look at the root of the source: %w", Explain(err))
	}
	return s, nil
}

// identify finds the IDs of the entries, and which of them are symbolic links. Each question is asked for all entries at
// once: one request for each, as the SDK makes them, and that for each part, takes longer than all else that is done for a
// source that has not changed.
func (s Source) identify(ctx context.Context) error {
	id, err := s.tree.ID(ctx)
	if err != nil {
		return err
	}
	of := "loadDirectoryFromID(id:" + quoted(string(id)) + ")"
	err = s.ask(ctx, func(e entry) string {
		switch e.kind {
		case folder:
			return of + "{directory(path:" + quoted(e.name) + "){id}}"
		case file:
			return of + "{exists(path:" + quoted(e.name) + ",expectedType:" + string(dagger.ExistsTypeRegularType) + ",doNotFollowSymlinks:true)}"
		default:
			return ""
		}
	}, func(e *entry, a answer) {
		if e.kind == file && !a.Exists {
			e.kind = other
		}
		e.id = a.Directory.ID
	})
	if err != nil {
		return err
	}
	err = s.ask(ctx, func(e entry) string {
		switch e.kind {
		case folder:
			return "container{withMountedDirectory(path:" + quoted(mount) + ",source:" + quoted(e.id) + "){directory(path:" + quoted(mount) + "){id}}}"
		case file:
			return of + "{file(path:" + quoted(e.name) + "){id}}"
		default:
			return ""
		}
	}, func(e *entry, a answer) { e.id = cmp.Or(a.WithMountedDirectory.Directory.ID, a.File.ID) })
	if err != nil {
		return err
	}
	return s.ask(ctx, func(e entry) string {
		if e.kind != file {
			return ""
		}
		return "container{withMountedFile(path:" + quoted(mount) + ",source:" + quoted(e.id) + "){file(path:" + quoted(mount) + "){id}}}"
	}, func(e *entry, a answer) { e.id = a.WithMountedFile.File.ID })
}

// answer is what the engine says to a question, as far as it was asked for that.
type answer struct {
	Exists               bool
	Directory, File      object
	WithMountedDirectory struct{ Directory object }
	WithMountedFile      struct{ File object }
}

type object struct{ ID string }

// ask asks for all entries that there is a question for, in one request, and hands the answers on.
func (s Source) ask(ctx context.Context, question func(entry) string, take func(*entry, answer)) error {
	var query strings.Builder
	for i, e := range s.entries {
		if q := question(e); q != "" {
			fmt.Fprintf(&query, " e%d:%s", i, q)
		}
	}
	if query.Len() == 0 {
		return nil
	}
	var answers map[string]answer
	if err := s.c.Do(ctx, &dagger.Request{Query: "query{" + query.String() + "}"}, &dagger.Response{Data: &answers}); err != nil {
		return err
	}
	for i := range s.entries {
		if a, asked := answers[fmt.Sprintf("e%d", i)]; asked {
			take(&s.entries[i], a)
		}
	}
	return nil
}

// quoted returns a string as GraphQL has it, which escapes as JSON does.
func quoted(s string) string {
	text, _ := json.Marshal(s) // a string can't fail
	return string(text)
}

// Part returns what include names, all if it names nothing, without what exclude names.
func (s Source) Part(include, exclude []string) *dagger.Directory {
	q := s.c.QueryBuilder().Select("directory")
	for _, e := range s.entries {
		if !e.matters(include, exclude) {
			continue
		}
		switch e.kind {
		case folder:
			q = q.Select("withDirectory").Arg("path", e.name).Arg("source", e.id)
		case file:
			q = q.Select("withFile").Arg("path", e.name).Arg("source", e.id)
		default: // right for all, if not as spare
			return s.tree.Filter(dagger.DirectoryFilterOpts{Include: include, Exclude: exclude})
		}
	}
	return new(dagger.Directory).WithGraphQLQuery(q).Filter(dagger.DirectoryFilterOpts{Include: include, Exclude: exclude})
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
