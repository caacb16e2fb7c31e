package kube

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

var update = flag.Bool("update", false, "write the screens of testdata/diagnosis anew")

// The states in testdata/diagnosis are what kubectl printed of a real cluster while a release did not come up. Each has, in a
// text beside it, the verdict, the time that the trouble is given, and the screen that a person gets to see.
func TestDiagnosis(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/diagnosis/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	words := map[string]string{"crash": "starting\nno model at /models: set MODEL_DIR\n", "job": "no table\n"}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			s, err := stateOf(string(text))
			require.NoError(t, err)
			id := ID{APIVersion: "apps/v1", Kind: "Deployment", Name: "app"}
			if name == "job" {
				id = ID{APIVersion: "batch/v1", Kind: "Job", Name: "migrate"}
			}
			w := s.find(id)
			require.NotNil(t, w)
			_, up := w.up()
			require.False(t, up)
			when := "early"
			trouble := s.troubleOf(id, false)
			if trouble == nil {
				when, trouble = "when its time is up", s.troubleOf(id, true)
			}
			require.NotNil(t, trouble)
			got := fmt.Sprintf("%s, %s, after %s\n%s", trouble.verdict, when, trouble.patience, s.screen(trouble, words[name]))
			require.LessOrEqual(t, strings.Count(got, "\n"), 25, "it does not fit on a screen")
			golden := strings.TrimSuffix(file, ".json") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
				return
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
		})
	}
}

func TestWhatIsUpHasNoTrouble(t *testing.T) {
	t.Parallel()
	objects, err := parse("d.yaml", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, uid: d, generation: 3}
spec: {replicas: 2}
status: {observedGeneration: 3, replicas: 2, updatedReplicas: 2, availableReplicas: 2}
`)
	require.NoError(t, err)
	w := objects[0]
	for name, test := range map[string]struct {
		path  []string
		value string
	}{
		"the controller has not seen it": {[]string{"metadata", "generation"}, "4"},
		"an old pod is left":             {[]string{"status", "replicas"}, "3"},
		"a pod is of the old template":   {[]string{"status", "updatedReplicas"}, "1"},
		"a pod is not ready":             {[]string{"status", "availableReplicas"}, "1"},
	} {
		o := w.clone()
		_, up := o.up()
		require.True(t, up)
		o.set(json.Number(test.value), test.path...)
		_, up = o.up()
		require.False(t, up, name)
	}
	require.Nil(t, state{workloads: objects}.troubleOf(w.ID(), false))
	gone := state{}.troubleOf(w.ID(), true)
	require.Equal(t, graph.Failed, gone.verdict)
	require.Contains(t, gone.cause, "somebody deleted it")
}
