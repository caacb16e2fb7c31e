package enginetest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
)

// tracking is a tracking server of MLflow that wants a user and a password, behind a proxy that lets in who has a token.
type tracking struct {
	url, inside string
	// refuse says which requests are answered with an error; nil means none.
	refuse atomic.Pointer[func(*http.Request) bool]
}

const (
	trackingToken    = "the-token-of-the-server"
	trackingUser     = "ada"
	trackingPassword = "the-password-of-the-server"
)

// newTracking starts a server in the engine. What it is made of is pinned by a lock, made by
//
//	uv pip compile --python-platform linux --python-version 3.11 --generate-hashes --no-header --no-annotate mlflow.in -o mlflow.txt
func newTracking(t *testing.T) *tracking {
	t.Helper()
	c := client(t)
	lock, err := os.ReadFile("testdata/mlflow.txt")
	require.NoError(t, err)
	ctr, err := image.Toolbox(t.Context(), c, "", string(lock))
	require.NoError(t, err)
	server := ctr.
		WithEnvVariable("MLFLOW_DISABLE_TELEMETRY", "true").
		WithEnvVariable("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"). // its workers look for work all the time, and there is none
		WithEnvVariable("MLFLOW_FLASK_SERVER_SECRET_KEY", "for forms that nobody fills in").
		WithEnvVariable("MLFLOW_AUTH_ADMIN_USERNAME", trackingUser).WithEnvVariable("MLFLOW_AUTH_ADMIN_PASSWORD", trackingPassword).
		WithWorkdir("/tmp"). // where the users' database goes
		WithExposedPort(5000).AsService(dagger.ContainerAsServiceOpts{Args: []string{
		"/opt/venv/bin/mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", "--allowed-hosts", "*", "--app-name", "basic-auth",
		"--backend-store-uri", "sqlite:////tmp/mlflow.db", "--artifacts-destination", "/tmp/artifacts",
	}})
	tunnel, err := c.Host().Tunnel(server).Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = tunnel.Stop(context.Background()) })
	m := &tracking{}
	m.inside, err = tunnel.Endpoint(t.Context(), dagger.ServiceEndpointOpts{Scheme: "http"})
	require.NoError(t, err)
	target, err := url.Parse(m.inside)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	m.url = reachable(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			if token != trackingToken {
				http.Error(w, `{"error_code": "UNAUTHENTICATED", "message": "who are you?"}`, http.StatusUnauthorized)
				return
			}
			r.SetBasicAuth(trackingUser, trackingPassword)
		}
		if refuse := m.refuse.Load(); refuse != nil && (*refuse)(r) {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	return m
}

// version is one of the registered model "good".
type version struct {
	Version string
	Aliases []string
	Tags    []struct{ Key, Value string }
}

// get asks the server.
func (m *tracking) get(t *testing.T, path string, into any) {
	t.Helper()
	asked, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.inside+"/api/2.0/mlflow/"+path, nil)
	require.NoError(t, err)
	asked.SetBasicAuth(trackingUser, trackingPassword)
	got, err := http.DefaultClient.Do(asked)
	require.NoError(t, err)
	defer got.Body.Close()
	require.Equal(t, http.StatusOK, got.StatusCode)
	require.NoError(t, json.NewDecoder(got.Body).Decode(into))
}

// champion returns the store's version of what the alias champion stands for, and how many versions there are.
func (m *tracking) champion(t *testing.T) (digest string, versions int) {
	t.Helper()
	var alias struct {
		Version version `json:"model_version"`
	}
	m.get(t, "registered-models/alias?name=good&alias=champion", &alias)
	for _, tag := range alias.Version.Tags {
		if tag.Key == "millrace.version" {
			digest = tag.Value
		}
	}
	var all struct {
		Versions []version `json:"model_versions"`
	}
	m.get(t, "model-versions/search?filter=name%3D%27good%27", &all)
	return digest, len(all.Versions)
}

func TestModelsInMLflow(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	m := newTracking(t)
	login := withEnv("MLFLOW_TRACKING_TOKEN=" + trackingToken)
	source, kept := lessons(t, nil), t.TempDir()
	args := []string{"training", "--store", kept, "--mlflow", m.url}

	got := ci(t, source, args, login)
	require.Equal(t, 0, got.code)
	first := champion(t, kept, "good").Version
	digest, versions := m.champion(t)
	require.Equal(t, first, digest)
	require.Equal(t, 1, versions)
	require.Equal(t, "models:/good/1", got.node(t, "mlflow-good").Artifacts[0].Reference)
	require.NotContains(t, got.stdout+got.stderr, trackingToken)

	edit(t, source, edits{"millrace.yaml": lesson("good", "0.1")})
	t.Run("an upload that fails half-way moves no alias", func(t *testing.T) {
		var puts atomic.Int32
		refuse := func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/artifacts/") && puts.Add(1) > 2
		}
		m.refuse.Store(&refuse)
		defer m.refuse.Store(nil)
		got := ci(t, source, args, login)
		require.Equal(t, 3, got.code)
		require.Greater(t, puts.Load(), int32(2))
		require.Equal(t, graph.Errored, got.node(t, "mlflow-good").Verdict)
		require.Contains(t, got.node(t, "mlflow-good").Reason, "whose alias champion stays as it was")
		digest, versions := m.champion(t)
		require.Equal(t, first, digest)
		require.Equal(t, 1, versions)
	})
	t.Run("and the next run makes it good", func(t *testing.T) {
		got := ci(t, source, args, login)
		require.Equal(t, 0, got.code)
		second := champion(t, kept, "good").Version
		require.NotEqual(t, first, second)
		digest, versions := m.champion(t)
		require.Equal(t, second, digest)
		require.Equal(t, 2, versions)

		models(t, source, kept, login, "rollback", "good", "--mlflow", m.url)
		digest, versions = m.champion(t)
		require.Equal(t, first, digest)
		require.Equal(t, 2, versions, "nothing is uploaded twice")
	})
	t.Run("wrong token", func(t *testing.T) {
		got := ci(t, source, args, withEnv("MLFLOW_TRACKING_TOKEN=another"))
		require.Equal(t, 3, got.code)
		require.Contains(t, got.node(t, "mlflow-good").Reason, "refuses this login: see MLFLOW_TRACKING_TOKEN")
		require.Contains(t, got.node(t, "register-good").Reason, "was rolled back, and no training makes it the champion again")
		require.Equal(t, first, champion(t, kept, "good").Version)
	})

	digest, versions = m.champion(t)
	const wrong = "not-the-password"
	refused := func(t *testing.T, said string) {
		t.Helper()
		require.Contains(t, said, "refuses this login: see MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: ")
		require.NotContains(t, said, wrong)
		after, there := m.champion(t)
		require.Equal(t, digest, after)
		require.Equal(t, versions, there)
	}
	// The store's champion is another one by now.
	edit(t, source, edits{"millrace.yaml": lesson("good", "0.05")})
	t.Run("wrong password", func(t *testing.T) {
		got := ci(t, source, args, withEnv("MLFLOW_TRACKING_USERNAME="+trackingUser, "MLFLOW_TRACKING_PASSWORD="+wrong))
		require.Equal(t, 3, got.code)
		require.Equal(t, graph.Errored, got.node(t, "mlflow-good").Verdict)
		require.Contains(t, got.node(t, "mlflow-good").Reason, "refuses this login")
		refused(t, got.stdout+got.stderr+got.text(t, "run.json"))
	})
	b := newBucketServer(t, "models")
	call := func(t *testing.T, password string) called {
		t.Helper()
		root, err := filepath.Abs(repository)
		require.NoError(t, err)
		return onEngineWith(t, t.TempDir(), []string{"KEY=" + bucketKey, "SECRET=" + bucketSecret, "PASSWORD=" + password},
			"dagger", "call", "--progress=plain", "--mod", root, "training", "--source="+source, "--data="+filepath.Join(source, "data"),
			"--store=s3://models/team", "--endpoint="+b.url, "--aws-access-key-id=env:KEY", "--aws-secret-access-key=env:SECRET",
			"--mlflow="+m.url, "--mlflow-tracking-username="+trackingUser, "--mlflow-tracking-password=env:PASSWORD")
	}
	t.Run("wrong password by dagger call", func(t *testing.T) {
		done := call(t, wrong)
		require.Equal(t, 3, done.code, "%s", done.stderr)
		refused(t, done.stdout+done.stderr)
	})
	t.Run("user and password", func(t *testing.T) {
		got := ci(t, source, args, withEnv("MLFLOW_TRACKING_USERNAME="+trackingUser, "MLFLOW_TRACKING_PASSWORD="+trackingPassword))
		require.Equal(t, 0, got.code)
		after, there := m.champion(t)
		require.Equal(t, champion(t, kept, "good").Version, after)
		require.NotEqual(t, digest, after)
		require.Equal(t, versions+1, there)
		require.NotContains(t, got.stdout+got.stderr+got.text(t, "run.json"), trackingPassword)
	})
	t.Run("user and password by dagger call", func(t *testing.T) {
		done := call(t, trackingPassword)
		require.Zero(t, done.code, "%s", done.stderr)
		require.Regexp(t, `✓ mlflow-good `, done.stdout)
		after, _ := m.champion(t)
		require.Equal(t, b.champion(t).Version, after, "the bucket's champion is the alias")
		require.NotContains(t, done.stdout+done.stderr, trackingPassword)
	})
}
