package image

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuiltinSyntax(t *testing.T) {
	t.Parallel()
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, line := range []string{
		"# syntax=docker/dockerfile:1", "#syntax = docker/dockerfile:1.7", "# SYNTAX=docker.io/docker/dockerfile:1.7.0",
		"# syntax=docker/dockerfile", "# syntax=docker/dockerfile:1" + digest, "# syntax=docker/dockerfile:1\r",
	} {
		require.Equal(t, "#\nFROM scratch\n", builtinSyntax(line+"\nFROM scratch\n"), line)
	}
	for _, text := range []string{
		"# syntax=docker/dockerfile:1-labs\nFROM scratch\n", "# syntax=docker/dockerfile:2\nFROM scratch\n",
		"# syntax=example.com/frontend:1\nFROM scratch\n", "FROM scratch\n# syntax=docker/dockerfile:1\n",
		"# a comment\n# syntax=docker/dockerfile:1\nFROM scratch\n", "",
	} {
		require.Equal(t, text, builtinSyntax(text))
	}
}

func TestNarrowing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		include []string
		want    []string
		whole   bool
	}{
		"not known":            {include: nil, whole: true},
		"reads nothing":        {include: []string{}},
		"files and folders":    {include: []string{"./requirements.txt", "/app/", "app", "*.toml"}, want: []string{"*.toml", "app", "requirements.txt"}},
		"the whole context":    {include: []string{"app", "."}, whole: true},
		"the root, by a slash": {include: []string{"/"}, whole: true},
		"above the root":       {include: []string{"../../etc"}, want: []string{"etc"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, whole := narrowing(test.include)
			require.Equal(t, test.want, got)
			require.Equal(t, test.whole, whole)
		})
	}
}
