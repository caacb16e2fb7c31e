package drift

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

const testToken = "the-token"

// receivers answer as the hosts' documentation says. They check what a host would check.
func receiver(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestDispatchToGitHub(t *testing.T) {
	t.Parallel()
	calls := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /repos/acme/scores/actions/workflows/training.yml/dispatches", func(w http.ResponseWriter, r *http.Request) {
		calls++
		if r.Header.Get("Authorization") != "Bearer "+testToken {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"message":"Bad credentials","status":"401"}`)
			return
		}
		var body struct {
			Ref    string            `json:"ref"`
			Inputs map[string]string `json:"inputs"`
		}
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if decoder.Decode(&body) != nil || body.Ref == "" || r.Header.Get("Accept") != "application/vnd.github+json" || r.Header.Get("X-GitHub-Api-Version") != "2022-11-28" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if _, ok := body.Inputs["unknown"]; ok {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"message":"Unexpected inputs provided: [\"unknown\"]"}`)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	url := receiver(t, mux.ServeHTTP)
	d := Dispatch{Receiver: GitHub, URL: url, Repository: "acme/scores", Inputs: map[string]string{"model": "churn"}}

	link, err := d.send(t.Context(), testToken)
	require.NoError(t, err)
	require.Equal(t, url+"/acme/scores/actions/workflows/training.yml", link)
	require.Equal(t, 1, calls)

	_, err = d.send(t.Context(), "wrong-token")
	require.ErrorContains(t, err, "answers 401: check the token, and that it may start workflows: Bad credentials")
	require.NotContains(t, err.Error(), "wrong-token")

	d.Inputs = map[string]string{"unknown": "x"}
	_, err = d.send(t.Context(), testToken)
	require.ErrorContains(t, err, "must have the trigger workflow_dispatch, on that branch, and declare the inputs")
	require.False(t, graph.IsTransient(err))

	d.Workflow = "other.yml"
	_, err = d.send(t.Context(), testToken)
	require.ErrorContains(t, err, "there is no workflow other.yml in acme/scores")

	d.Repository = "acme"
	_, err = d.send(t.Context(), testToken)
	require.ErrorContains(t, err, "write it as owner/name")
}

func TestDispatchToGitLab(t *testing.T) {
	t.Parallel()
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.EscapedPath() != "/projects/acme%2Fscores/trigger/pipeline" || r.ParseForm() != nil || r.PostForm.Get("token") != testToken {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message":"404 Not Found"}`)
			return
		}
		if r.PostForm.Get("ref") != "main" || r.PostForm.Get("variables[MODEL]") != "churn" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"message":{"base":["Reference not found"]}}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":257,"sha":"0123","ref":"main","status":"pending","web_url":"https://gitlab.example.com/acme/scores/-/pipelines/257"}`)
	})
	d := Dispatch{Receiver: GitLab, URL: url, Repository: "acme/scores", Inputs: map[string]string{"MODEL": "churn"}}
	link, err := d.send(t.Context(), testToken)
	require.NoError(t, err)
	require.Equal(t, "https://gitlab.example.com/acme/scores/-/pipelines/257", link)

	_, err = d.send(t.Context(), "wrong-token")
	require.ErrorContains(t, err, "there is no project acme/scores, or the trigger token is not its own")
	d.Ref = "gone"
	_, err = d.send(t.Context(), testToken)
	require.ErrorContains(t, err, "Reference not found")
}

func TestDispatchToWebhook(t *testing.T) {
	t.Parallel()
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(testToken))
		mac.Write(body)
		if r.Header.Get("X-Millrace-Signature-256") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "no such signature, and I repeat the-token\n")
			return
		}
		if string(body) != `{"event":"millrace.retrain","inputs":{"model":"churn"},"ref":"main"}` {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, `{"url":"https://train.example.com/runs/7"}`)
	})
	d := Dispatch{Receiver: Webhook, URL: url + "/retrain?key=hidden", Inputs: map[string]string{"model": "churn"}}
	link, err := d.send(t.Context(), testToken)
	require.NoError(t, err)
	require.Equal(t, "https://train.example.com/runs/7", link)

	_, err = d.send(t.Context(), "wrong")
	require.ErrorContains(t, err, "answers 403")
	require.NotContains(t, err.Error(), "hidden")
}

func TestDispatchIsSentOnce(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	elsewhere := receiver(t, func(http.ResponseWriter, *http.Request) { t.Error("the token went elsewhere") })
	status := http.StatusInternalServerError
	url := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		if status == http.StatusTemporaryRedirect {
			w.Header().Set("Location", elsewhere)
		}
		w.WriteHeader(status)
	})
	d := Dispatch{Receiver: Webhook, URL: url}

	// Who knows what it has begun before it broke.
	_, err := d.send(t.Context(), testToken)
	require.ErrorContains(t, err, "answers 500")
	require.ErrorIs(t, err, ErrUnknown)
	require.False(t, graph.IsTransient(err))

	status = http.StatusServiceUnavailable
	_, err = d.send(t.Context(), testToken)
	require.True(t, graph.IsTransient(err))

	status = http.StatusTemporaryRedirect
	_, err = d.send(t.Context(), testToken)
	require.ErrorContains(t, err, "it redirects elsewhere, which a token must not follow")
	require.NotErrorIs(t, err, ErrUnknown)
	require.Equal(t, int32(3), calls.Load())

	closed := httptest.NewServer(http.NotFoundHandler())
	d.URL = closed.URL
	closed.Close()
	_, err = d.send(t.Context(), testToken)
	require.ErrorContains(t, err, "can't be reached")
	require.True(t, graph.IsTransient(err), "nothing was sent")

	silent := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client has gone
		<-r.Context().Done()
	})
	d = Dispatch{Receiver: Webhook, URL: silent, Client: &http.Client{Timeout: 50 * time.Millisecond}}
	_, err = d.send(t.Context(), testToken)
	require.Error(t, err)
	require.False(t, graph.IsTransient(err), "it was sent, and may have been heard")
}

func TestDispatchLacks(t *testing.T) {
	t.Parallel()
	for said, d := range map[string]Dispatch{
		"set drift.retrain.dispatch.to":         {},
		"set drift.retrain.dispatch.url":        {Receiver: Webhook},
		"set drift.retrain.dispatch.repository": {Receiver: GitHub},
		"RETRAIN_TOKEN":                         {Receiver: GitLab, Repository: "12"},
	} {
		require.ErrorContains(t, d.Check(), said)
		_, err := d.Send(t.Context())
		require.ErrorContains(t, err, said)
	}
	require.NoError(t, Dispatch{Receiver: GitHub, Repository: "acme/scores", Token: &dagger.Secret{}}.Check())
	_, err := Dispatch{Receiver: Webhook, URL: "mailto:x"}.send(t.Context(), "")
	require.ErrorContains(t, err, "no web address")
}
