package python

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"dagger.io/dagger"
	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/step"
)

// settings is what a project says to its tools, so that our defaults only fill what it leaves open.
type settings struct {
	files map[string]string // name at the source's root -> content
}

// readSettings reads the files of settings at the root of src.
func readSettings(ctx context.Context, src *dagger.Directory) (settings, error) {
	entries, err := src.Entries(ctx)
	if err != nil {
		return settings{}, fmt.Errorf("list the source: %w", step.Explain(err))
	}
	s := settings{files: map[string]string{}}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range settingsFiles {
		if !slices.Contains(entries, name) {
			continue
		}
		group.Go(func() error {
			text, err := src.File(name).Contents(ctx)
			if err != nil {
				return fmt.Errorf("read %s: %w", name, step.Explain(err))
			}
			mu.Lock()
			defer mu.Unlock()
			s.files[name] = text
			return nil
		})
	}
	return s, group.Wait()
}

// lookup returns the value that the first of the places states, in the order given.
// A place is "file:section:key"; an empty key asks whether the section is there at all, and a section
// of a TOML file is a dotted path. Keys with dashes and underscores are the same.
func (s settings) lookup(places ...string) (string, bool) {
	for _, place := range places {
		file, rest, _ := strings.Cut(place, ":")
		// Sections of setup.cfg have colons of their own ("tool:pytest"): the key is what follows the last one.
		cut := strings.LastIndex(rest, ":")
		section, key := rest[:cut], strings.ReplaceAll(rest[cut+1:], "-", "_")
		text, ok := s.files[file]
		if !ok {
			continue
		}
		if strings.HasSuffix(file, ".toml") {
			if value, ok := tomlValue(text, section, key); ok {
				return value, true
			}
		} else if value, ok := iniValue(text, section, key); ok {
			return value, true
		}
	}
	return "", false
}

// says reports whether any of the places states a value.
func (s settings) says(places ...string) bool {
	_, ok := s.lookup(places...)
	return ok
}

// iniValue finds a key of a section as Python's configparser would. A section that ends with "*" matches by prefix.
func iniValue(text, section, key string) (string, bool) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			name := line[1 : len(line)-1]
			prefix, isPrefix := strings.CutSuffix(section, "*")
			inside = name == section || isPrefix && strings.HasPrefix(strings.ToLower(name), prefix)
			if inside && key == "" {
				return "", true
			}
			continue
		}
		// An indented line continues the value above it.
		if !inside || line == "" || strings.ContainsRune(" \t#;", rune(line[0])) {
			continue
		}
		cut := strings.IndexAny(line, "=:")
		if cut < 0 {
			cut = len(line)
		}
		if strings.ReplaceAll(strings.TrimSpace(line[:cut]), "-", "_") == key {
			return strings.TrimSpace(strings.TrimLeft(line[cut:], "=:")), true
		}
	}
	return "", false
}

// tomlValue finds a key below a dotted path; a file that is not TOML says nothing here, the tools complain themselves.
func tomlValue(text, section, key string) (string, bool) {
	var tree map[string]any
	if toml.Unmarshal([]byte(text), &tree) != nil {
		return "", false
	}
	for part := range strings.SplitSeq(section, ".") {
		below, ok := tree[part].(map[string]any)
		if !ok {
			return "", false
		}
		tree = below
	}
	if key == "" {
		return "", true
	}
	for name, value := range tree {
		if strings.ReplaceAll(name, "-", "_") == key {
			return fmt.Sprint(value), true
		}
	}
	return "", false
}
