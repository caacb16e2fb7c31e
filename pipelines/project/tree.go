package project

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Tree is a source tree.
type Tree interface {
	// Paths lists all files, slash-separated and relative to the root, in any order.
	// Folders may be among them if they end in a slash. What [Ignored] ignores may be left out.
	Paths() ([]string, error)
	// Read returns a file's content.
	Read(path string) ([]byte, error)
}

// TreeError means that the source tree itself can't be used.
type TreeError struct {
	// Path is what is wrong; empty for the tree as a whole.
	Path string
	// Problem says what is wrong, and what to do.
	Problem string
}

func (e *TreeError) Error() string {
	if e.Path == "" {
		return "source tree: " + e.Problem
	}
	return fmt.Sprintf("source tree: %s: %s", showPath(e.Path), e.Problem)
}

// ExitCode is the status of a process that ends with this error.
func (e *TreeError) ExitCode() int { return 2 }

// showPath makes any path fit into one line of a message.
func showPath(p string) string {
	if !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Sprintf("%q", p)
	}
	return p
}

// ignoredFolders hold what others wrote, or what was generated. Hidden folders are ignored too.
var ignoredFolders = []string{
	"node_modules", "bower_components", "venv", "virtualenv", "site-packages", "vendor", "testdata",
	"__pycache__", "__pypackages__", "dist",
}

// Ignored reports whether a path lies in a folder that detection does not look into: a hidden one, one of packages that
// somebody else wrote, or one of build products.
func Ignored(p string) bool {
	for dir := path.Dir(p); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if ignoredFolder(dir) {
			return true
		}
	}
	return false
}

// Telling reports whether [Detect] may read the file, beside listing it: for a tree that had better read ahead.
// Files that a requirements file or the configuration names can come to that.
func Telling(p string) bool {
	switch base := path.Base(p); {
	case slices.Contains(ConfigNames, p), base == ".python-version", base == "pyproject.toml":
		return true
	case path.Ext(base) == ".txt":
		return requirementsFile(p)
	default:
		_, _, ok := dockerfileName(p)
		return ok
	}
}

func ignoredFolder(dir string) bool {
	name := path.Base(dir)
	if name == "lib" && path.Base(path.Dir(dir)) == "build" {
		// setuptools copies the sources there. A folder called build alone may well hold Dockerfiles.
		return true
	}
	return strings.HasPrefix(name, ".") && name != "." || slices.Contains(ignoredFolders, name) || strings.HasSuffix(name, ".egg-info")
}

// FS makes a [Tree] of a file system. Symbolic links to folders are not followed.
func FS(fsys fs.FS) Tree { return fsTree{fsys} }

type fsTree struct{ fsys fs.FS }

func (t fsTree) Read(p string) ([]byte, error) { return fs.ReadFile(t.fsys, p) }

func (t fsTree) Paths() ([]string, error) {
	var paths []string
	err := fs.WalkDir(t.fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && p == "." && errors.Is(err, fs.ErrNotExist):
			return &TreeError{Problem: "the folder does not exist"}
		case err != nil && p == "." && errors.Is(err, syscall.ENOTDIR):
			return &TreeError{Problem: "it is a file, not a folder"}
		case !utf8.ValidString(p):
			// A folder of such a name can't be listed: err is set too.
			return notUTF8(p)
		case err != nil && errors.Is(err, fs.ErrPermission):
			return &TreeError{Path: p, Problem: "permission denied"}
		case err != nil:
			return fmt.Errorf("list the source tree: %w", err)
		case p == ".":
			if !d.IsDir() {
				return &TreeError{Problem: "it is a file, not a folder"}
			}
		case d.IsDir() && ignoredFolder(p):
			return fs.SkipDir
		case !d.IsDir():
			paths = append(paths, p)
		}
		return nil
	})
	return paths, err
}

func notUTF8(p string) error {
	return &TreeError{Path: p, Problem: "the name is not valid UTF-8, which the engine can't take: rename it"}
}

// listing is a tree whose paths have been listed and sorted.
type listing struct {
	Tree
	files []string
	// exists has every file, and every folder that holds one.
	exists map[string]bool
	// folders are the keys of exists that are folders.
	folders map[string]bool
}

func list(tree Tree) (*listing, error) {
	paths, err := tree.Paths()
	if err != nil {
		return nil, err
	}
	l := &listing{Tree: tree, exists: map[string]bool{}, folders: map[string]bool{".": true}}
	for _, p := range paths {
		if p == "" || strings.HasSuffix(p, "/") || Ignored(p) {
			continue
		}
		if !utf8.ValidString(p) {
			return nil, notUTF8(p)
		}
		p = clean(p)
		l.files = append(l.files, p)
		l.exists[p] = true
		for dir := path.Dir(p); !l.folders[dir]; dir = path.Dir(dir) {
			l.folders[dir], l.exists[dir] = true, true
		}
	}
	l.exists["."] = true
	if len(l.files) == 0 {
		return nil, &TreeError{Problem: "it has no files that a pipeline could work on: is the folder right?"}
	}
	slices.Sort(l.files)
	return l, nil
}

// read reads a file that is meant to be small text.
func (l *listing) read(p string) ([]byte, error) {
	data, err := l.Read(p)
	if err != nil {
		return nil, &TreeError{Path: p, Problem: fmt.Sprintf("can't be read: %v", err)}
	}
	if len(data) > maxRead {
		return nil, &TreeError{Path: p, Problem: fmt.Sprintf("has %d KiB, and %d are the most that such a file may have", len(data)>>10, maxRead>>10)}
	}
	return data, nil
}

// maxRead bounds, in bytes, the files that are parsed.
const maxRead = 4 << 20
