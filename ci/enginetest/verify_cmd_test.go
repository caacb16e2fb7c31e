package enginetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// approver makes a key pair, and returns the public key and the file of the private one.
func approver(t *testing.T) (public, file string) {
	t.Helper()
	key, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	file = filepath.Join(t.TempDir(), "id_ed25519")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	line, err := ssh.NewPublicKey(key)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))), file
}

// The way of an image from a build to production, a command at a time: deploy staging, smoke, load-test, approve, promote.
func TestCommandsOfADelivery(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	production := namespace(t)
	cable := newCable(t, p.cluster)
	env := withEnv("KUBE_CONFIG_STAGING="+cable.text, "KUBE_CONFIG_PRODUCTION="+cable.text)
	public, key := approver(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	configure := func(status int) {
		t.Helper()
		write("millrace.yaml", fmt.Sprintf(`images:
  - {name: app, dockerfile: app/Dockerfile, context: app}
environments:
  - name: staging
    namespace: %s
    url: http://app
    smoke: [{name: it answers, http: {url: /, status: %d}}]
    load: {script: load.js, margin: 1}
  - name: production
    namespace: %s
    url: http://app
    smoke: [{name: it answers, http: {url: /}}]
    gates: {from: staging, approvers: [{name: Ada, key: "%s"}]}
`, p.namespace, status, production, public))
	}
	write("app/Dockerfile", "FROM python:3.11-slim\nENV VERSION=7\nCOPY app.py /app.py\nUSER 1000\nCMD [\"python3\", \"/app.py\"]\n")
	write("app/app.py", app)
	write("k8s/app.yaml", settings("app", "")+workload("app", "app:latest"))
	write("load.js", strings.ReplaceAll(script, `import { seconds } from "./lib/seconds.js";`, `const seconds = "8s";`))
	configure(200)
	commit := []string{"--sha", sha, "--ref", "main", "--event", "push"}

	early := ci(t, dir, append([]string{"promote", "--from", "staging", "--to", "production"}, commit...), env)
	require.Equal(t, 1, early.code)
	require.Contains(t, early.stdout, "nothing runs in staging that could be promoted: deploy there first")
	require.Contains(t, early.stdout, "run it again: "+program+" promote --from staging --to production --source ")

	// To roll back what is not there is a mistake, which is not made good by doing it again.
	for _, environment := range []string{"staging", "production"} {
		nothing := ci(t, dir, []string{"rollback", environment}, env)
		require.Equal(t, 2, nothing.code)
		require.Empty(t, nothing.stdout)
		require.Contains(t, nothing.stderr, "ci: nothing is deployed to "+environment+", so that there is nothing to roll back")
		require.Nil(t, nothing.run)
	}
	write("nowhere.yaml", "environments: [{name: staging, namespace: nowhere}]\n")
	nowhere := ci(t, dir, []string{"rollback", "staging", "--config", filepath.Join(dir, "nowhere.yaml")}, env)
	require.Equal(t, 2, nowhere.code)
	require.Contains(t, nowhere.stderr, "the namespace nowhere of staging does not exist in that cluster")
	require.NotContains(t, nowhere.stdout+nowhere.stderr, "again")
	deployed := ci(t, dir, append([]string{"deploy", "staging"}, commit...), env)
	require.Zero(t, deployed.code)
	require.True(t, strings.HasPrefix(deployed.stdout, "deploy staging passed in "), deployed.stdout)
	require.Equal(t, "deploy staging", deployed.run.Asked)
	other := ci(t, dir, []string{"run", "deploy-staging", "--event", "push", "--ref", "feature", "--sha", sha}, env)
	require.Zero(t, other.code)
	require.Equal(t, graph.Skipped, other.run.Verdict)
	require.True(t, strings.HasPrefix(other.stdout, "deploy-staging skipped in "), other.stdout)
	require.Contains(t, other.lastLine(), "SKIPPED, although asked for: deploy-staging: only a push to develop deploys to staging; this is a push of feature")
	require.Contains(t, other.lastLine(), "; whatever the branch: "+program+" deploy staging --source "+dir)
	first := ci(t, dir, []string{"rollback", "staging"}, env)
	require.Equal(t, 2, first.code)
	require.Contains(t, first.stderr, "staging has no release before revision 1 that came up")
	runs := kubectl(t, "--namespace", p.namespace, "get", "deployment", "app", "--output", "jsonpath={.spec.template.spec.containers[0].image}")
	require.Contains(t, runs, "@sha256:")

	smoke := ci(t, dir, []string{"smoke", "staging"}, env)
	require.Zero(t, smoke.code)
	require.Contains(t, smoke.text(t, "reports/smoke-staging/junit.xml"), "it answers")
	configure(204)
	smoke = ci(t, dir, []string{"smoke", "staging"}, env)
	require.Equal(t, 1, smoke.code)
	require.Contains(t, smoke.stdout, "expected status 204, and got status 200")
	history := ci(t, dir, []string{"history", "staging"}, env)
	require.Equal(t, 1, strings.Count(history.stdout, "deployed"), "a smoke test that somebody asks for rolls nothing back: %s", history.stdout)
	configure(200)

	load := ci(t, dir, []string{"load-test", "staging"}, env)
	require.Zero(t, load.code)
	require.Contains(t, load.stdout, "no baseline yet")
	require.Positive(t, load.node(t, "load-test-staging").Metrics["p95_ms"])
	load = ci(t, dir, []string{"load-test", "staging", "--accept"}, env)
	require.Zero(t, load.code)
	require.NotContains(t, load.stdout, "no baseline yet")

	held := ci(t, dir, append([]string{"promote", "--from", "staging", "--to", "production"}, commit...), env)
	require.Equal(t, graph.Skipped, held.node(t, "promote-production").Verdict)
	require.Contains(t, held.node(t, "promote-production").Reason, "no approval for production: run: ci approve production")
	require.Contains(t, held.lastLine(), "SKIPPED, although asked for: promote-production: no approval for production")
	approval := ci(t, dir, append([]string{"approve", "production", "--key", key}, commit...), env)
	require.Zero(t, approval.code)
	_, digest, _ := strings.Cut(runs, "@")
	require.Contains(t, approval.stdout, digest)
	forged := ci(t, dir, append([]string{"promote", "--from", "staging", "--to", "production"}, commit...), env,
		withEnv("MILLRACE_APPROVAL="+strings.Replace(approval.stdout, "production", "Production", 1)))
	require.Equal(t, 1, forged.code)
	require.Contains(t, forged.stdout, "the signature of Ada does not fit the approval's text")
	require.Empty(t, kubectl(t, "--namespace", production, "get", "deployments", "--output", "name"), "something was deployed without approval")
	promoted := ci(t, dir, append([]string{"promote", "--from", "staging", "--to", "production"}, commit...), env, withEnv("MILLRACE_APPROVAL="+approval.stdout))
	require.Zero(t, promoted.code)
	require.Equal(t, runs, kubectl(t, "--namespace", production, "get", "deployment", "app", "--output", "jsonpath={.spec.template.spec.containers[0].image}"))

	// The same by dagger call.
	kubeconfig, word := filepath.Join(t.TempDir(), "kubeconfig"), filepath.Join(t.TempDir(), "approval")
	require.NoError(t, os.WriteFile(kubeconfig, []byte(cable.text), 0o600))
	require.NoError(t, os.WriteFile(word, []byte(approval.stdout), 0o600))
	with := []string{"--kubeconfig=file:" + kubeconfig, "--server=tcp://" + cable.listener.Addr().String()}
	done := module(t, dir, append([]string{"smoke", "--environment=staging"}, with...)...)
	require.Zero(t, done.code, done.stderr)
	require.Contains(t, done.stdout, "smoke passed")
	done = module(t, dir, append([]string{"load-test", "--environment=staging", "--accept"}, with...)...)
	require.Zero(t, done.code, done.stderr)
	require.Contains(t, done.stdout, "load-test passed")
	done = module(t, dir, append([]string{"promote", "--from=staging", "--to=production"}, with...)...)
	require.Contains(t, done.stdout+done.stderr, "no approval for production")
	done = module(t, dir, append([]string{"promote", "--from=staging", "--to=production", "--approval=file:" + word}, with...)...)
	require.Zero(t, done.code, done.stderr)
	require.Contains(t, done.stdout, "revision 2 runs")
}
