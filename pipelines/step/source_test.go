package step

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is wrongly left out would be missing in a container; what is wrongly kept only costs the cache.
func TestEntriesOfAPart(t *testing.T) {
	t.Parallel()
	python := []string{"**/*.py", "**/py.typed", "pyproject.toml", "requirements/*.txt"}
	for _, test := range []struct {
		entry            entry
		include, exclude []string
		want             bool
	}{
		{entry{name: "README.md", kind: file}, python, nil, false},
		{entry{name: "setup.py", kind: file}, python, nil, true},
		{entry{name: "pyproject.toml", kind: file}, python, nil, true},
		{entry{name: "requirements", kind: file}, python, nil, false},
		{entry{name: "requirements", kind: folder}, python, nil, true},
		{entry{name: "backend", kind: folder}, python, nil, true},
		{entry{name: "docs", kind: folder}, []string{"pyproject.toml", "src/**"}, nil, false},
		{entry{name: "link", kind: other}, python, nil, true},

		{entry{name: "README.md", kind: file}, nil, []string{"**/*.md", ".github"}, false},
		{entry{name: ".github", kind: folder}, nil, []string{"**/*.md", ".github"}, false},
		{entry{name: "backend", kind: folder}, nil, []string{"**/*.md", "backend/docs"}, true},
		{entry{name: "data.csv", kind: file}, nil, []string{"**/*.md"}, true},
		{entry{name: ".venv", kind: folder}, python, []string{"**/.venv"}, false},
		{entry{name: "keep.md", kind: file}, nil, []string{"**/*.md", "!keep.md"}, true},
		{entry{name: "a.py", kind: file}, python, []string{"[broken"}, true},
	} {
		require.Equal(t, test.want, test.entry.matters(test.include, test.exclude), "%+v", test)
	}
}
