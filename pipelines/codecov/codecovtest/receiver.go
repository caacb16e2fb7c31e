// Package codecovtest is a receiver for coverage uploads that checks Codecov's upload protocol, for tests.
package codecovtest

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// The steps of an upload, in their order, as a [Receiver]'s Fault is asked about them.
const (
	CreateCommit = "create-commit"
	CreateReport = "create-report"
	CreateUpload = "create-upload"
	Store        = "store"
)

// Upload is a report that has arrived whole.
type Upload struct {
	// GitService is Codecov's name of the forge, for example "github".
	GitService string
	// Slug is owner/repository.
	Slug string
	// SHA, Branch, Parent and PullRequest are the commit's, as it was announced; PullRequest is "" for none.
	SHA, Branch, Parent, PullRequest string
	// Token is what came in the Authorization header; empty for an upload without a token.
	Token string
	// Flags and Name are the upload's own.
	Flags []string
	Name  string
	// Files maps the name of each coverage file to its content.
	Files map[string]string
	// Network lists the files of the source tree.
	Network []string
}

// Receiver is an [http.Handler] that acts like Codecov's ingest service and its storage:
// commit, report and upload are created one after the other, and then the report is put to the address that the upload got.
//
// It checks method, path, headers, order and body of every request, and answers a wrong one as Codecov does.
// Paths and bodies are those of codecov-cli 11; the texts of refusals are those that users of Codecov report.
type Receiver struct {
	// Token is the only token that is accepted. An upload without a token is accepted from a fork alone: its branch has a colon.
	Token string
	// Fault answers a step with that HTTP status instead; 0 means none. It is called once a request.
	Fault func(step string) int

	once sync.Once
	mux  *http.ServeMux

	mu       sync.Mutex
	commits  map[string]Upload // by service, slug and SHA
	reports  map[string]bool   // by the commit's key and the report's code
	pending  map[string]Upload // by storage path
	uploads  []Upload
	problems []string
	requests []string
}

// Uploads returns the reports that have arrived whole so far.
func (r *Receiver) Uploads() []Upload {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.uploads)
}

// Problems lists what was wrong with the requests so far; wrong credentials are none.
func (r *Receiver) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.problems)
}

// Requests lists method and path of all requests so far.
func (r *Receiver) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// ServeHTTP answers one request of the protocol.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.once.Do(func() {
		r.commits, r.reports, r.pending = map[string]Upload{}, map[string]bool{}, map[string]Upload{}
		r.mux = http.NewServeMux()
		r.mux.HandleFunc("POST /upload/{service}/{slug}/commits", r.step(CreateCommit, r.createCommit))
		r.mux.HandleFunc("POST /upload/{service}/{slug}/commits/{sha}/reports", r.step(CreateReport, r.createReport))
		r.mux.HandleFunc("POST /upload/{service}/{slug}/commits/{sha}/reports/{code}/uploads", r.step(CreateUpload, r.createUpload))
		r.mux.HandleFunc("PUT /storage/{id}", r.step(Store, r.store))
		r.mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
			r.refuse(w, http.StatusNotFound, "no such endpoint: %s %s", req.Method, req.URL.Path)
		})
	})
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	r.mu.Unlock()
	r.mux.ServeHTTP(w, req)
}

// step puts the faults in front of a handler, and serves one request at a time.
func (r *Receiver) step(name string, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if r.Fault != nil {
			if status := r.Fault(name); status != 0 {
				answer(w, status, map[string]string{"message": http.StatusText(status)})
				return
			}
		}
		handle(w, req)
	}
}

var (
	services = []string{"github", "gitlab", "bitbucket", "github_enterprise", "gitlab_enterprise", "bitbucket_server"}
	commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

func (r *Receiver) createCommit(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Commit      string          `json:"commitid"`
		Branch      string          `json:"branch"`
		Parent      string          `json:"parent_commit_id"`
		PullRequest json.RawMessage `json:"pullid"`
		Version     string          `json:"version"`
	}
	if !r.read(w, req, &body) || !r.allow(w, req, body.Branch) {
		return
	}
	switch {
	case !slices.Contains(services, req.PathValue("service")):
		r.refuse(w, http.StatusBadRequest, "unknown service %q", req.PathValue("service"))
	case !commitID.MatchString(body.Commit):
		r.refuse(w, http.StatusBadRequest, "commitid %q is no full commit id", body.Commit)
	case body.Branch == "":
		r.refuse(w, http.StatusBadRequest, "branch is missing")
	case body.Version == "":
		r.refuse(w, http.StatusBadRequest, "version is missing")
	default:
		pull := strings.Trim(string(body.PullRequest), `"`)
		if pull == "null" {
			pull = ""
		}
		r.mu.Lock()
		r.commits[key(req, body.Commit)] = Upload{
			GitService: req.PathValue("service"), Slug: slug(req), SHA: body.Commit,
			Branch: body.Branch, Parent: body.Parent, PullRequest: pull, Token: token(req),
		}
		r.mu.Unlock()
		answer(w, http.StatusCreated, map[string]any{"commitid": body.Commit, "branch": body.Branch})
	}
}

func (r *Receiver) createReport(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Code string `json:"code"`
	}
	commit, ok := r.commit(req)
	if !r.read(w, req, &body) || !r.allow(w, req, commit.Branch) {
		return
	}
	switch {
	case !ok:
		r.refuse(w, http.StatusNotFound, "commit %s was not created before its report", req.PathValue("sha"))
	case body.Code == "":
		r.refuse(w, http.StatusBadRequest, "code is missing")
	default:
		r.mu.Lock()
		r.reports[key(req, req.PathValue("sha"))+" "+body.Code] = true
		r.mu.Unlock()
		answer(w, http.StatusCreated, map[string]any{"commit_sha": req.PathValue("sha"), "code": body.Code})
	}
}

func (r *Receiver) createUpload(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Flags []string `json:"flags"`
		Name  *string  `json:"name"`
	}
	upload, ok := r.commit(req)
	if !r.read(w, req, &body) || !r.allow(w, req, upload.Branch) {
		return
	}
	r.mu.Lock()
	reported := r.reports[key(req, req.PathValue("sha"))+" "+req.PathValue("code")]
	r.mu.Unlock()
	if !ok || !reported {
		r.refuse(w, http.StatusNotFound, "report %q of %s was not created before its upload", req.PathValue("code"), req.PathValue("sha"))
		return
	}
	upload.Flags = body.Flags
	if body.Name != nil {
		upload.Name = *body.Name
	}
	r.mu.Lock()
	id := fmt.Sprintf("%s-%d", upload.SHA[:7], len(r.requests))
	r.pending[id] = upload
	r.mu.Unlock()
	// The storage lies at whatever host the client knows this receiver by.
	answer(w, http.StatusCreated, map[string]any{
		"external_id":         id,
		"url":                 "http://" + req.Host + "/gh/" + upload.Slug + "/commit/" + upload.SHA,
		"raw_upload_location": "http://" + req.Host + "/storage/" + id + "?signature=valid",
	})
}

func (r *Receiver) store(w http.ResponseWriter, req *http.Request) {
	id := req.PathValue("id")
	r.mu.Lock()
	upload, ok := r.pending[id]
	r.mu.Unlock()
	switch {
	case !ok || req.URL.Query().Get("signature") != "valid":
		r.refuse(w, http.StatusForbidden, "storage path %s was not handed out", id)
		return
	case req.Header.Get("Authorization") != "":
		// A signed storage address takes no other credentials, and the storage is not Codecov's own.
		r.refuse(w, http.StatusBadRequest, "the token was sent to the storage")
		return
	}
	var body struct {
		Fixes struct {
			Format string `json:"format"`
		} `json:"report_fixes"`
		Network []string `json:"network_files"`
		Files   []struct {
			Name   string `json:"filename"`
			Format string `json:"format"`
			Data   string `json:"data"`
		} `json:"coverage_files"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		r.refuse(w, http.StatusBadRequest, "the report is no JSON: %v", err)
		return
	}
	if body.Fixes.Format != "legacy" || len(body.Files) == 0 {
		r.refuse(w, http.StatusBadRequest, "the report has %d files and fixes in the format %q", len(body.Files), body.Fixes.Format)
		return
	}
	upload.Network, upload.Files = body.Network, map[string]string{}
	for _, f := range body.Files {
		content, err := decode(f.Format, f.Data)
		if err != nil {
			r.refuse(w, http.StatusBadRequest, "%s: %v", f.Name, err)
			return
		}
		upload.Files[f.Name] = content
	}
	r.mu.Lock()
	delete(r.pending, id)
	r.uploads = append(r.uploads, upload)
	r.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

// decode unpacks a coverage file.
func decode(format, data string) (string, error) {
	if format != "base64+compressed" {
		return "", fmt.Errorf("unknown format %q", format)
	}
	packed, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return "", err
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(z)
	return string(content), err
}

// read decodes a request's JSON body, and refuses any other.
func (r *Receiver) read(w http.ResponseWriter, req *http.Request, body any) bool {
	if kind := req.Header.Get("Content-Type"); kind != "application/json" {
		r.refuse(w, http.StatusUnsupportedMediaType, "%s has the content type %q", req.URL.Path, kind)
		return false
	}
	if err := json.NewDecoder(req.Body).Decode(body); err != nil {
		r.refuse(w, http.StatusBadRequest, "%s: %v", req.URL.Path, err)
		return false
	}
	return true
}

// allow refuses a wrong token, and a missing one on a branch that is no fork's.
func (r *Receiver) allow(w http.ResponseWriter, req *http.Request, branch string) bool {
	switch got := token(req); {
	case got == "" && strings.Contains(branch, ":"):
		return true
	case got == "":
		answer(w, http.StatusBadRequest, map[string]string{"message": "Token required because branch is protected"})
	case got != r.Token:
		answer(w, http.StatusUnauthorized, map[string]string{"detail": "Invalid token."})
	default:
		return true
	}
	return false
}

// commit returns the commit that a request is about.
func (r *Receiver) commit(req *http.Request) (Upload, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.commits[key(req, req.PathValue("sha"))]
	return c, ok
}

// refuse answers a request that breaks the protocol, and keeps what was wrong with it.
func (r *Receiver) refuse(w http.ResponseWriter, status int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.problems = append(r.problems, text)
	r.mu.Unlock()
	answer(w, status, map[string]string{"detail": text})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that has gone away is no concern of the receiver.
	_ = json.NewEncoder(w).Encode(body)
}

// slug decodes the path's owner::::repository; subgroups of an owner are joined by three colons.
func slug(req *http.Request) string {
	return strings.ReplaceAll(strings.ReplaceAll(req.PathValue("slug"), "::::", "/"), ":::", "/")
}

func key(req *http.Request, sha string) string {
	return strings.Join([]string{req.PathValue("service"), req.PathValue("slug"), sha}, " ")
}

func token(req *http.Request) string {
	return strings.TrimPrefix(req.Header.Get("Authorization"), "token ")
}
