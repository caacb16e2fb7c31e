package codecovtest

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

const sha = "0123456789abcdef0123456789abcdef01234567"

type client struct {
	t     *testing.T
	token string
	// http is the server's own: a server that closes takes down idle connections of everybody who uses the default one.
	http *http.Client
}

// send returns the status and the decoded body of the answer.
func (c client) send(method, url string, body any) (int, map[string]string) {
	c.t.Helper()
	data, err := json.Marshal(body)
	require.NoError(c.t, err)
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, bytes.NewReader(data))
	require.NoError(c.t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		if c.token != "" {
			req.Header.Set("Authorization", "token "+c.token)
		}
	}
	resp, err := c.http.Do(req)
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	got := map[string]string{}
	if len(text) > 0 {
		require.NoError(c.t, json.Unmarshal(text, &got))
	}
	return resp.StatusCode, got
}

func packed(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, err := z.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func TestReceiverTakesAWholeUpload(t *testing.T) {
	t.Parallel()
	r := &Receiver{Token: "secret"}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	c := client{t: t, token: "secret", http: server.Client()}
	base := server.URL + "/upload/gitlab/acme:::ml::::api/commits"

	status, _ := c.send(http.MethodPost, base, map[string]any{"commitid": sha, "branch": "main", "version": "11.3.1", "pullid": "7"})
	require.Equal(t, http.StatusCreated, status)
	status, _ = c.send(http.MethodPost, base+"/"+sha+"/reports", map[string]any{"code": "default"})
	require.Equal(t, http.StatusCreated, status)
	status, upload := c.send(http.MethodPost, base+"/"+sha+"/reports/default/uploads", map[string]any{"flags": []string{"unit"}, "name": nil})
	require.Equal(t, http.StatusCreated, status)
	require.Empty(t, r.Uploads(), "nothing has arrived before it is stored")

	status, _ = c.send(http.MethodPut, upload["raw_upload_location"], map[string]any{
		"report_fixes":   map[string]any{"format": "legacy", "value": map[string]any{}},
		"network_files":  []string{"app.py"},
		"coverage_files": []map[string]string{{"filename": "coverage.xml", "format": "base64+compressed", "data": packed(t, "<coverage/>")}},
	})
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, r.Problems())
	require.Equal(t, []Upload{{
		GitService: "gitlab", Slug: "acme/ml/api", SHA: sha, Branch: "main", PullRequest: "7", Token: "secret",
		Flags: []string{"unit"}, Files: map[string]string{"coverage.xml": "<coverage/>"}, Network: []string{"app.py"},
	}}, r.Uploads())
}

func TestReceiverRefuses(t *testing.T) {
	t.Parallel()
	commit := map[string]any{"commitid": sha, "branch": "main", "version": "11"}
	tests := map[string]struct {
		token   string
		path    string
		body    map[string]any
		status  int
		answer  string
		problem bool
	}{
		"a wrong token":                  {token: "other", path: "/upload/github/a::::b/commits", body: commit, status: 401, answer: "Invalid token."},
		"no token on the own branch":     {path: "/upload/github/a::::b/commits", body: commit, status: 400, answer: "Token required because branch is protected"},
		"a short commit id":              {token: "secret", path: "/upload/github/a::::b/commits", body: map[string]any{"commitid": "abc", "branch": "main", "version": "11"}, status: 400, answer: `commitid "abc" is no full commit id`, problem: true},
		"an unknown forge":               {token: "secret", path: "/upload/sourcehut/a::::b/commits", body: commit, status: 400, answer: `unknown service "sourcehut"`, problem: true},
		"a report without its commit":    {token: "secret", path: "/upload/github/a::::b/commits/" + sha + "/reports", body: map[string]any{"code": "default"}, status: 404, answer: "commit " + sha + " was not created before its report", problem: true},
		"an upload without its report":   {token: "secret", path: "/upload/github/a::::b/commits/" + sha + "/reports/default/uploads", body: map[string]any{}, status: 404, answer: `report "default" of ` + sha + " was not created before its upload", problem: true},
		"an endpoint that doesn't exist": {token: "secret", path: "/upload/v4", body: map[string]any{}, status: 404, answer: "no such endpoint: POST /upload/v4", problem: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &Receiver{Token: "secret"}
			server := httptest.NewServer(r)
			t.Cleanup(server.Close)
			status, answer := client{t: t, token: test.token, http: server.Client()}.send(http.MethodPost, server.URL+test.path, test.body)
			require.Equal(t, test.status, status)
			require.Equal(t, test.answer, answer["detail"]+answer["message"])
			require.Equal(t, test.problem, len(r.Problems()) == 1)
			require.Empty(t, r.Uploads())
		})
	}
}

func TestReceiverTakesAForkWithoutToken(t *testing.T) {
	t.Parallel()
	r := &Receiver{Token: "secret"}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	status, _ := client{t: t, http: server.Client()}.send(http.MethodPost, server.URL+"/upload/github/a::::b/commits",
		map[string]any{"commitid": sha, "branch": "fork:main", "version": "11"})
	require.Equal(t, http.StatusCreated, status)
}

func TestReceiverFaults(t *testing.T) {
	t.Parallel()
	r := &Receiver{Token: "secret", Fault: func(step string) int {
		if step == CreateCommit {
			return http.StatusServiceUnavailable
		}
		return 0
	}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	status, _ := client{t: t, token: "secret", http: server.Client()}.send(http.MethodPost, server.URL+"/upload/github/a::::b/commits",
		map[string]any{"commitid": sha, "branch": "main", "version": "11"})
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, []string{"POST /upload/github/a::::b/commits"}, r.Requests())
	require.Empty(t, r.Problems())
}
