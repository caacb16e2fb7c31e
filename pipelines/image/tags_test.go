package image

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSteadiestTagsComeFirst(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"sha-0123456", "1.2.3", "main", "1.2"},
		steadiest([]string{"main", "1.2", "1.2.3", "main", "sha-0123456"}))
}

func TestLabels(t *testing.T) {
	t.Parallel()
	require.Equal(t, []label{{"org.opencontainers.image.title", "api"}}, Labels{}.list("api"))
}
