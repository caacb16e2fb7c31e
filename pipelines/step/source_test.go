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
		{entry{"README.md", file}, python, nil, false},
		{entry{"setup.py", file}, python, nil, true},
		{entry{"pyproject.toml", file}, python, nil, true},
		{entry{"requirements", file}, python, nil, false},
		{entry{"requirements", folder}, python, nil, true},
		{entry{"backend", folder}, python, nil, true},
		{entry{"docs", folder}, []string{"pyproject.toml", "src/**"}, nil, false},
		{entry{"link", other}, python, nil, true},

		{entry{"README.md", file}, nil, []string{"**/*.md", ".github"}, false},
		{entry{".github", folder}, nil, []string{"**/*.md", ".github"}, false},
		{entry{"backend", folder}, nil, []string{"**/*.md", "backend/docs"}, true},
		{entry{"data.csv", file}, nil, []string{"**/*.md"}, true},
		{entry{".venv", folder}, python, []string{"**/.venv"}, false},
		{entry{"keep.md", file}, nil, []string{"**/*.md", "!keep.md"}, true},
		{entry{"a.py", file}, python, []string{"[broken"}, true},
	} {
		require.Equal(t, test.want, test.entry.matters(test.include, test.exclude), "%+v", test)
	}
}
