package enginetest

import (
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// requireNowhere checks that a secret is in nothing that a run printed or left, in none of the forms that it travels in.
func (o outcome) requireNowhere(t *testing.T, secrets ...string) {
	t.Helper()
	texts := map[string]string{"stdout": o.stdout, "stderr": o.stderr}
	require.NoError(t, filepath.WalkDir(o.out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		texts[path] = string(data)
		return err
	}))
	require.Contains(t, texts, filepath.Join(o.out, "engine.log"))
	require.Greater(t, len(texts), 9)
	for _, secret := range secrets {
		for name, text := range texts {
			require.False(t, strings.Contains(text, secret), "%s has the secret %s", name, secret)
		}
	}
}

func TestSecretsStaySecret(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	const password, token = "canary-of-the-registry-0b5f", "canary-of-codecov-93d1"
	basic := base64.StdEncoding.EncodeToString([]byte("ada:" + password))
	d := newDepot()
	d.user, d.password = "ada", password
	d.open(t)
	// The address of a service that is not there: what is said of a failed upload may not say the token either.
	source := scores(t, edits{"millrace.yaml": "codecov: {url: 'http://127.0.0.1:9'}\n"})
	committed(t, source, "https://github.com/acme/scores.git")
	args := append([]string{"ci-cd", "--registry", d.address + "/team", "--registry-user", "ada", "--verbose"}, push...)

	right := ci(t, source, args, withEnv("REGISTRY_PASSWORD="+password, "CODECOV_TOKEN="+token))
	right.requireVerdicts(t, map[string]graph.Verdict{"publish": graph.Passed, "coverage": graph.Passed})
	require.Contains(t, right.node(t, "coverage").Reason, "warning: codecov")
	right.requireNowhere(t, password, token, basic)

	d.password = "another"
	wrong := ci(t, source, args, withEnv("REGISTRY_PASSWORD="+password, "CODECOV_TOKEN="+token))
	wrong.requireVerdicts(t, map[string]graph.Verdict{"publish": graph.Errored})
	wrong.requireNowhere(t, password, token, basic)
}
