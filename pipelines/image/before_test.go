package image

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUpTo(t *testing.T) {
	t.Parallel()
	const (
		first  = "# syntax=docker/dockerfile:1\nARG V=1\nFROM a AS one\n"
		second = first + "RUN make && \\\n    # why\n    make test\nFROM b\n"
		whole  = second + "COPY --from=one /x /y\nUSER app\n"
	)
	for line, want := range map[int]string{
		4: first, 6: first, 8: second,
		1: "no instruction in line 1", 2: "no instruction within a stage", 3: "no instruction within a stage",
		7: "no instruction within a stage", 0: "no instruction in line 0", 99: "no instruction in line 99",
	} {
		got, err := upTo(whole, line)
		if err != nil {
			require.ErrorContains(t, err, want, "line %d", line)
			continue
		}
		require.Equal(t, want, got, "line %d", line)
	}
	_, err := upTo("", 1)
	require.Error(t, err)
}
