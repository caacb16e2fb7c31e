package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/millrace-ci/millrace/"

// layers are the packages' places, from the top down. A package imports only packages of layers below its own.
var layers = []struct {
	name     string
	packages []string
}{
	{"entry points", []string{"ci", "ci/enginetest"}},
	{"the engine, and what is kept between runs", []string{"ci/engine", "ci/folder"}},
	{"what it is made of", []string{"ci/embedded"}},
	{"the graphs", []string{"pipelines"}},
	{"steps that use other steps", []string{"pipelines/load", "pipelines/model"}},
	{"steps", []string{"pipelines/python", "pipelines/golang", "pipelines/codecov", "pipelines/kube", "pipelines/notify", "pipelines/drift"}},
	{"stores, which steps write to", []string{"pipelines/store"}},
	{"images, which steps run in", []string{"pipelines/image", "pipelines/codecov/codecovtest", "pipelines/notify/notifytest"}},
	{"what steps share", []string{"pipelines/step", "pipelines/canary", "pipelines/gate"}},
	{"reports", []string{"pipelines/report"}},
	{"leaves", []string{"pipelines/graph", "pipelines/host", "pipelines/project"}},
	{"what leaves share", []string{"pipelines/spelling"}},
}

func TestDependenciesPointDown(t *testing.T) {
	t.Parallel()
	layer := map[string]int{}
	for i, l := range layers {
		for _, p := range l.packages {
			layer[p] = i
		}
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "../...").Output()
	require.NoError(t, err)
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		own := strings.TrimPrefix(p.ImportPath, module)
		at, known := layer[own]
		require.True(t, known, "%s has no layer: give it one in this test", own)
		seen++
		for _, i := range p.Imports {
			if own == "pipelines/graph" || own == "pipelines/report" || own == "pipelines/host" || own == "pipelines/project" {
				require.NotEqual(t, "dagger.io/dagger", i, "%s knows nothing of Dagger", own)
			}
			if other, inside := strings.CutPrefix(i, module); inside {
				require.Greater(t, layer[other], at, "%s (%s) imports %s (%s)", own, layers[at].name, other, layers[layer[other]].name)
			}
		}
	}
	require.Positive(t, seen)
}
