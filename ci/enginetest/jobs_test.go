package enginetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// trainer trains a source's models by the library, with a bucket and the shared cluster.
type trainer struct {
	t      *testing.T
	source string
	bucket *bucketServer
	// folder of the bucket that models go to.
	folder string

	mu   sync.Mutex
	said []string
}

func newTrainer(t *testing.T, source string) *trainer {
	t.Helper()
	needsEngine(t)
	cluster(t) // from here on, the engine's network is there
	return &trainer{t: t, source: source, bucket: newBucketServer(t, "models"), folder: "team"}
}

// inputs are those of a run for the models named.
func (r *trainer) inputs(models ...string) pipelines.Inputs {
	r.t.Helper()
	c := client(r.t)
	p, err := project.Detect(project.FS(os.DirFS(r.source)), nil)
	require.NoError(r.t, err)
	return pipelines.Inputs{
		Client: c, Project: p, Now: time.Now(), Ref: host.Ref{Event: host.Manual, SHA: sha, Branch: "main"},
		Source:   c.Host().Directory(r.source, dagger.HostDirectoryOpts{NoCache: true}),
		Registry: pipelines.Registry{Address: running(r.t).Registry + "/jobs-test"},
		Training: pipelines.TrainingInputs{
			Data: model.Folder{Directory: c.Host().Directory(filepath.Join(r.source, "data")), Name: "data"}, Models: models,
			Store: store.Bucket{Client: c, URL: "s3://models/" + r.folder, Endpoint: r.bucket.url, Credentials: map[string]*dagger.Secret{
				"AWS_ACCESS_KEY_ID": c.SetSecret("jobs-key", bucketKey), "AWS_SECRET_ACCESS_KEY": c.SetSecret("jobs-secret", bucketSecret),
			}},
			Clusters: map[string]kube.Cluster{"KUBE_CONFIG_TRAINING": cluster(r.t)},
		},
		Delivery: pipelines.Delivery{Progress: func(node, text string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.said = append(r.said, node+": "+text)
		}},
	}
}

// heard returns what was told so far, and forgets it.
func (r *trainer) heard() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := strings.Join(r.said, "\n")
	r.said = nil
	return text
}

func (r *trainer) train(ctx context.Context, in pipelines.Inputs) map[string]graph.Record {
	r.t.Helper()
	require.NoError(r.t, pipelines.CheckTraining(in))
	began := time.Now()
	result := pipelines.Training(in).Run(ctx, graph.KeepGoing())
	require.NoError(r.t, result.Err)
	nodes := map[string]graph.Record{}
	for _, n := range result.Nodes {
		r.t.Logf("%-16s %-12s %6.1fs %s", n.Name, n.Verdict, n.Duration.Seconds(), n.Reason)
		nodes[n.Name] = n
	}
	r.t.Logf("%s after %s", result.Verdict, time.Since(began).Round(100*time.Millisecond))
	return nodes
}

// versionOf returns the version of a model that a run has registered.
func versionOf(t *testing.T, nodes map[string]graph.Record, name string) string {
	t.Helper()
	registered, ok := nodes["register-"+name].Value.(model.Registered)
	require.True(t, ok, "%+v", nodes["register-"+name])
	require.NotEmpty(t, registered.Version)
	return registered.Version
}

// onCluster has a source's models trained in a namespace.
func onCluster(t *testing.T, source, namespace string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(source, "millrace.yaml"))
	require.NoError(t, err)
	edit(t, source, edits{"millrace.yaml": string(text) + fmt.Sprintf("\ntraining: {runner: kubernetes, kubernetes: {namespace: %s}}\n", namespace)})
}

// none waits until a namespace has nothing that training has made.
func none(t *testing.T, namespace string) {
	t.Helper()
	require.Eventually(t, func() bool {
		left := kubectl(t, "get", "jobs,pods,secrets", "--namespace", namespace, "--selector", "app.kubernetes.io/managed-by=millrace", "-o", "name")
		return left == ""
	}, 90*time.Second, time.Second, "something is left in %s", namespace)
}

// A model that is trained in a pod is the same version as one that is trained on the engine: every byte of its outputs,
// its evaluation and its record is.
func TestTrainingInAPod(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := filepath.Join(t.TempDir(), "customer-intelligence")
	require.NoError(t, os.CopyFS(source, os.DirFS(repository+"/examples/customer-intelligence")))
	r := newTrainer(t, source)
	r.folder = "engine"
	want := versionOf(t, r.train(t.Context(), r.inputs("churn")), "churn")
	require.NotContains(t, r.heard(), "the Job")

	place := namespace(t)
	kubectl(t, "label", "namespace", place, "pod-security.kubernetes.io/enforce=restricted")
	onCluster(t, source, place)
	r.folder = "cluster"
	nodes := r.train(t.Context(), r.inputs("churn"))
	heard := r.heard()
	t.Log(heard)
	require.Equal(t, want, versionOf(t, nodes, "churn"))
	require.Contains(t, heard, "train-churn: the Job millrace-train-churn-")
	require.Contains(t, nodes["image-training"].Value.(model.Image).Reference, "@sha256:")
	none(t, place)

	t.Run("what was trained is not trained again", func(t *testing.T) {
		again := r.train(t.Context(), r.inputs("churn"))
		require.Equal(t, graph.Passed, again["train-churn"].Verdict)
		require.NotContains(t, r.heard(), "the Job")
		require.Contains(t, again["register-churn"].Reason, "it is the champion already")
	})
}

// podsTrain is a program that ends in the way that it is told.
const podsTrain = `import json, os, pathlib, sys, time
how, out = sys.argv[1], pathlib.Path(sys.argv[2])
step = next((a.removeprefix("--step=") for a in sys.argv if a.startswith("--step=")), "1")
print("training", how, "with step", step, flush=True)
if step == "broken":
    raise SystemExit("the step is no number")
if how == "hang":
    time.sleep(3600)
if how == "memory":
    held = [b"x" * (64 << 20) for _ in range(32)]
(out / "metrics.json").write_text(json.dumps({"step": float(step)}))
(out / "who.txt").write_text(str(os.getuid()))
`

func TestTrainingsInPodsThatEndBadly(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	place, full := namespace(t), namespace(t)
	apply(t, full, "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {requests.cpu: 100m}}}")
	source := lessons(t, edits{"train.py": podsTrain, "millrace.yaml": fmt.Sprintf(`data: [{name: rows}]
training: {runner: kubernetes, kubernetes: {namespace: %s}}
models:
  - name: grid
    dockerfile: Dockerfile
    command: [python, train.py, grid, "{out}", "{data.rows}"]
    inputs: [rows]
    memory_mib: 128
    grid: {step: ["1", broken, "3"]}
    choose: {metric: step}
  - {name: well, dockerfile: Dockerfile, inputs: [rows], memory_mib: 128, command: [python, train.py, well, "{out}"]}
  - {name: memory, dockerfile: Dockerfile, inputs: [rows], memory_mib: 128, command: [python, train.py, memory, "{out}"]}
  - {name: hang, dockerfile: Dockerfile, inputs: [rows], memory_mib: 128, command: [python, train.py, hang, "{out}"], timeout: 5s}
  - name: nowhere
    dockerfile: Dockerfile
    command: [python, train.py, well, "{out}"]
    inputs: [rows]
    memory_mib: 128
    kubernetes: {namespace: %s, node_selector: {accelerator: none}, start_within: 5s}
  - name: quota
    dockerfile: Dockerfile
    command: [python, train.py, well, "{out}"]
    inputs: [rows]
    memory_mib: 128
    kubernetes: {namespace: %s}
`, place, place, full)})
	r := newTrainer(t, source)
	nodes := r.train(t.Context(), r.inputs())
	heard := r.heard()
	t.Log(heard)

	require.Equal(t, graph.Passed, nodes["jobs-grid"].Verdict)
	require.Equal(t, graph.Passed, nodes["train-grid-1"].Verdict)
	require.Equal(t, graph.Failed, nodes["train-grid-2"].Verdict)
	require.Contains(t, nodes["train-grid-2"].Reason, "it ended with exit code 1: the step is no number")
	require.Equal(t, graph.Passed, nodes["train-grid-3"].Verdict, "one index that fails stops no other")
	require.Contains(t, heard, "jobs-grid: [3] training grid with step 3")
	require.Equal(t, graph.Passed, nodes["register-well"].Verdict, "a model needs no gates")
	for name, want := range map[string]struct {
		verdict graph.Verdict
		reason  string
	}{
		"memory":  {graph.Failed, "out of memory"},
		"hang":    {graph.Failed, "timed out after 5 s"},
		"nowhere": {graph.Errored, "didn't match Pod's node affinity/selector"},
		"quota":   {graph.Errored, "quota is used up"},
	} {
		node := nodes["train-"+name]
		require.Equal(t, want.verdict, node.Verdict, name)
		require.Contains(t, node.Reason, want.reason)
		require.Less(t, strings.Count(node.Reason, "\n"), 5)
	}
	require.Contains(t, heard, "train-nowhere: the cluster has no place for it yet: ")
	none(t, place)
	none(t, full)

	t.Run("what ended is not trained again, and what ran out of time is", func(t *testing.T) {
		again := r.train(t.Context(), r.inputs("grid", "hang"))
		require.Equal(t, graph.Failed, again["train-grid-2"].Verdict)
		heard := r.heard()
		require.NotContains(t, heard, "jobs-grid: the Job")
		require.Contains(t, heard, "train-hang: the Job")
	})
}

// What a run that was killed has left, the next one removes; one that is interrupted leaves nothing.
func TestTrainingInAPodIsEnded(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	place := namespace(t)
	source := lessons(t, edits{"train.py": podsTrain, "millrace.yaml": fmt.Sprintf(`data: [{name: rows}]
models:
  - name: hang
    dockerfile: Dockerfile
    command: [python, train.py, hang, "{out}"]
    inputs: [rows]
    memory_mib: 128
    runner: kubernetes
    kubernetes: {namespace: %s}
`, place)})
	bucket, kubeconfig := newBucketServer(t, "models"), withEnv("KUBE_CONFIG_TRAINING="+newCable(t, cluster(t)).text)
	args := []string{"training", "--store", "s3://models/team"}

	killed := start(t, source, args, bucket.environment(), kubeconfig)
	require.Eventually(t, func() bool { return strings.Contains(killed.stderr.String(), "train-hang: training hang") }, 5*time.Minute, 100*time.Millisecond, "it does not come so far")
	require.NoError(t, syscall.Kill(-killed.cmd.Process.Pid, syscall.SIGKILL))
	require.Error(t, <-killed.ended)
	time.Sleep(5 * time.Second) // the engine's last look at the Job ends
	left := kubectl(t, "get", "jobs", "--namespace", place, "-o", "jsonpath={.items[*].metadata.name}")
	require.Regexp(t, `^millrace-train-hang-[0-9a-f]+$`, left)
	// Nobody waits here until it counts as left.
	kubectl(t, "annotate", "job", left, "--namespace", place, "--overwrite", "millrace.dev/seen=0")

	interrupted := start(t, source, args, bucket.environment(), kubeconfig)
	require.Eventually(t, func() bool { return strings.Contains(interrupted.stderr.String(), "train-hang: training hang") }, 5*time.Minute, 100*time.Millisecond, "it does not come so far")
	require.Contains(t, interrupted.stderr.String(), "train-hang: removed the Job "+left+", which a run that was killed had left")
	require.NoError(t, syscall.Kill(-interrupted.cmd.Process.Pid, syscall.SIGINT))
	got := interrupted.wait(t, time.Minute)
	require.Equal(t, 130, got.code)
	require.Equal(t, graph.Cancelled, got.node(t, "train-hang").Verdict)
	none(t, place)
}

// A Job whose pods the cluster can't start says why on one screen.
func TestAJobWithoutItsImage(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	place := namespace(t)
	got, err := kube.Job{
		Name: "millrace-train-none", Where: project.Kubernetes{Namespace: place, StartWithin: time.Minute}, Count: 1, Watch: "train",
		Image: running(t).Registry + "/jobs-test/none:1", Steps: []kube.JobStep{{Name: "fetch", Argv: []string{"true"}}, {Name: "train", Argv: []string{"true"}}},
		CPUs: 1, MemoryMiB: 64, Timeout: time.Minute,
	}.Run(t.Context(), client(t), cluster(t))
	require.NoError(t, err)
	t.Log(got.Screen)
	require.NotEqual(t, graph.Passed, got.Verdict)
	require.Contains(t, got.Reason, "/jobs-test/none:1 can't be pulled")
	require.Contains(t, got.Screen, "ImagePull")
	none(t, place)
}
