package project_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

func TestParseDockerfile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text   string
		target string
		args   map[string]string
		want   project.Dockerfile
	}{
		"plain": {"FROM python:3.11-slim\nCOPY requirements.txt .\nADD ./src/ /app/\n", "", nil,
			project.Dockerfile{Bases: []string{"python:3.11-slim"}, Reads: []string{"requirements.txt", "src"}, Stages: []string{"0"}}},
		"within another": {"FROM a\nCOPY backend/api/x backend /\nCOPY backend-x /\n", "", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"backend", "backend-x"}, Stages: []string{"0"}}},
		"everything": {"FROM a\nCOPY x /\nCOPY . /app\n", "", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"."}, Stages: []string{"0"}}},
		"stages": {"FROM golang:1.26 AS build\nCOPY go.mod .\nFROM alpine\nCOPY --from=build /x /x\nCOPY --from=busybox:1 /bin/sh /sh\n", "", nil,
			project.Dockerfile{Bases: []string{"alpine", "busybox:1", "golang:1.26"}, Reads: []string{"go.mod"}, Stages: []string{"build", "1"}}},
		"only the stages that the target needs": {"FROM a AS base\nCOPY x /\nFROM base AS test\nCOPY tests /\nFROM scratch AS run\nCOPY --from=base /x /\n", "run", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"x"}, Stages: []string{"base", "test", "run"}}},
		"target by number and case": {"FROM a AS Base\nCOPY x /\nFROM b\n", "BASE", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"x"}, Stages: []string{"base", "1"}}},
		"argument with default": {"ARG V=3.11\nFROM python:${V}-slim\nARG DIR=src\nENV SUB=$DIR/a\nCOPY $SUB ${X:-lib} /\n", "", nil,
			project.Dockerfile{Bases: []string{"python:3.11-slim"}, Reads: []string{"lib", "src/a"}, Stages: []string{"0"}}},
		"argument given": {"ARG V=3.11\nFROM python:$V\nARG V\nCOPY req-$V.txt /\n", "", map[string]string{"V": "3.13"},
			project.Dockerfile{Bases: []string{"python:3.13"}, Reads: []string{"req-3.13.txt"}, Stages: []string{"0"}}},
		"variables of the stage below": {"FROM a AS one\nENV D=src\nFROM one\nCOPY $D /\n", "", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"src"}, Stages: []string{"one", "1"}}},
		"unknown variable reads all": {"FROM a\nCOPY $FROM_THE_BASE/x /\n", "", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"."}, Stages: []string{"0"}}},
		"platform in the base": {"FROM --platform=$BUILDPLATFORM golang:1 AS b\nFROM gcr.io/x-$TARGETARCH\nCOPY --from=b /x /\n", "", nil,
			project.Dockerfile{Bases: []string{"golang:1"}, Stages: []string{"b", "1"}}},
		"what is fetched elsewhere": {"FROM a\nADD https://example.com/x.tgz git@github.com:a/b.git local /\nCOPY <<EOF /x\nhello\nEOF\n", "", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"local"}, Stages: []string{"0"}}},
		"mounts": {"FROM a AS one\nFROM b\nRUN --mount=type=bind,source=go.sum,target=go.sum --mount=type=cache,target=/c --mount=type=bind,from=one,source=/x,target=/x --mount=type=bind,from=tools:1,target=/t true\n", "", nil,
			project.Dockerfile{Bases: []string{"a", "b", "tools:1"}, Reads: []string{"go.sum"}, Stages: []string{"one", "1"}}},
		"mount of everything": {"FROM b\nRUN --mount=type=bind,target=/src true\n", "", nil,
			project.Dockerfile{Bases: []string{"b"}, Reads: []string{"."}, Stages: []string{"0"}}},
		"wildcards, spaces, json and escapes": {"FROM a\nCOPY [\"a file\", \"*.txt\", \"../up\", \"/abs\", \"/to/\"]\n", "", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"*.txt", "a file", "abs", "up"}, Stages: []string{"0"}}},
		"windows": {"# escape=`\nFROM a\nCOPY a `\n  b /\n", "", nil,
			project.Dockerfile{Bases: []string{"a"}, Reads: []string{"a", "b"}, Stages: []string{"0"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := project.ParseDockerfile("Dockerfile", []byte(test.text), test.target, test.args)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestParseDockerfileMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, target, want string }{
		{"FROM a\nRUNN x\n", "", "d/D:2: unknown instruction: RUNN (did you mean RUN?)\n    RUNN x"},
		{"FROM a\n\nCOPY x\n", "", "d/D:3: COPY requires at least two arguments, but only one was provided. Destination could not be determined\n    COPY x"},
		{"RUN x\n", "", "d/D:1: no build stage in current context\n    RUN x"},
		{"", "", "d/D: file with no instructions"},
		{"# only a comment\n", "", "d/D:1: file with no instructions\n    # only a comment"},
		{"ARG X=1\n", "", "d/D: it has no FROM instruction"},
		{"FROM a\nEXPOSE\n", "", "d/D:2: EXPOSE requires at least one argument\n    EXPOSE"},
		{"FROM a AS x\n", "y", `d/D: it has no stage "y" to build: its stages are x`},
		{"ARG V\nFROM python:$V\n", "", `d/D:2: the base image "python:$V" has a variable without a value: give it a default, or a build argument` + "\n    FROM python:$V"},
		{"FROM a\nCOPY --form=x y z\n", "", "d/D:2: unknown flag: --form (did you mean from?)\n    COPY --form=x y z"},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			_, err := project.ParseDockerfile("d/D", []byte(test.text), test.target, nil)
			require.EqualError(t, err, test.want)
			require.ErrorAs(t, err, new(*project.SyntaxError))
		})
	}
}

func FuzzParseDockerfile(f *testing.F) {
	f.Add("FROM a AS b\nARG X=${Y:-z}\nCOPY --from=b $X /\nRUN --mount=type=bind,from=b,target=/x <<EOF\nx\nEOF\n", "b")
	f.Add("FROM ${A\n", "")
	f.Add("FROM a\nRUN --mount=type=$X y\n", "0")
	f.Fuzz(func(t *testing.T, text, target string) {
		var err error
		promptly(t, text, func() { _, err = project.ParseDockerfile("Dockerfile", []byte(text), target, nil) })
		if err != nil && !errors.As(err, new(*project.SyntaxError)) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
