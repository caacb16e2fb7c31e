package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestAKubeconfigMayBeAFilesName(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte("apiVersion: v1\n"), 0o600))
	for value, want := range map[string]string{
		"": "", file: "apiVersion: v1\n", file + ".gone": file + ".gone", "apiVersion: v1\nkind: Config": "apiVersion: v1\nkind: Config", "YXBpVmVyc2lvbjogdjE=": "YXBpVmVyc2lvbjogdjE=",
	} {
		got, from := kubeconfigIn(value)
		require.Equal(t, want, got)
		require.Equal(t, value == file && value != "", from != "", value)
	}
}

// What is no kubeconfig is said by the name of where it came from, before anything runs, and in a plan too; its text is not shown.
func TestWhatIsNoKubeconfigIsSaidByName(t *testing.T) {
	source := t.TempDir()
	require.NoError(t, os.CopyFS(source, fstest.MapFS{
		"main.py": {}, "k8s/app.yaml": {Data: []byte("apiVersion: v1\n")},
		"millrace.yaml": {Data: []byte("environments: [{name: staging, namespace: shop, branches: [develop]}, {name: production, namespace: shop}]\n")},
	}))
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte("the canary's song"), 0o600))
	const raw = "KUBE_CONFIG_STAGING holds no kubeconfig: it is neither a kubeconfig's text nor one in base64: set it to a kubeconfig's text"
	push := []string{"--event", "push", "--ref", "develop"}
	for name, test := range map[string]struct {
		value string
		args  []string
		want  string // empty: it is not asked for
	}{
		"a plan":                   {"the canary", append([]string{"plan"}, push...), raw},
		"a dry run":                {"the canary", append([]string{"ci-cd", "--dry-run"}, push...), raw},
		"a run":                    {"the canary", append([]string{"ci-cd"}, push...), raw},
		"a deploy":                 {"the canary", []string{"deploy", "staging"}, raw},
		"the diff of a deploy":     {"the canary", []string{"deploy", "staging", "--dry-run"}, raw},
		"a rollback":               {"the canary", []string{"rollback", "staging"}, raw},
		"a status":                 {"the canary", []string{"status", "staging"}, raw},
		"a history":                {"the canary", []string{"history", "staging"}, raw},
		"a file of something":      {file, []string{"status", "staging"}, "the file " + file + ", which KUBE_CONFIG_STAGING names, is no kubeconfig: it is neither"},
		"a file that is gone":      {file + ".gone", []string{"status", "staging"}, "the file " + file + ".gone, which KUBE_CONFIG_STAGING names, can't be read"},
		"a folder":                 {filepath.Dir(file), []string{"status", "staging"}, "which KUBE_CONFIG_STAGING names, can't be read"},
		"a plan of another ref":    {"the canary", []string{"plan", "--event", "push", "--ref", "main"}, ""},
		"a plan of other nodes":    {"the canary", append([]string{"plan", "--only", "lint"}, push...), ""},
		"a dry run of a step":      {"the canary", append([]string{"lint", "--dry-run"}, push...), ""},
		"a cluster that is thrown": {"the canary", append([]string{"ci-cd", "--dry-run", "--ephemeral"}, push...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBE_CONFIG_STAGING", test.value)
			status, stdout, stderr := call(append(test.args, "--source", source, "--engine", "embedded")...)
			if test.want == "" {
				require.Zero(t, status, stderr)
				return
			}
			require.Equal(t, exitUsage, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.want)
			require.NotContains(t, stderr, "canary")
		})
	}
}
