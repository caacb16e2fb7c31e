package image

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"dagger.io/dagger"
	"github.com/distribution/reference"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// The texts for 401, no connection, no host and a lost engine were captured from the engine v0.19.10, with names adapted.
// Those for 403, 404, 429 and 503 are the captured 401 with another status.
func TestPublishExplains(t *testing.T) {
	t.Parallel()
	const head = `failed to export: failed to push r.example:5000/acme/api:sha-0123456: `
	const status = head + `unexpected status from HEAD request to http://r.example:5000/v2/acme/api/blobs/sha256:4ada67a5: `
	named, err := reference.ParseNormalizedNamed("r.example:5000/acme/api")
	require.NoError(t, err)
	with := Publish{Username: "alice", Password: &dagger.Secret{}}
	tests := map[string]struct {
		publish   Publish
		err       error
		want      string
		transient bool
	}{
		"wrong password": {with, errors.New(status + "401 Unauthorized" + traceparent), `publish to r.example:5000: the registry refuses the login of user "alice": check the user name, and that the password is right and has not expired: 401 Unauthorized`, false},
		"no password":    {Publish{}, errors.New(status + "401 Unauthorized" + traceparent), "publish to r.example:5000: the registry wants a login, and none is given: set user name and password: 401 Unauthorized", false},
		"may not push":   {with, errors.New(status + "403 Forbidden" + traceparent), `publish r.example:5000/acme/api:x: user "alice" may not push there: give the account the right to write, or correct the path: 403 Forbidden`, false},
		"no repository":  {with, errors.New(status + "404 Not Found" + traceparent), "publish r.example:5000/acme/api:x: the registry has no such repository: create it, or correct the path: 404 Not Found", false},
		"busy":           {with, errors.New(status + "429 Too Many Requests" + traceparent), "publish to r.example:5000: the registry can't be reached, or is not well: 429 Too Many Requests", true},
		"not well":       {with, errors.New(status + "503 Service Unavailable" + traceparent), "publish to r.example:5000: the registry can't be reached, or is not well: 503 Service Unavailable", true},
		"down": {with, errors.New(head + `failed to do request: Head "http://r.example:5000/v2/acme/api/blobs/sha256:4b3c": dial tcp 127.0.0.1:5055: connect: connection refused` + traceparent),
			"publish to r.example:5000: the registry can't be reached, or is not well: dial tcp 127.0.0.1:5055: connect: connection refused", true},
		"no host": {with, errors.New(head + `failed to do request: Head "https://r.example/v2/acme/api/blobs/sha256:4b3c": dial tcp: lookup r.example on 10.88.0.1:53: no such host` + traceparent),
			"publish to r.example:5000: there is no such host: correct the registry's address: dial tcp: lookup r.example on 10.88.0.1:53: no such host", false},
		"engine gone": {with, errors.New(`returned error 502: {"data":null,"errors":[{"message":"http do: Post \"http://dagger/query\": unexpected EOF"}]}`),
			`publish r.example:5000/acme/api:x: the engine is gone: returned error 502: {"data":null,"errors":[{"message":"http do: Post \"http://dagger/query\": unexpected EOF"}]}`, false},
		"cancelled": {with, fmt.Errorf("input: %w", context.Canceled), "publish r.example:5000/acme/api:x: input: context canceled", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.publish.explain(&push{repository: named}, "r.example:5000/acme/api:x", test.err)
			require.EqualError(t, err, test.want)
			require.Equal(t, test.transient, graph.IsTransient(err))
		})
	}
}

func TestJoinedErrorsPassOnlyTogether(t *testing.T) {
	t.Parallel()
	passing, lasting := graph.Transient(errors.New("503")), errors.New("401")
	require.NoError(t, join([]error{nil, nil}))
	require.True(t, graph.IsTransient(join([]error{passing, nil, passing})))
	mixed := join([]error{passing, lasting, lasting})
	require.EqualError(t, mixed, "503\n401")
	require.False(t, graph.IsTransient(mixed))
	require.ErrorIs(t, mixed, lasting)
}

func TestPublishSkips(t *testing.T) {
	t.Parallel()
	for want, publish := range map[string]Publish{
		"no registry is given: set one to publish to, as host/path":                             {Tags: []string{"main"}},
		"there is no tag to publish under: no branch, Git tag, pull request or commit is known": {Registry: "r.example/acme"},
		"no image was built": {Registry: "r.example/acme", Tags: []string{"main"}},
	} {
		result, err := publish.Run(t.Context(), nil, nil)
		require.NoError(t, err)
		verdict, reason := result.Judgement()
		require.Equal(t, graph.Skipped, verdict)
		require.Equal(t, want, reason)
	}
}

func TestCheckRegistry(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "ghcr.io/acme/ml", "127.0.0.1:5000", "registry.example:443/a/b/", "docker.io/acme"} {
		require.NoError(t, CheckRegistry(good), good)
	}
	require.EqualError(t, CheckRegistry("https://ghcr.io/acme"), `registry "https://ghcr.io/acme": give host[:port]/path without https://`)
	require.ErrorContains(t, CheckRegistry("ghcr.io/Acme"), "in lower case")
	require.Error(t, CheckRegistry("ghcr.io/a b"))
}

func TestBuildWithoutImagesIsSkipped(t *testing.T) {
	t.Parallel()
	result, err := Build{}.Run(t.Context(), nil, nil)
	require.NoError(t, err)
	verdict, reason := result.Judgement()
	require.Equal(t, graph.Skipped, verdict)
	require.Equal(t, "no Dockerfile was found or configured", reason)
}

func TestSpecDefaults(t *testing.T) {
	t.Parallel()
	require.Equal(t, Spec{Context: ".", Dockerfile: "Dockerfile"}, Spec{}.withDefaults())
	require.Equal(t, Spec{Context: "backend", Dockerfile: "backend/Dockerfile"}, Spec{Context: "./backend/"}.withDefaults())
	require.Equal(t, Spec{Context: ".", Dockerfile: "docker/api.Dockerfile"}, Spec{Dockerfile: "./docker/api.Dockerfile"}.withDefaults())
}
