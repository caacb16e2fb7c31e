package image

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

const traceparent = " [traceparent:f4276d31d7a9d1436af17695c0ec741c-1072d2193ed7a728]"

// The texts were captured from builds that went wrong on the engine v0.19.10, with the names of images and files adapted,
// except for "missing base without tag" and "quoted command", which follow the same patterns.
func TestDiagnoseFindsTheFault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ dockerfile, text, want string }{
		"unknown instruction": {"FROM scratch\nCOPPY a.txt /\n", "dockerfile parse error on line 2: unknown instruction: COPPY (did you mean COPY?)" + traceparent,
			"api: d/api.Dockerfile:2: the Dockerfile can't be parsed: unknown instruction: COPPY (did you mean COPY?)"},
		"one argument": {"FROM scratch\nCOPY a.txt\n", "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined" + traceparent,
			"api: d/api.Dockerfile:2: the Dockerfile can't be parsed: COPY requires at least two arguments, but only one was provided. Destination could not be determined"},
		"empty":        {"", "the Dockerfile cannot be empty" + traceparent, "api: d/api.Dockerfile: the Dockerfile can't be used: the Dockerfile cannot be empty"},
		"comments":     {"# x\n", "file with no instructions" + traceparent, "api: d/api.Dockerfile: the Dockerfile can't be used: file with no instructions"},
		"no FROM":      {"RUN true\n", "no build stage in current context" + traceparent, "api: d/api.Dockerfile: the Dockerfile can't be used: no build stage in current context"},
		"heredoc":      {"FROM a\nRUN <<EOF\n", "unterminated heredoc" + traceparent, "api: d/api.Dockerfile: the Dockerfile can't be used: unterminated heredoc"},
		"blank base":   {"FROM $X\n", "base name ($X) should not be blank" + traceparent, "api: d/api.Dockerfile: the Dockerfile can't be used: base name ($X) should not be blank"},
		"bad base":     {"FROM UPPER/Case:1\n", `failed to parse stage name "UPPER/Case:1": invalid reference format: repository name (Case) must be lowercase` + traceparent, `api: d/api.Dockerfile: the Dockerfile can't be used: failed to parse stage name "UPPER/Case:1": invalid reference format: repository name (Case) must be lowercase`},
		"circle":       {"", "circular dependency detected on stage: a" + traceparent, "api: d/api.Dockerfile: the Dockerfile can't be used: circular dependency detected on stage: a"},
		"no stage":     {"FROM scratch\n", `target stage "nope" could not be found` + traceparent, "api: d/api.Dockerfile: there is no stage nope: correct the target in the configuration"},
		"no secret":    {"FROM a\n", "secret not found: x", "api: d/api.Dockerfile: the Dockerfile can't be used: secret not found: x"},
		"no user":      {"FROM a\n", "unable to find user nobodyhere: no matching entries in passwd file", "api: d/api.Dockerfile: the Dockerfile can't be used: unable to find user nobodyhere: no matching entries in passwd file"},
		"missing file": {"FROM a\nCOPY x /\ncopy nope.txt /\n", `failed to compute cache key: failed to calculate checksum of ref cdhgp9wo1vpjbf5lx3k5mqbpm::rgt2n246mpnppk08vp9vs1l20: "/nope.txt": not found`, "api: d/api.Dockerfile:3: it copies nope.txt, which is not in the build context backend, or which .dockerignore leaves out"},
		"missing in a stage": {"FROM a AS x\nFROM b\nCOPY --from=x /nope /\n", "lstat /nope: no such file or directory",
			"api: d/api.Dockerfile:3: it copies /nope from x, which has no such file"},
		"missing base": {"FROM golang:1.26 AS x\nFROM --platform=linux/amd64 nosuchbase:1 AS y\n", "nosuchbase:1: failed to resolve source metadata for docker.io/library/nosuchbase:1: docker.io/library/nosuchbase:1: not found" + traceparent,
			"api: d/api.Dockerfile:2: the base image docker.io/library/nosuchbase:1 does not exist, or needs a login: check its name and tag in FROM"},
		"missing base without tag": {"FROM nosuchbase\n", "nosuchbase: failed to resolve source metadata for docker.io/library/nosuchbase:latest: docker.io/library/nosuchbase:latest: not found",
			"api: d/api.Dockerfile:1: the base image docker.io/library/nosuchbase:latest does not exist, or needs a login: check its name and tag in FROM"},
		"stage that is none": {"FROM scratch\nCOPY --from=nostage /x /\n", "nostage: failed to resolve source metadata for docker.io/library/nostage:latest: docker.io/library/nostage:latest: not found" + traceparent,
			"api: d/api.Dockerfile:2: --from names no stage, and the image docker.io/library/nostage:latest does not exist, or needs a login: correct the name"},
		"command": {"FROM a\nRUN --mount=type=cache,target=/x true && \\\n    ls /nope\n", `process "/bin/sh -c true &&     ls /nope" did not complete successfully: exit code: 2`,
			"api: d/api.Dockerfile:2: RUN true && ls /nope ended with exit code 2"},
		"quoted command": {"FROM a\nRUN echo \"x\" && exit 3\n", `process "/bin/sh -c echo \"x\" && exit 3" did not complete successfully: exit code: 3`,
			`api: d/api.Dockerfile:2: RUN echo "x" && exit 3 ended with exit code 3`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := diagnose(Spec{Name: "api", Dockerfile: "d/api.Dockerfile", Context: "backend"}, test.dockerfile, errors.New(test.text))
			var f *fault
			require.ErrorAs(t, err, &f)
			require.EqualError(t, f, test.want)
			require.NotContains(t, f.document(), "traceparent")
		})
	}
}

func TestDiagnoseLeavesTheMachineryAlone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err       error
		want      string
		transient bool
	}{
		"no host": {errors.New(`registry.invalid/x:1: failed to resolve source metadata for registry.invalid/x:1: failed to do request: Head "https://registry.invalid/v2/x/manifests/1": dial tcp: lookup registry.invalid on 10.88.0.1:53: no such host` + traceparent),
			`build api (Dockerfile:1): get registry.invalid/x:1: failed to do request: Head "https://registry.invalid/v2/x/manifests/1": dial tcp: lookup registry.invalid on 10.88.0.1:53: no such host: check the host in the image's name, and the engine's network`, false},
		"refused": {errors.New(`127.0.0.1:1/x:1: failed to resolve source metadata for 127.0.0.1:1/x:1: failed to do request: Head "http://127.0.0.1:1/v2/x/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused` + traceparent),
			`build api (Dockerfile): get 127.0.0.1:1/x:1: failed to do request: Head "http://127.0.0.1:1/v2/x/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused`, true},
		"download refused": {errors.New(`failed to load cache key: Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused`),
			`build api (Dockerfile): failed to load cache key: Get "http://127.0.0.1:1/x": dial tcp 127.0.0.1:1: connect: connection refused`, true},
		"engine gone": {errors.New(`returned error 502: {"data":null,"errors":[{"message":"http do: Post \"http://dagger/query\": unexpected EOF"}]}`),
			`build api (Dockerfile): returned error 502: {"data":null,"errors":[{"message":"http do: Post \"http://dagger/query\": unexpected EOF"}]}`, false},
		"killed": {errors.New(`process "/bin/sh -c kill -9 $$" did not complete successfully: exit code: 137`),
			"build api (Dockerfile): RUN kill -9 $$ was killed (exit code 137), most likely because memory ran out: give the engine more memory, or split the work", false},
		"cancelled": {fmt.Errorf("input: %w", context.Canceled), "build api: input: context canceled", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := diagnose(Spec{Name: "api", Dockerfile: "Dockerfile", Context: "."}, "FROM registry.invalid/x:1\n", test.err)
			var f *fault
			require.NotErrorAs(t, err, &f)
			require.EqualError(t, err, test.want)
			require.Equal(t, test.transient, graph.IsTransient(err))
		})
	}
}
