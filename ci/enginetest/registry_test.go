package enginetest

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// depot is a registry on this machine's loopback that can refuse, break off, and tell what it was asked for.
type depot struct {
	address string
	// user and password are the login; without them there is none.
	user, password string

	registry http.Handler
	mu       sync.Mutex
	requests []string
	// breaks says which requests end in a broken connection; nil means none.
	breaks func(*http.Request) bool
}

func newDepot() *depot {
	return &depot{registry: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

// open starts the registry, at its address if it has one already.
func (d *depot) open(t *testing.T) *depot {
	t.Helper()
	address := d.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	d.address = listener.Addr().String()
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: d, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	return d
}

// reserve gives the registry an address without opening it.
func (d *depot) reserve(t *testing.T) *depot {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d.address = listener.Addr().String()
	require.NoError(t, listener.Close())
	return d
}

func (d *depot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.requests = append(d.requests, r.Method+" "+r.URL.Path)
	breaks := d.breaks
	d.mu.Unlock()
	if breaks != nil && breaks(r) {
		panic(http.ErrAbortHandler)
	}
	if d.user != "" {
		user, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(d.user+":"+d.password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="depot"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintln(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
	}
	d.registry.ServeHTTP(w, r)
}

// break sets which requests end in a broken connection.
func (d *depot) breakOff(breaks func(*http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.breaks = breaks
}

// asked returns, and forgets, the requests whose line begins with one of the prefixes.
func (d *depot) asked(prefixes ...string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, line := range d.requests {
		for _, prefix := range prefixes {
			if strings.HasPrefix(line, prefix) {
				all = append(all, line)
			}
		}
	}
	d.requests = nil
	return all
}

// tags lists the tags of an image; none if the registry does not know it.
func (d *depot) tags(t *testing.T, image string) []string {
	t.Helper()
	repo, err := name.NewRepository(d.address+"/team/"+image, name.Insecure)
	require.NoError(t, err)
	tags, err := remote.List(repo)
	var answer *transport.Error
	if err != nil {
		require.ErrorAs(t, err, &answer)
		require.Equal(t, http.StatusNotFound, answer.StatusCode)
	}
	return tags
}

// publish builds the small project's images and pushes them to the depot.
func (d *depot) publish(extra ...string) []string {
	return append(append([]string{"publish", "--registry", d.address + "/team"}, push...), extra...)
}

func TestRegistry(t *testing.T) {
	needsEngine(t)
	t.Parallel()

	t.Run("pushes, and not twice", func(t *testing.T) {
		t.Parallel()
		d, source := newDepot().open(t), scores(t, nil)
		got := ci(t, source, d.publish())
		require.Equal(t, 0, got.code)
		require.NotEmpty(t, d.asked("PUT"))
		for _, image := range got.images(t) {
			require.Equal(t, []string{"sha-" + sha[:7], "main"}, image.Tags)
			requirePullable(t, image)
		}
		d.asked()
		again := ci(t, source, d.publish())
		require.Equal(t, 0, again.code)
		require.Equal(t, got.images(t), again.images(t))
		require.Empty(t, d.asked("POST", "PATCH"), "layers were sent again")
	})

	t.Run("wrong credentials", func(t *testing.T) {
		t.Parallel()
		d := newDepot()
		d.user, d.password = "ada", "right"
		d.open(t)
		got := ci(t, scores(t, nil), d.publish("--registry-user", "ada"), withEnv("REGISTRY_PASSWORD=wrong-horse"))
		require.Equal(t, 3, got.code)
		node := got.node(t, "publish")
		require.Equal(t, graph.Errored, node.Verdict)
		require.Equal(t, 1, node.Attempts, "a wrong password does not get right by trying again")
		for _, text := range []string{d.address, `user "ada"`, "password"} {
			require.Contains(t, node.Reason, text)
		}
		require.NotContains(t, got.stdout+got.stderr, "wrong-horse")
		got.requireOneScreen(t)

		none := ci(t, scores(t, nil), d.publish())
		require.Equal(t, 3, none.code)
		require.Contains(t, none.node(t, "publish").Reason, "the registry wants a login, and none is given")
		require.Empty(t, d.asked("PUT"))

		right := ci(t, scores(t, nil), d.publish("--registry-user", "ada"), withEnv("REGISTRY_PASSWORD=right"))
		require.Equal(t, 0, right.code)
	})

	t.Run("down for ten seconds", func(t *testing.T) {
		t.Parallel()
		d := newDepot().reserve(t)
		run := start(t, scores(t, nil), d.publish())
		run.stderr.await(t, "publish attempt 1 failed")
		// Not to wait for something, but the outage itself.
		time.Sleep(10 * time.Second)
		d.open(t)
		got := run.wait(t, longest)
		require.Equal(t, 0, got.code)
		require.Greater(t, got.node(t, "publish").Attempts, 1)
		for _, image := range got.images(t) {
			requirePullable(t, image)
		}
	})

	t.Run("down for good", func(t *testing.T) {
		t.Parallel()
		d := newDepot().reserve(t)
		got := ci(t, scores(t, nil), d.publish())
		require.Equal(t, 3, got.code)
		node := got.node(t, "publish")
		require.Equal(t, graph.Errored, node.Verdict)
		require.Equal(t, 5, node.Attempts)
		require.Contains(t, node.Reason, "publish to "+d.address)
		require.Contains(t, node.Reason, "can't be reached")
		got.requireOneScreen(t)
	})

	t.Run("breaks off half-way", func(t *testing.T) {
		t.Parallel()
		d, source := newDepot().open(t), scores(t, nil)
		first := ci(t, source, d.publish())
		require.Equal(t, 0, first.code)
		before := first.digests(t)

		// The second image's layers arrive, and its manifest never does.
		edit(t, source, edits{"scores/__init__.py": "\"\"\"Grades for scores, again.\"\"\"\n", "batch/plan.txt": "grade the scores of today\n"})
		d.breakOff(func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/v2/team/batch/manifests/")
		})
		next := "f" + sha[1:]
		args := append([]string{"publish", "--registry", d.address + "/team"}, "--event", "push", "--ref", "main", "--sha", next)
		broken := ci(t, source, args)
		require.Equal(t, 3, broken.code)
		require.Equal(t, 5, broken.node(t, "publish").Attempts)
		require.Contains(t, broken.node(t, "publish").Reason, d.address)
		require.ElementsMatch(t, []string{"main", "sha-" + sha[:7]}, d.tags(t, "batch"))
		for image, digest := range before {
			// Every tag that is there leads to a whole image, and main to the one that it led to.
			for _, tag := range d.tags(t, image) {
				ref, err := name.NewTag(d.address+"/team/"+image+":"+tag, name.Insecure)
				require.NoError(t, err)
				head, err := remote.Head(ref)
				require.NoError(t, err)
				if tag == "main" {
					require.Equal(t, digest, head.Digest.String(), "main of %s has moved", image)
				}
				requirePullable(t, published{Name: image, Digest: head.Digest.String(), Reference: ref.Context().Digest(head.Digest.String()).Name()})
			}
		}

		d.breakOff(nil)
		whole := ci(t, source, args)
		require.Equal(t, 0, whole.code)
		for _, image := range whole.images(t) {
			require.NotEqual(t, before[image.Name], image.Digest)
			requirePullable(t, image)
		}
	})
}
