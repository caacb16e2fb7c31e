package pipelines

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Ignore lists what no step reads of a source tree, as patterns of the engine: whoever sends one leaves these out.
var Ignore = []string{
	".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__",
	"**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache",
}

// Detect tells what a source tree holds that lies in the engine; see [project.Detect], whose errors it returns.
// Who has the tree on disk asks that one, which needs no engine.
func Detect(ctx context.Context, src *dagger.Directory, config *project.File) (*project.Project, error) {
	paths, err := src.Glob(ctx, "**")
	if err != nil {
		return nil, fmt.Errorf("list the source tree: %w", step.Explain(err))
	}
	tree := &tree{ctx: ctx, src: src, paths: paths}
	if err := tree.fetch(); err != nil {
		return nil, err
	}
	return project.Detect(tree, config)
}

// tree is a directory of the engine as a [project.Tree].
type tree struct {
	ctx   context.Context
	src   *dagger.Directory
	paths []string

	mu   sync.Mutex
	read map[string][]byte
}

// fetch reads side by side what detection will most likely ask for: one after the other, each is a way to the engine
// and back. A file that can't be read is left for Read to report.
func (t *tree) fetch() error {
	t.read = map[string][]byte{}
	g, ctx := errgroup.WithContext(t.ctx)
	g.SetLimit(32)
	for _, p := range t.paths {
		if project.Ignored(p) || !project.Telling(p) {
			continue
		}
		g.Go(func() error {
			text, err := t.src.File(p).Contents(ctx)
			if err == nil {
				t.mu.Lock()
				defer t.mu.Unlock()
				t.read[p] = []byte(text)
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

func (t *tree) Paths() ([]string, error) { return t.paths, nil }

func (t *tree) Read(p string) ([]byte, error) {
	p = path.Clean(p)
	t.mu.Lock()
	data, ok := t.read[p]
	t.mu.Unlock()
	if ok {
		return data, nil
	}
	text, err := t.src.File(p).Contents(t.ctx)
	if err != nil {
		return nil, errors.New(step.Explain(err).Error())
	}
	return []byte(text), nil
}
