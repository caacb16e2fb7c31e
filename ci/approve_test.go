package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/millrace-ci/millrace/pipelines/gate"
)

// signed makes a key file, and a project whose production takes its approvals.
func signed(t *testing.T) (source, key, public string) {
	t.Helper()
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "ada")
	require.NoError(t, err)
	key = filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(block), 0o600))
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	source = filepath.Join(dir, "source")
	for name, text := range map[string]string{
		"main.py": "", "k8s/a.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
		"millrace.yaml": "environments:\n  - {name: staging, manifests: k8s}\n  - name: production\n    manifests: k8s\n    gates: {from: staging, approvers: [{name: Ada, key: " + public + "}]}\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(source, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(source, name), []byte(text), 0o600))
	}
	return source, key, public
}

func TestApprove(t *testing.T) {
	source, key, public := signed(t)
	image := "ghcr.io/acme/api@sha256:" + strings.Repeat("a", 64)
	status, stdout, stderr := call("approve", "production", "--source", source, "--image", image, "--key", key, "--sha", strings.Repeat("1", 40))
	require.Equal(t, 0, status, stderr)
	require.Contains(t, stderr, "Ada approves for production, until ")
	require.Contains(t, stderr, image)
	s, who, err := gate.Verify([]byte(stdout), []gate.Approver{{Name: "Ada", Key: public}})
	require.NoError(t, err)
	require.Equal(t, "Ada", who.Name)
	require.Equal(t, "production", s.Environment)
	require.Equal(t, strings.Repeat("1", 40), s.Commit)

	_, stranger, _ := signed(t)
	t.Setenv("SSH_AUTH_SOCK", "")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"by a stranger":    {[]string{"production", "--image", image, "--key", stranger}, "is none of the approvers'"},
		"by tag":           {[]string{"production", "--image", "ghcr.io/acme/api:1", "--key", key}, "ghcr.io/acme/api:1 has no digest"},
		"for ever":         {[]string{"production", "--image", image, "--key", key, "--valid", "1000h"}, "use at most 168h"},
		"no gates":         {[]string{"staging", "--image", image, "--key", key}, "staging takes no signed approval: name approvers under its gates"},
		"no such key":      {[]string{"production", "--image", image, "--key", source + "/nowhere"}, "read the key"},
		"no key, no agent": {[]string{"production", "--image", image}, "there is no SSH agent: name your private key with --key"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := call(append([]string{"approve", "--source", source}, test.args...)...)
			require.Equal(t, exitUsage, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.want)
		})
	}
}

func TestApprovalIsGivenByTextOrFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "approval")
	require.NoError(t, os.WriteFile(file, []byte("{} signed"), 0o600))
	for value, want := range map[string]string{"": "", "{} text": "{} text", file: "{} signed"} {
		t.Setenv("MILLRACE_APPROVAL", value)
		got, err := approval("MILLRACE_APPROVAL")
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	t.Setenv("MILLRACE_APPROVAL", file+"-not")
	_, err := approval("MILLRACE_APPROVAL")
	require.ErrorContains(t, err, "MILLRACE_APPROVAL holds neither an approval nor the name of a file with one")
}

func TestVerificationNeedsAnEnvironmentAndItsCluster(t *testing.T) {
	source, _, _ := signed(t)
	for _, command := range []string{"smoke", "load-test"} {
		status, _, stderr := call(command, "--source", source, "stagin")
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, `there is no environment "stagin": use staging or production`)
		status, _, stderr = call(command, "--source", source, "staging")
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, "no kubeconfig for staging: set KUBE_CONFIG_STAGING")
	}
}

func TestGitHubIsAskedWhoApproved(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer the-token":
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"message":"Resource not accessible by integration"}`))
		case r.URL.Path == "/repos/acme/shop/actions/runs/42/approvals":
			_, _ = w.Write([]byte(`[{"state":"approved","environments":[{"name":"production"}],"user":{"login":"octocat"}}]`))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	env := map[string]string{"GITHUB_API_URL": server.URL, "GITHUB_REPOSITORY": "acme/shop", "GITHUB_RUN_ID": "42", "GITHUB_TOKEN": "the-token"}
	getenv := func(name string) string { return env[name] }
	ask := gitHubApproved(server.Client(), getenv)
	who, err := ask(t.Context(), "production")
	require.NoError(t, err)
	require.Equal(t, "octocat", who)
	who, err = ask(t.Context(), "staging")
	require.NoError(t, err)
	require.Empty(t, who)
	env["GITHUB_TOKEN"] = "another"
	_, err = ask(t.Context(), "production")
	require.ErrorContains(t, err, "403 Forbidden: Resource not accessible by integration (the job needs the permission actions: read)")
	env["GITHUB_TOKEN"] = ""
	_, err = ask(t.Context(), "production")
	require.ErrorContains(t, err, "GITHUB_TOKEN is not set")
	delete(env, "GITHUB_RUN_ID")
	require.Nil(t, gitHubApproved(server.Client(), getenv), "not on GitHub")
}
