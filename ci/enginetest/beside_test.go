package enginetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// The tests of this file run pipelines beside each other, from folders that have files in common.

// session opens a session of its own. It may be closed before the test ends.
func session(t *testing.T) *dagger.Client {
	t.Helper()
	needsEngine(t)
	chosen, err := engine.Choose(t.Context(), engine.EmbeddedKind, os.Getenv, engine.Lines(io.Discard))
	require.NoError(t, err)
	c, err := chosen.Connect(context.Background(), io.Discard)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// twins makes two folders that the engine has not seen before: equal, but for the README and a file at the root.
func twins(t *testing.T) (one, other, mark string) {
	t.Helper()
	mark = fmt.Sprintf("\"\"\"Made for one run of a test.\"\"\"\n\nMARK = %d\n", time.Now().UnixNano())
	folder := func(name string) string {
		return scores(t, edits{"scores/mark.py": mark, "mark.py": mark, "README.md": "# " + name + "\n", name + ".py": mark})
	}
	return folder("one"), folder("other"), mark
}

// A run is handed what another one began to make of equal files. Nothing of that is read from the other's folder, which
// may be gone by then, or hold something else.
func TestPartsOfAFolderBesideItsTwin(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, source string){
		"that is removed": func(t *testing.T, source string) { require.NoError(t, os.RemoveAll(source)) },
		"that is edited": func(t *testing.T, source string) {
			edit(t, source, edits{"scores/mark.py": "WRONG", "mark.py": "WRONG", "scores/wrong.py": "WRONG"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, other, mark := twins(t)
			kept := filepath.Join(t.TempDir(), "kept")
			require.NoError(t, os.CopyFS(kept, os.DirFS(one)))
			part := func(c *dagger.Client, source string) *dagger.Directory {
				tree, err := step.OpenSource(t.Context(), c, c.Host().Directory(source))
				require.NoError(t, err)
				p := tree.Part([]string{"scores/*.py", "mark.py"}, nil)
				// From here on the engine has it, though it has not made it yet.
				_, err = p.ID(t.Context())
				require.NoError(t, err)
				return p
			}
			first, second := session(t), session(t)
			part(first, one)
			got := part(second, other)
			require.NoError(t, first.Close())
			change(t, one)
			for _, file := range []string{"scores/mark.py", "mark.py"} {
				text, err := got.File(file).Contents(t.Context())
				require.NoError(t, err)
				require.Equal(t, mark, text, file)
			}

			// Nor has that spoiled what the engine knows of the first folder as it was.
			third := session(t)
			tree := third.Host().Directory(kept)
			names, err := tree.Glob(t.Context(), "**/*.py")
			require.NoError(t, err)
			require.ElementsMatch(t, []string{"mark.py", "one.py", "scores/__init__.py", "scores/grade.py", "scores/mark.py", "tests/test_grade.py"}, names)
			text, err := tree.Filter(dagger.DirectoryFilterOpts{Include: []string{"scores"}}).File("scores/mark.py").Contents(t.Context())
			require.NoError(t, err)
			require.Equal(t, mark, text)
		})
	}
}
