package enginetest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// reach opens the registry where containers reach it.
func (d *depot) reach(t *testing.T) *depot {
	t.Helper()
	d.address = strings.TrimPrefix(reachable(t, d), "http://")
	return d
}

// tagged returns what a tag of a repository stands for.
func (d *depot) tagged(t *testing.T, reference string) *remote.Descriptor {
	t.Helper()
	tag, err := name.NewTag(d.address+"/"+reference, name.Insecure)
	require.NoError(t, err)
	got, err := remote.Get(tag, remote.WithAuth(&authn.Basic{Username: d.user, Password: d.password}))
	require.NoError(t, err)
	return got
}

// models runs one of the commands on models, and returns what it printed.
func models(t *testing.T, source, kept string, env option, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append([]string{"model"}, append(args, "--store", kept, "--engine", "embedded", "--source", source)...)...)
	cmd.Env = append([]string{}, environment...)
	env(cmd)
	text, err := cmd.Output()
	require.NoError(t, err, "%v: %s", args, text)
	return string(text)
}

func TestModelsInARegistry(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	client(t) // the engine's network is there from here on
	d := newDepot()
	d.user, d.password = "ada", "right-horse"
	d.reach(t)
	login := withEnv("REGISTRY_USER=ada", "REGISTRY_PASSWORD=right-horse")
	place := "oci+http://" + d.address + "/team/models"
	source := lessons(t, nil)
	kept := []string{"training", "--store", place}
	tag := func(version string) string {
		return "team/models:models.good.versions." + strings.Replace(version, ":", "-", 1)
	}
	version := func(o outcome) string { return o.node(t, "register-good").Artifacts[0].Digest }

	got := ci(t, source, kept, login)
	require.Equal(t, 0, got.code)
	first := version(got)
	artifact := d.tagged(t, tag(first))
	require.Equal(t, artifact.Digest, d.tagged(t, "team/models:models.good.champion").Digest)
	require.Contains(t, string(artifact.Manifest), `"artifactType":"application/vnd.millrace.model.v1"`)
	require.Contains(t, string(artifact.Manifest), `"org.opencontainers.image.title":"outputs/model.json"`)
	require.Contains(t, models(t, source, place, login, "list"), model.Short(first))

	t.Run("nothing changed", func(t *testing.T) {
		again := ci(t, source, kept, login)
		require.Equal(t, 0, again.code)
		require.Contains(t, again.node(t, "register-good").Reason, "it is the champion already")
		require.Equal(t, artifact.Digest, d.tagged(t, "team/models:models.good.champion").Digest)
	})
	edit(t, source, edits{"millrace.yaml": lesson("good", "0.1")})
	t.Run("an upload that fails half-way moves no champion", func(t *testing.T) {
		var puts atomic.Int32
		d.breakOff(func(r *http.Request) bool { return r.Method == http.MethodPut && puts.Add(1) > 2 })
		defer d.breakOff(nil)
		got := ci(t, source, kept, login)
		require.Equal(t, 3, got.code)
		require.Greater(t, puts.Load(), int32(2))
		require.Equal(t, graph.Errored, got.node(t, "register-good").Verdict)
		require.Contains(t, got.node(t, "register-good").Reason, "whose champion stays as it was")
		require.Equal(t, artifact.Digest, d.tagged(t, "team/models:models.good.champion").Digest)
		require.Equal(t, 1, strings.Count(models(t, source, place, login, "list", "good"), "yes"))
	})
	t.Run("and the next run makes it good", func(t *testing.T) {
		got := ci(t, source, kept, login)
		require.Equal(t, 0, got.code)
		second := version(got)
		require.NotEqual(t, first, second)
		require.Equal(t, d.tagged(t, tag(second)).Digest, d.tagged(t, "team/models:models.good.champion").Digest)
		require.Contains(t, models(t, source, place, login, "show", "good"), second)

		require.Contains(t, models(t, source, place, login, "rollback", "good"), model.Short(first)+" again")
		require.Equal(t, artifact.Digest, d.tagged(t, "team/models:models.good.champion").Digest)
		require.Contains(t, models(t, source, place, login, "promote", "good", model.Short(second)), model.Short(second))
		require.Equal(t, d.tagged(t, tag(second)).Digest, d.tagged(t, "team/models:models.good.champion").Digest)
	})
	t.Run("a login that is wrong, or missing", func(t *testing.T) {
		got := ci(t, source, kept, withEnv("REGISTRY_USER=ada", "REGISTRY_PASSWORD=wrong-horse"))
		require.Equal(t, 3, got.code)
		node := got.node(t, "evaluate-good")
		require.Contains(t, node.Reason, "refuses this login: see REGISTRY_USER, REGISTRY_PASSWORD")
		require.Equal(t, 1, node.Attempts, "a wrong password does not get right by trying again")
		require.NotContains(t, got.stdout+got.stderr, "wrong-horse")
		got = ci(t, source, kept)
		require.Equal(t, 3, got.code)
		require.Contains(t, got.node(t, "evaluate-good").Reason, "wants a login, and none is given")
	})
}

// The protocol has no conditional write: of several writers at once, none loses its entry all the same.
func TestWritersAtOnceInARegistry(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	c := client(t)
	d := newDepot().reach(t)
	kept := store.Registry{Client: c, Address: "oci+http://" + d.address + "/team/drift"}
	const writers = 4
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			ledger := drift.Ledger{Store: kept, Name: "churn", Now: time.Now()}
			_, err := ledger.Change(t.Context(), func(h *drift.History) {
				h.Entries = append(h.Entries, drift.Entry{Time: time.Now(), Severity: drift.OK, Current: fmt.Sprint("writer ", i)})
			})
			assert.NoError(t, err)
		})
	}
	all.Wait()
	history, aside, err := drift.Ledger{Store: kept, Name: "churn"}.Load(t.Context())
	require.NoError(t, err)
	require.Empty(t, aside)
	seen := map[string]bool{}
	for _, e := range history.Entries {
		seen[e.Current] = true
	}
	require.Len(t, seen, writers)
	err = kept.Write(t.Context(), "drift/churn/history.json", []byte("{}"), "sha256:"+strings.Repeat("0", 64))
	require.ErrorIs(t, err, store.ErrChanged)
}

// put pushes files as an artifact.
func (d *depot) put(t *testing.T, reference string, files map[string]string) v1.Hash {
	t.Helper()
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for file, text := range files {
		var err error
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:       static.NewLayer([]byte(text), "text/csv"),
			Annotations: map[string]string{"org.opencontainers.image.title": file},
		})
		require.NoError(t, err)
	}
	tag, err := name.NewTag(d.address+"/"+reference, name.Insecure)
	require.NoError(t, err)
	require.NoError(t, remote.Write(tag, image))
	digest, err := image.Digest()
	require.NoError(t, err)
	return digest
}

func TestTablesFromAnArtifact(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	client(t)
	d := newDepot()
	var downloads, wholes atomic.Int32
	rows := table(300_000)
	d.address = strings.TrimPrefix(reachable(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			d.ServeHTTP(w, r)
			return
		}
		downloads.Add(1)
		whole := httptest.NewRecorder()
		d.ServeHTTP(whole, r)
		if whole.Body.Len() == len(rows) && wholes.Add(1) == 1 {
			// Half of it, and then nothing.
			w.Header().Set("Content-Length", fmt.Sprint(len(rows)))
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write(whole.Body.Bytes()[:len(rows)/2])
			panic(http.ErrAbortHandler)
		}
		for key, values := range whole.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(whole.Code)
		_, _ = w.Write(whole.Body.Bytes())
	})), "http://")
	source := lessons(t, nil)
	digest := d.put(t, "team/data:today", map[string]string{"rows.csv": rows, "other.csv": "a\n1\n"})
	address := "oci+http://" + d.address + "/team/data"

	got := ci(t, source, []string{"training", "--data", address + ":today"})
	require.Equal(t, graph.Passed, got.node(t, "download").Verdict, got.node(t, "download").Reason)
	require.Equal(t, int32(1), wholes.Load(), "what broke off was not taken up where it did")
	require.Equal(t, address+"@"+digest.String()+"/rows.csv", got.node(t, "download").Artifacts[0].Reference)
	require.Equal(t, graph.Passed, got.node(t, "validate").Verdict, got.node(t, "validate").Reason)

	t.Run("by digest, and not downloaded twice", func(t *testing.T) {
		before := downloads.Load()
		again := ci(t, source, []string{"training", "--data", address + "@" + digest.String()})
		require.Equal(t, graph.Passed, again.node(t, "download").Verdict)
		require.Equal(t, before, downloads.Load())
		require.Equal(t, modified(t, got, "reports/train-good/log.txt"), modified(t, again, "reports/train-good/log.txt"), "it was trained again")
	})
	t.Run("what is not there", func(t *testing.T) {
		got := ci(t, source, []string{"training", "--data", address + ":yesterday"})
		require.Equal(t, 3, got.code)
		require.Contains(t, got.node(t, "download").Reason, "has no such repository or artifact")
		d.put(t, "team/data:empty", map[string]string{"other.csv": "a\n1\n"})
		got = ci(t, source, []string{"training", "--data", address + ":empty"})
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "download").Reason, "has no rows.csv")
	})
	t.Run("into drift", func(t *testing.T) {
		d.put(t, "team/data:people", map[string]string{"people.csv": people(2, 1000, 0)})
		reference := filepath.Join(t.TempDir(), "reference.csv")
		require.NoError(t, os.WriteFile(reference, []byte(people(1, 1000, 0)), 0o644))
		got := ci(t, source, []string{"drift", "--reference", reference, "--current", address + ":people"})
		require.Equal(t, 0, got.code)
		require.Equal(t, 1000, got.drift(t).Tables["current"].Rows)
	})
}
