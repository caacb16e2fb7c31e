package enginetest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// The module has a cluster train as the command line does, also on drift, and says what it lacks.
func TestModuleTrainsInAPod(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	place := namespace(t)
	cable := newCable(t, cluster(t))
	b := newBucketServer(t, "models")
	source, reference, current := lessons(t, edits{"train.py": podsTrain, "millrace.yaml": fmt.Sprintf(`data: [{name: rows}]
models:
  - name: well
    dockerfile: Dockerfile
    command: [python, train.py, well, "{out}"]
    inputs: [rows]
    memory_mib: 128
    runner: kubernetes
    kubernetes: {namespace: %s}
drift: {name: well, columns: {id: {ignore: true}}}
`, place)}), t.TempDir(), t.TempDir()
	edit(t, reference, edits{"then.csv": people(1, 1000, 0)})
	edit(t, current, edits{"today.csv": people(2, 1000, 0.6)})
	root, err := filepath.Abs(repository)
	require.NoError(t, err)
	call := func(t *testing.T, function string, more ...string) called {
		t.Helper()
		argv := []string{
			"dagger", "call", "--progress=plain", "--mod", root, function, "--source=" + source, "--data=" + filepath.Join(source, "data"),
			"--store=s3://models/team", "--endpoint=" + b.url, "--aws-access-key-id=env:KEY", "--aws-secret-access-key=env:SECRET",
			"--registry=" + running(t).Registry + "/jobs-test",
		}
		return onEngineWith(t, t.TempDir(), []string{"KEY=" + bucketKey, "SECRET=" + bucketSecret, "KUBE_CONFIG_TRAINING=" + cable.text}, append(argv, more...)...)
	}
	kubeconfig := []string{"--kubeconfig=env:KUBE_CONFIG_TRAINING", "--server=tcp://" + cable.listener.Addr().String()}
	drifted := []string{"--retrain=inline", "--reference=" + reference, "--current=" + current}

	for function, args := range map[string][]string{"training": nil, "drift": drifted} {
		done := call(t, function, args...)
		require.Equal(t, 2, done.code, "%s", done.stderr)
		require.Contains(t, done.stderr, "well is trained on a cluster, and there is no kubeconfig for it: set KUBE_CONFIG_TRAINING, or with dagger call give --kubeconfig=env:KUBE_CONFIG_TRAINING")
	}

	done := call(t, "training", kubeconfig...)
	require.Zero(t, done.code, "%s", done.stderr)
	require.Regexp(t, `✓ register-well `, done.stdout)
	require.Contains(t, done.stderr, "train-well: the Job millrace-train-well-")
	require.Contains(t, done.stderr, "train-well: training well with step 1")
	require.NotContains(t, done.stdout+done.stderr, bucketSecret)
	none(t, place)
	archives, err := filepath.Glob(filepath.Join(b.folder, "models/team/trainings/well/*/outputs.tar"))
	require.NoError(t, err)
	require.Len(t, archives, 1)

	t.Run("on drift", func(t *testing.T) {
		rows, err := os.ReadFile(filepath.Join(source, "data", "rows.csv"))
		require.NoError(t, err)
		last := rows[bytes.LastIndexByte(bytes.TrimSpace(rows), '\n')+1:]
		edit(t, source, edits{"data/rows.csv": string(rows) + string(last)}) // else there would be nothing to train
		done := call(t, "drift", append(drifted, kubeconfig...)...)
		require.Zero(t, done.code, "%s", done.stderr)
		require.Contains(t, done.stdout, "a model trained anew that passed its gates")
		require.Contains(t, done.stderr, "train-well: the Job millrace-train-well-")
		none(t, place)

		// What was retrained lies where the models lie, where no other place is named.
		done = call(t, "drift", append(drifted, kubeconfig...)...)
		require.Equal(t, graph.Failed.ExitCode(), done.code, "%s", done.stderr)
		require.Contains(t, done.stderr, "not retrained: cooldown")
	})
}
