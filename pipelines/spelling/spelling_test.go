package spelling_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"api", "lint", "test", "security", "build", "publish", "deploy-staging", "deploy-prod"}
	for text, want := range map[string]string{
		"lnt":       "lint",
		"LINT":      "lint",
		"tset":      "test", // two letters in the wrong order
		"aip":       "api",
		"sceurity":  "security",
		"pubilshh":  "publish", // and one more
		"stag":      "deploy-staging",
		"deploy":    "deploy-staging",
		"bild":      "build",
		"buildé":    "build",
		"ap":        "api",
		"xyz":       "",
		"a":         "",
		"":          "",
		"apple-pie": "",
	} {
		require.Equal(t, want, spelling.Nearest(text, names), "%q", text)
	}
	require.Empty(t, spelling.Nearest("lint", nil))
}
