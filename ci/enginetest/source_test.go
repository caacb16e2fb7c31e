package enginetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// edits are laid over a source tree: the content of files by their paths.
type edits map[string]string

// gone takes a file or a folder away.
const gone = "\x00"

// scores copies the small project, with edits.
func scores(t *testing.T, changes edits) string {
	t.Helper()
	source := filepath.Join(t.TempDir(), "scores")
	require.NoError(t, os.CopyFS(source, os.DirFS("testdata/scores")))
	edit(t, source, changes)
	return source
}

// edit changes a source tree.
func edit(t *testing.T, source string, changes edits) {
	t.Helper()
	for name, content := range changes {
		file := filepath.Join(source, name)
		if content == gone {
			require.NoError(t, os.RemoveAll(file))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	}
}

// committed makes a git repository of a source tree: one commit on main, made at 2026-03-01T12:00:00Z. It returns the commit's id.
func committed(t *testing.T, source, remote string) string {
	t.Helper()
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", source}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_AUTHOR_DATE=2026-03-01T12:00:00Z",
			"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com", "GIT_COMMITTER_DATE=2026-03-01T12:00:00Z")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet", "--initial-branch", "main")
	git("add", "--all")
	git("commit", "--quiet", "--message", "all of it")
	git("remote", "add", "origin", remote)
	return git("rev-parse", "HEAD")
}
