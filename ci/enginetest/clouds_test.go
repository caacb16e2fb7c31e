package enginetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// The servers that stand for Google's and Azure's. Amazon's stand-in is [gateway].
const (
	fakeGoogle = "github.com/fsouza/fake-gcs-server@v1.56.1"
	azurite    = "azurite@3.37.0"
	googleHost = "storage.googleapis.com"
)

// cloud is a kind of bucket, on a server that containers reach and that has the bucket models.
type cloud struct {
	scheme, endpoint string
	// right are credentials by their variables, and wrong are such that the server refuses.
	right, wrong map[string]string
	// token is a login of another kind, if there is one.
	token map[string]string
	// environment is what the program needs to know of the server, and secrets is what it must never print.
	environment, secrets []string
	// headers go with what is put by a signed address.
	headers map[string]string
}

// bucket returns a folder of one of the server's buckets.
func (c *cloud) bucket(t *testing.T, path string, credentials map[string]string) store.Bucket {
	t.Helper()
	b := store.Bucket{Client: client(t), URL: c.scheme + "://" + path, Endpoint: c.endpoint, Credentials: map[string]*dagger.Secret{}}
	for variable, value := range credentials {
		b.Credentials[variable] = b.Client.SetSecret(strings.Join([]string{"clouds", c.scheme, variable, digestOf([]byte(value))}, "-"), value)
	}
	return b
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// The three clouds' buckets do the same, and models can be kept and tables can lie in each.
func TestClouds(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	for scheme, start := range map[string]func(*testing.T) *cloud{"s3": newAmazon, "gs": newGoogle, "az": newAzure} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			t.Run("files", func(t *testing.T) { c.files(t, c.bucket(t, "models/files", c.right)) })
			if c.token != nil {
				t.Run("files by a token", func(t *testing.T) { c.files(t, c.bucket(t, "models/token", c.token)) })
			}
			t.Run("folders", c.folders)
			t.Run("signed addresses", c.signed)
			t.Run("refusals", c.refusals)
			if scheme != "s3" { // that has tests of its own
				t.Run("training", c.training)
			}
			t.Run("drift", c.drift)
		})
	}
}

// files checks that what is read is what was written, and that nobody overwrites what he has not read.
func (c *cloud) files(t *testing.T, b store.Bucket) {
	ctx := t.Context()
	const name = "models/good/champion.json"
	read := func() (string, string) {
		t.Helper()
		data, version, err := b.Read(ctx, name)
		require.NoError(t, err)
		return string(data), version
	}
	data, none := read()
	require.Empty(t, data)
	require.Empty(t, none)

	require.NoError(t, b.Write(ctx, name, []byte("one"), none))
	require.ErrorIs(t, b.Write(ctx, name, []byte("another"), none), store.ErrChanged)
	data, first := read()
	require.Equal(t, "one", data)
	require.NotEmpty(t, first)

	require.NoError(t, b.Write(ctx, name, []byte("two"), first))
	data, second := read()
	require.Equal(t, "two", data)
	require.NotEqual(t, first, second)
	require.ErrorIs(t, b.Write(ctx, name, []byte("late"), first), store.ErrChanged)

	var won [3]error
	var writers errgroup.Group
	for i := range won {
		writers.Go(func() error {
			won[i] = b.Write(ctx, name, fmt.Appendf(nil, "writer %d", i), second)
			return nil
		})
	}
	require.NoError(t, writers.Wait())
	winner := slices.Index(won[:], nil)
	require.NotEqual(t, -1, winner, "%v", won)
	for i, err := range won {
		if i != winner {
			require.ErrorIs(t, err, store.ErrChanged)
		}
	}
	data, _ = read()
	require.Equal(t, fmt.Sprintf("writer %d", winner), data)
}

// folders checks that folders come back as they were put, with a file that is sent in parts.
func (c *cloud) folders(t *testing.T) {
	ctx, b := t.Context(), c.bucket(t, "models/folders", c.right)
	large := make([]byte, 20<<20)
	_, _ = mathrand.NewChaCha8([32]byte{1}).Read(large)
	files, digests, host := map[string][]byte{"manifest.json": []byte("{}"), "outputs/a name+more.txt": []byte("text\n"), "outputs/large.bin": large}, map[string]string{}, t.TempDir()
	for name, data := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(host, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(host, name), data, 0o644))
		digests[name] = digestOf(data)
	}
	folder := client(t).Host().Directory(host)
	const prefix = "models/good/versions/sha256-1"
	require.NoError(t, b.Put(ctx, prefix, folder, digests))
	require.NoError(t, b.Put(ctx, prefix, folder, digests), "what is there already is left alone")
	names, err := b.List(ctx, "models/good/versions")
	require.NoError(t, err)
	require.Equal(t, []string{"sha256-1"}, names)
	names, err = b.List(ctx, prefix)
	require.NoError(t, err)
	require.Equal(t, []string{"manifest.json", "outputs"}, names)
	names, err = b.List(ctx, "models/none")
	require.NoError(t, err)
	require.Empty(t, names)

	requireFiles := func(dir *dagger.Directory, err error, want map[string][]byte) {
		t.Helper()
		require.NoError(t, err)
		out := t.TempDir()
		_, err = dir.Export(ctx, out)
		require.NoError(t, err)
		got := map[string]string{}
		require.NoError(t, fs.WalkDir(os.DirFS(out), ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(out, path))
			got[path] = digestOf(data)
			return err
		}))
		wanted := map[string]string{}
		for name, data := range want {
			wanted[name] = digestOf(data)
		}
		require.Equal(t, wanted, got)
	}
	dir, err := b.Get(ctx, prefix)
	requireFiles(dir, err, files)
	wanted := []string{prefix + "/manifest.json", prefix + "/outputs/large.bin", "none.csv"}
	dir, err = b.Fetch(ctx, client(t), wanted)
	requireFiles(dir, err, map[string][]byte{wanted[0]: files["manifest.json"], wanted[1]: large})

	_, version, err := b.Read(ctx, wanted[0])
	require.NoError(t, err)
	require.NoError(t, b.Write(ctx, wanted[0], []byte("{ }"), version))
	dir, err = b.Fetch(ctx, client(t), wanted)
	requireFiles(dir, err, map[string][]byte{wanted[0]: []byte("{ }"), wanted[1]: large})

	digests["manifest.json"] = digestOf([]byte("not this"))
	var corrupt *store.CorruptError
	require.ErrorAs(t, b.Put(ctx, prefix, folder, digests), &corrupt)
	require.Equal(t, prefix+"/manifest.json", corrupt.Name)
}

// signed checks the addresses that pods are given.
func (c *cloud) signed(t *testing.T) {
	ctx, b := t.Context(), c.bucket(t, "models/signed", c.right)
	names := []string{"trainings/good/outputs.tar", "trainings/good/outputs.tar.sha256"}
	ask := func(method, address, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
		require.NoError(t, err)
		if method == http.MethodPut {
			for name, value := range c.headers {
				request.Header.Set(name, value)
			}
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(text)
	}
	puts, err := b.Sign(ctx, http.MethodPut, names, time.Hour)
	require.NoError(t, err)
	gets, err := b.Sign(ctx, http.MethodGet, names, time.Hour)
	require.NoError(t, err)
	for i, name := range names {
		status, text := ask(http.MethodPut, puts[i], name)
		require.Less(t, status, 300, "%s", text)
		status, text = ask(http.MethodGet, gets[i], "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, name, text)
	}
	status, _ := ask(http.MethodPut, gets[0], "overwritten")
	require.Equal(t, http.StatusForbidden, status, "an address is for one thing only")
	status, _ = ask(http.MethodGet, strings.Replace(gets[0], "outputs.tar", "other.tar", 1), "")
	require.Equal(t, http.StatusForbidden, status, "and for one object only")
}

// refusals checks what people are told.
func (c *cloud) refusals(t *testing.T) {
	ctx := t.Context()
	for what, test := range map[string]struct {
		bucket store.Bucket
		want   string
	}{
		"credentials": {c.bucket(t, "models/files", c.wrong), "refuses these credentials: see " + strings.SplitN(slices.Min(slices.Collect(maps.Keys(c.right))), "_", 2)[0] + "_"},
		"bucket":      {c.bucket(t, "nothing/files", c.right), "has no such bucket"},
	} {
		err := test.bucket.Write(ctx, "a.json", []byte("{}"), "")
		require.ErrorContains(t, err, test.want, what)
		_, listed := test.bucket.List(ctx, "models")
		require.ErrorContains(t, listed, test.want, what)
		_, fetched := test.bucket.Fetch(ctx, client(t), []string{"a.csv"})
		require.ErrorContains(t, fetched, test.want, what)
		for _, secret := range c.secrets {
			require.NotContains(t, err.Error()+listed.Error()+fetched.Error(), secret)
		}
		t.Log(err)
	}
	missing, err := c.bucket(t, "models/files", c.right).Fetch(ctx, client(t), []string{"missing.csv"})
	require.NoError(t, err)
	entries, err := missing.Entries(ctx)
	require.NoError(t, err)
	require.Empty(t, entries)
	_, _, err = c.bucket(t, "models/files", c.wrong).Read(ctx, "a.json")
	require.ErrorContains(t, err, "refuses these credentials")
	_, err = c.bucket(t, "models/files", nil).List(ctx, "models")
	require.Error(t, err)
	t.Log(err)
}

// training trains a model on a table that lies in the cloud, and keeps it there.
func (c *cloud) training(t *testing.T) {
	ctx, b := t.Context(), c.bucket(t, "models/team", c.right)
	source, rows := lessons(t, nil), table(600)
	require.NoError(t, os.RemoveAll(filepath.Join(source, "data")))
	require.NoError(t, b.Put(ctx, "tables", client(t).Directory().WithNewFile("rows.csv", rows), map[string]string{"rows.csv": digestOf([]byte(rows))}))
	champion := func() (found model.Champion) {
		t.Helper()
		data, _, err := b.Read(ctx, "models/good/champion.json")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &found), "%s", data)
		return found
	}
	args := []string{"training", "--data", c.scheme + "://models/team/tables", "--store", c.scheme + "://models/team"}
	login := withEnv(c.environment...)

	got := ci(t, source, args, login)
	require.Equal(t, 0, got.code)
	first := champion()
	require.NotEmpty(t, first.Version)
	c.requireNoSecrets(t, got)

	again := ci(t, source, args, login)
	require.Equal(t, 0, again.code)
	require.Contains(t, again.node(t, "register-good").Reason, "it is the champion already")
	require.Equal(t, modified(t, got, "reports/train-good/log.txt"), modified(t, again, "reports/train-good/log.txt"), "it was trained again")
	require.Equal(t, first, champion())

	edit(t, source, edits{"millrace.yaml": lesson("good", "0.1")})
	better := ci(t, source, args, login)
	require.Equal(t, 0, better.code)
	require.Len(t, champion().History, 2)
	require.Equal(t, first.Version, champion().History[1].Previous)

	refused := ci(t, source, args, login, withEnv(pairsOf(c.wrong)...))
	require.Equal(t, 3, refused.code)
	require.Contains(t, refused.node(t, "download").Reason, "refuses these credentials")
	require.Equal(t, graph.Skipped, refused.node(t, "train-good").Verdict)
	c.requireNoSecrets(t, refused)
}

// pairsOf returns variables as NAME=VALUE.
func pairsOf(variables map[string]string) (all []string) {
	for name, value := range variables {
		all = append(all, name+"="+value)
	}
	return all
}

// requireNoSecrets checks that a run has neither printed nor reported credentials.
func (c *cloud) requireNoSecrets(t *testing.T, o outcome) {
	t.Helper()
	for _, secret := range c.secrets {
		require.NotContains(t, o.stdout+o.stderr, secret)
	}
	require.NoError(t, filepath.WalkDir(o.out, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range c.secrets {
			require.NotContains(t, string(data), secret, path)
		}
		return err
	}))
}

// drift compares tables that lie in the cloud, and keeps its history there.
func (c *cloud) drift(t *testing.T) {
	ctx, b := t.Context(), c.bucket(t, "models/daily", c.right)
	tables := map[string]string{"reference.csv": people(1, 1000, 0), "today.csv": people(3, 1000, 0.6)}
	folder, digests := client(t).Directory(), map[string]string{}
	for name, text := range tables {
		folder, digests[name] = folder.WithNewFile(name, text), digestOf([]byte(text))
	}
	require.NoError(t, b.Put(ctx, "tables", folder, digests))
	source := t.TempDir()
	edit(t, source, edits{"millrace.yaml": "drift: {name: people, columns: {id: {ignore: true}}}\n"})
	at := c.scheme + "://models/daily"
	run := func(current string, login ...string) outcome {
		return ci(t, source, []string{"drift", "--reference", at + "/tables/reference.csv", "--current", current, "--state", at, "--retrain", "no"}, withEnv(append(slices.Clone(c.environment), login...)...))
	}

	got := run(at + "/tables/today.csv")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.node(t, "alerts").Reason, "critical drift, 1 alert: age")
	require.Equal(t, digests["today.csv"], got.drift(t).Tables["current"].SHA256)
	c.requireNoSecrets(t, got)
	text, _, err := b.Read(ctx, "drift/people/history.json")
	require.NoError(t, err)
	var h drift.History
	require.NoError(t, json.Unmarshal(text, &h), "%s", text)
	require.Len(t, h.Entries, 1)

	got = run(at + "/tables/tomorrow.csv")
	require.Equal(t, 3, got.code)
	require.Contains(t, got.node(t, "data").Reason, "there is nothing: correct the address")
	got = run(c.scheme + "://nothing/today.csv")
	require.Equal(t, 3, got.code)
	require.Contains(t, got.node(t, "data").Reason, "has no such bucket")
	var wrong []string
	for variable, value := range c.wrong {
		wrong = append(wrong, variable+"="+value)
	}
	got = run(at+"/tables/today.csv", wrong...)
	require.Equal(t, 3, got.code)
	require.Contains(t, got.node(t, "data").Reason, "refuses these credentials")
	c.requireNoSecrets(t, got)
}

func newAmazon(t *testing.T) *cloud {
	t.Helper()
	server := newBucketServer(t, "models")
	return &cloud{
		scheme: "s3", endpoint: server.url, secrets: []string{bucketSecret}, environment: server.variables(),
		right: map[string]string{"AWS_ACCESS_KEY_ID": bucketKey, "AWS_SECRET_ACCESS_KEY": bucketSecret},
		wrong: map[string]string{"AWS_ACCESS_KEY_ID": bucketKey, "AWS_SECRET_ACCESS_KEY": "another"},
	}
}

// google is the part of Google Cloud Storage that fake-gcs-server lacks, in front of it. The server keeps the objects and their
// generations, and holds conditions against them, atomically; it takes no objects by the XML API, which is what the client
// speaks, and checks no credentials. So this does, as Google documents it:
//
//   - PUT of an object, whose header x-goog-if-generation-match is the parameter ifGenerationMatch of the JSON API (412 where it does not fit);
//   - multipart uploads (POST ?uploads, PUT ?partNumber=…&uploadId=…, POST ?uploadId=…);
//   - NoSuchBucket where there is no such bucket, which the server answers with a status of 500;
//   - the signature of a token that a service account has signed for itself, by the account's public key (401);
//   - the V4 signature of a signed address (403).
//
// See https://cloud.google.com/storage/docs/xml-api/overview and https://cloud.google.com/storage/docs/authentication/signatures.
type google struct {
	backend *url.URL
	account *rsa.PublicKey
	proxy   *httputil.ReverseProxy

	mu sync.Mutex
	// uploads are the parts of multipart uploads that go on, by their names and numbers.
	uploads map[string]map[int][]byte
	// joined counts those that were completed with more than one part.
	joined int
}

// serviceAccount makes a service account's key, as Google hands it out.
func serviceAccount(t *testing.T) (*rsa.PrivateKey, map[string]string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return key, map[string]string{
		"type": "service_account", "client_email": "trainer@example.iam.gserviceaccount.com", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
}

func newGoogle(t *testing.T) *cloud {
	t.Helper()
	binary := installed(t, fakeGoogle)
	address := listening(t, func(address string) []string {
		host, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		return []string{binary, "-scheme", "http", "-host", host, "-port", port, "-backend", "memory"}
	})
	key, file := serviceAccount(t)
	g := &google{backend: &url.URL{Scheme: "http", Host: address}, account: &key.PublicKey, uploads: map[string]map[int][]byte{}}
	g.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(g.backend)
		r.Out.Host = googleHost // by which the server knows the XML API
	}}
	made, err := http.Post(g.backend.JoinPath("storage/v1/b").String(), "application/json", strings.NewReader(`{"name": "models"}`))
	require.NoError(t, err)
	require.NoError(t, made.Body.Close())
	require.Equal(t, http.StatusOK, made.StatusCode)

	c := &cloud{scheme: "gs", endpoint: reachable(t, g)}
	for line := range strings.Lines(file["private_key"]) {
		if !strings.HasPrefix(line, "-----") {
			c.secrets = append(c.secrets, strings.TrimSpace(line))
		}
	}
	text := func(file map[string]string) string {
		data, err := json.Marshal(file)
		require.NoError(t, err)
		return string(data)
	}
	const variable = "GOOGLE_SERVICE_ACCOUNT_KEY"
	c.right = map[string]string{variable: text(file)}
	_, other := serviceAccount(t)
	other["gcs_base_url"], file["gcs_base_url"] = c.endpoint, c.endpoint
	c.wrong, c.environment = map[string]string{variable: text(other)}, []string{variable + "=" + text(file)}
	t.Cleanup(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		require.Positive(t, g.joined, "nothing was sent in parts")
	})
	return c
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	switch upload := query.Get("uploadId"); {
	case query.Has("X-Goog-Signature") && !g.signed(r):
		refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
	case !query.Has("X-Goog-Signature") && !g.knows(r):
		refuse(w, http.StatusUnauthorized, "AuthenticationRequired")
	case !g.has(bucket):
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodPost && query.Has("uploads"):
		id := rand.Text()
		g.mu.Lock()
		g.uploads[id] = map[int][]byte{}
		g.mu.Unlock()
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>%s</Bucket><UploadId>%s</UploadId></InitiateMultipartUploadResult>", bucket, id)
	case r.Method == http.MethodPut && upload != "":
		g.part(w, r, upload, query.Get("partNumber"))
	case r.Method == http.MethodPost && upload != "":
		if tag, ok := g.write(w, r, bucket, object, g.join(upload)); ok {
			fmt.Fprintf(w, "<CompleteMultipartUploadResult><Bucket>%s</Bucket><ETag>%s</ETag></CompleteMultipartUploadResult>", bucket, tag)
		}
	case r.Method == http.MethodPut:
		g.write(w, r, bucket, object, r.Body)
	default:
		g.proxy.ServeHTTP(w, r)
	}
}

// refuse answers with an error of the XML API.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml; charset=UTF-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code><Message>%s</Message></Error>", code, http.StatusText(status))
}

// knows reports whether a request has a token that the account has signed.
func (g *google) knows(r *http.Request) bool {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	end := strings.LastIndex(token, ".")
	if end < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[end+1:])
	return err == nil && g.verify(token[:end], signature)
}

// signed reports whether the account has signed an address for what is asked.
func (g *google) signed(r *http.Request) bool {
	query := r.URL.Query()
	signature, err := hex.DecodeString(query.Get("X-Goog-Signature"))
	if err != nil {
		return false
	}
	query.Del("X-Goog-Signature")
	_, scope, _ := strings.Cut(query.Get("X-Goog-Credential"), "/")
	// The client signs for Google's own host, whatever the endpoint is.
	request := strings.Join([]string{r.Method, r.URL.EscapedPath(), query.Encode(), "host:" + googleHost, "", "host", "UNSIGNED-PAYLOAD"}, "\n")
	text := strings.Join([]string{"GOOG4-RSA-SHA256", query.Get("X-Goog-Date"), scope, digestOf([]byte(request))}, "\n")
	return query.Get("X-Goog-SignedHeaders") == "host" && g.verify(text, signature)
}

func (g *google) verify(text string, signature []byte) bool {
	sum := sha256.Sum256([]byte(text))
	return rsa.VerifyPKCS1v15(g.account, crypto.SHA256, sum[:], signature) == nil
}

func (g *google) has(bucket string) bool {
	got, err := http.Get(g.backend.JoinPath("storage/v1/b", bucket).String())
	if err != nil {
		return false
	}
	_ = got.Body.Close()
	return got.StatusCode == http.StatusOK
}

func (g *google) part(w http.ResponseWriter, r *http.Request, upload, number string) {
	data, err := io.ReadAll(r.Body)
	n, bad := strconv.Atoi(number)
	g.mu.Lock()
	defer g.mu.Unlock()
	parts, found := g.uploads[upload]
	if !found || errors.Join(err, bad) != nil {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	parts[n] = data
	w.Header().Set("ETag", strconv.Quote(digestOf(data)))
}

// join ends a multipart upload and returns what it has sent.
func (g *google) join(upload string) io.Reader {
	g.mu.Lock()
	defer g.mu.Unlock()
	parts := g.uploads[upload]
	delete(g.uploads, upload)
	if len(parts) > 1 {
		g.joined++
	}
	var all bytes.Buffer
	for _, n := range slices.Sorted(maps.Keys(parts)) {
		all.Write(parts[n])
	}
	return &all
}

// write puts an object by the JSON API, answers with the headers of the XML API, and returns the object's entity tag.
func (g *google) write(w http.ResponseWriter, r *http.Request, bucket, object string, body io.Reader) (string, bool) {
	query := url.Values{"uploadType": {"media"}, "name": {object}}
	if match := r.Header.Get("x-goog-if-generation-match"); match != "" {
		query.Set("ifGenerationMatch", match)
	}
	address := g.backend.JoinPath("upload/storage/v1/b", bucket, "o")
	address.RawQuery = query.Encode()
	answer, err := http.Post(address.String(), r.Header.Get("Content-Type"), body)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable")
		return "", false
	}
	defer answer.Body.Close()
	var written struct{ Generation, Etag string }
	switch err := json.NewDecoder(answer.Body).Decode(&written); {
	case answer.StatusCode == http.StatusPreconditionFailed:
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return "", false
	case answer.StatusCode != http.StatusOK || err != nil:
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable")
		return "", false
	}
	w.Header().Set("ETag", strconv.Quote(written.Etag))
	w.Header().Set("x-goog-generation", written.Generation)
	return written.Etag, true
}

const (
	azureAccount = "trainer"
	azureVersion = "2023-11-03"
)

// newAzure starts Microsoft's own emulator in a container, with Node.js from PyPI: this machine need not have that. What it is
// made of is pinned by a lock, made by
//
//	uv pip compile --python-platform linux --python-version 3.11 --generate-hashes --no-header --no-annotate azurite.in -o azurite.txt
func newAzure(t *testing.T) *cloud {
	t.Helper()
	ctx, c := t.Context(), client(t)
	keys := [2]string{}
	for i := range keys {
		keys[i] = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte('k' + i)}, 64))
	}
	lock, err := os.ReadFile("testdata/azurite.txt")
	require.NoError(t, err)
	ctr, err := image.Toolbox(ctx, c, "", string(lock))
	require.NoError(t, err)
	server := ctr.
		WithEnvVariable("NODE_EXTRA_CA_CERTS", "/etc/ssl/certs/ca-certificates.crt"). // the host's authorities, which npm does not know else
		WithExec([]string{"/opt/venv/bin/npm", "install", "--prefix", "/opt/azurite", "--no-audit", "--no-fund", "--ignore-scripts", azurite}).
		WithEnvVariable("AZURITE_ACCOUNTS", azureAccount+":"+keys[0]).
		WithEnvVariable("MILLRACE_TEST", t.Name()+rand.Text()). // a server for this test alone
		WithExposedPort(10000).
		AsService(dagger.ContainerAsServiceOpts{Args: []string{
			"/opt/venv/bin/node", "/opt/azurite/node_modules/azurite/dist/src/blob/main.js",
			"--blobHost", "0.0.0.0", "--blobPort", "10000", "--inMemoryPersistence", "--disableTelemetry",
		}})
	server, err = server.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = server.Stop(context.Background(), dagger.ServiceStopOpts{Kill: true}) })
	// Past the engine's own tunnels, as in [wayIn].
	found, err := c.Container().From(image.Python("")).WithServiceBinding("azurite", server).
		WithExec([]string{"getent", "ahostsv4", "azurite"}).Stdout(ctx)
	require.NoError(t, err)
	ip, _, _ := strings.Cut(found, " ")
	// Where the account is not in the host, as it is with Azure, the emulator and the client expect it first in the path.
	endpoint := "http://" + net.JoinHostPort(ip, "10000") + "/" + azureAccount
	azureContainer(t, endpoint, keys[0], "models")
	credentials := func(key string) map[string]string {
		return map[string]string{"AZURE_STORAGE_ACCOUNT_NAME": azureAccount, "AZURE_STORAGE_ACCOUNT_KEY": key}
	}
	right := credentials(keys[0])
	return &cloud{
		scheme: "az", endpoint: endpoint, right: right, wrong: credentials(keys[1]), secrets: keys[:],
		token:       map[string]string{"AZURE_STORAGE_ACCOUNT_NAME": azureAccount, "AZURE_STORAGE_SAS_TOKEN": azureToken(t, keys[0])},
		environment: append(pairsOf(right), "AZURE_STORAGE_ENDPOINT="+endpoint), headers: map[string]string{"x-ms-blob-type": "BlockBlob"},
	}
}

// azureContainer makes a container, which the store's client can't.
func azureContainer(t *testing.T, endpoint, key, name string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, endpoint+"/"+name+"?restype=container", nil)
	require.NoError(t, err)
	now := time.Now().UTC().Format(http.TimeFormat)
	request.Header.Set("x-ms-date", now)
	request.Header.Set("x-ms-version", azureVersion)
	text := fmt.Sprintf("PUT%sx-ms-date:%s\nx-ms-version:%s\n/%s%s\nrestype:container", strings.Repeat("\n", 12), now, azureVersion, azureAccount, request.URL.Path)
	request.Header.Set("Authorization", "SharedKey "+azureAccount+":"+azureSignature(t, key, text))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, response.StatusCode, "%s", said)
}

func azureSignature(t *testing.T, key, text string) string {
	t.Helper()
	secret, err := base64.StdEncoding.DecodeString(key)
	require.NoError(t, err)
	sum := hmac.New(sha256.New, secret)
	_, _ = sum.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

// azureToken signs a token that lets who has it read, write and list the account's objects for an hour, as
// https://learn.microsoft.com/rest/api/storageservices/create-account-sas describes it.
func azureToken(t *testing.T, key string) string {
	t.Helper()
	token := url.Values{"sv": {azureVersion}, "ss": {"b"}, "srt": {"co"}, "sp": {"rwlc"}, "se": {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}}
	text := strings.Join([]string{azureAccount, token.Get("sp"), token.Get("ss"), token.Get("srt"), "", token.Get("se"), "", "", azureVersion, "", ""}, "\n")
	token.Set("sig", azureSignature(t, key, text))
	return token.Encode()
}
