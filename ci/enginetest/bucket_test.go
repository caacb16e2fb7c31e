package enginetest

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	embeds "github.com/millrace-ci/millrace/ci/embedded"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
)

// gateway is the S3 server of the tests: Versity's gateway on a folder, which is Apache-2.0 and used in production.
const gateway = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// bucketServer is an S3-compatible server that containers reach.
type bucketServer struct {
	// url is the endpoint, and folder has a folder for each bucket.
	url, folder string
	// refuse says which requests are answered with an error; nil means none.
	refuse atomic.Pointer[func(*http.Request) bool]
}

const (
	bucketKey    = "the-key-of-the-bucket"
	bucketSecret = "the-secret-of-the-bucket"
)

// environment is what the program needs to know of the server.
func (b *bucketServer) environment() option { return withEnv(b.variables()...) }

func (b *bucketServer) variables() []string {
	return []string{"AWS_ENDPOINT_URL=" + b.url, "AWS_ACCESS_KEY_ID=" + bucketKey, "AWS_SECRET_ACCESS_KEY=" + bucketSecret, "AWS_REGION=us-east-1"}
}

// newBucketServer starts a server with the buckets named.
func newBucketServer(t *testing.T, buckets ...string) *bucketServer {
	t.Helper()
	b := &bucketServer{folder: t.TempDir()}
	for _, name := range buckets {
		require.NoError(t, os.Mkdir(filepath.Join(b.folder, name), 0o755))
	}
	binary := installed(t, gateway)
	address := listening(t, func(address string) []string {
		return []string{binary, "--access", bucketKey, "--secret", bucketSecret, "--port", address, "posix", b.folder}
	})
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: address})
		r.Out.Host = r.In.Host // it is signed
	}}
	b.url = reachable(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse := b.refuse.Load(); refuse != nil && (*refuse)(r) {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	return b
}

// compiling is held while a program of the tests is compiled: what tests have compiled side by side is compiled for each of them.
var compiling sync.Mutex

// installed builds a program from the Go module proxy, unless that was done before, and returns its path. It is built as the
// engine's own programs are, and so shares with them what go keeps of the standard library and of other modules.
func installed(t *testing.T, program string) string {
	t.Helper()
	compiling.Lock()
	defer compiling.Unlock()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	bin := filepath.Join(cache, "millrace-enginetest")
	install := exec.CommandContext(t.Context(), "go", "install", "-trimpath", embeds.CompilerFlags, "-ldflags=-s -w", program)
	install.Env = append(slices.Clone(environment), "GOBIN="+bin, "CGO_ENABLED=0", "GOGC="+embeds.CompilerGC, "GOMEMLIMIT="+embeds.CompilerMemory)
	text, err := install.CombinedOutput()
	require.NoError(t, err, "%s", text)
	name, _, _ := strings.Cut(path.Base(program), "@")
	return filepath.Join(bin, name)
}

// listening starts a server on a free port of this machine's loopback, and returns its address once it listens.
func listening(t *testing.T, argv func(address string) []string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	said, command := newRecord(), argv(address)
	server := exec.Command(command[0], command[1:]...)
	server.Stdout, server.Stderr = said, said
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			require.NoError(t, c.Close())
			return address
		}
		time.Sleep(50 * time.Millisecond)
	}
	require.FailNow(t, "the server does not listen", "%s", said)
	return ""
}

// champion reads a model's champion from the bucket's folder.
func (b *bucketServer) champion(t *testing.T) model.Champion {
	t.Helper()
	var c model.Champion
	data, err := os.ReadFile(filepath.Join(b.folder, "models", "team", "models", "good", "champion.json"))
	if !os.IsNotExist(err) {
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &c))
	}
	return c
}

func TestModelsInABucket(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := lessons(t, nil)
	require.Equal(t, 0, ci(t, source, []string{"training"}).code) // the engine's network is there from here on
	b := newBucketServer(t, "models")
	kept := []string{"training", "--store", "s3://models/team"}

	got := ci(t, source, kept, b.environment())
	require.Equal(t, 0, got.code)
	first := b.champion(t)
	require.NotEmpty(t, first.Version)
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--store", "s3://models/team", "--engine", "embedded", "--source", source)...)
		cmd.Env = append([]string{}, environment...)
		b.environment()(cmd)
		return cmd
	}
	text, err := command("model", "list").Output()
	require.NoError(t, err)
	require.Contains(t, string(text), model.Short(first.Version))

	t.Run("nothing changed", func(t *testing.T) {
		again := ci(t, source, kept, b.environment())
		require.Equal(t, 0, again.code)
		require.Contains(t, again.node(t, "register-good").Reason, "it is the champion already")
		require.Equal(t, first, b.champion(t))
	})
	edit(t, source, edits{"millrace.yaml": lesson("good", "0.1")})
	t.Run("an upload that fails half-way moves no champion", func(t *testing.T) {
		manifests := func() []string {
			found, err := filepath.Glob(filepath.Join(b.folder, "models", "team", "models", "good", "versions", "*", "manifest.json"))
			require.NoError(t, err)
			return found
		}
		require.Len(t, manifests(), 1)
		var puts atomic.Int32
		refuse := func(r *http.Request) bool {
			return r.Method == http.MethodPut && puts.Add(1) > 2 && strings.Contains(r.URL.Path, "/outputs/")
		}
		b.refuse.Store(&refuse)
		defer b.refuse.Store(nil)
		got := ci(t, source, kept, b.environment())
		require.Equal(t, 3, got.code)
		require.Greater(t, puts.Load(), int32(2))
		require.Len(t, manifests(), 1, "a version is there of which parts are missing")
		require.Equal(t, graph.Errored, got.node(t, "register-good").Verdict)
		require.Contains(t, got.node(t, "register-good").Reason, "whose champion stays as it was")
		require.Equal(t, first, b.champion(t))
	})
	t.Run("and the next run makes it good", func(t *testing.T) {
		got := ci(t, source, kept, b.environment())
		require.Equal(t, 0, got.code)
		second := b.champion(t)
		require.Len(t, second.History, 2)
		require.Equal(t, first.Version, second.History[1].Previous)
	})
	t.Run("a champion that somebody makes meanwhile stays", func(t *testing.T) {
		edit(t, source, edits{"millrace.yaml": lesson("good", "0.09")})
		promote := command("model", "promote", "good", first.Version)
		var once sync.Once
		meanwhile := func(r *http.Request) bool {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/outputs/") {
				once.Do(func() {
					said, err := promote.CombinedOutput()
					t.Logf("model promote: %v\n%s", err, said)
				})
			}
			return false
		}
		b.refuse.Store(&meanwhile)
		defer b.refuse.Store(nil)
		got := ci(t, source, kept, b.environment())
		require.Equal(t, 4, got.code)
		require.Equal(t, graph.Inconclusive, got.node(t, "register-good").Verdict)
		require.Contains(t, got.node(t, "register-good").Reason, "another run made a champion meanwhile")
		require.Equal(t, first.Version, b.champion(t).Version)
	})
	t.Run("wrong credentials", func(t *testing.T) {
		got := ci(t, source, kept, b.environment(), withEnv("AWS_SECRET_ACCESS_KEY=another"))
		require.Equal(t, 3, got.code)
		require.Contains(t, got.node(t, "evaluate-good").Reason, "refuses these credentials: see AWS_ACCESS_KEY_ID")
		require.NotContains(t, got.stdout+got.stderr, bucketSecret)
	})
	t.Run("no such bucket", func(t *testing.T) {
		got := ci(t, source, []string{"training", "--store", "s3://nothing/team"}, b.environment())
		require.Equal(t, 3, got.code)
		require.Contains(t, strings.ToLower(got.node(t, "register-good").Reason+got.node(t, "evaluate-good").Reason), "no such bucket")
	})
}
