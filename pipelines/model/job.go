package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// Carrier is a store that pods can be let into without its credentials: data goes to them through it, and what they made
// comes back.
type Carrier interface {
	store.Store
	// Fetch returns a folder with the objects named, those that exist.
	Fetch(ctx context.Context, c *dagger.Client, names []string) (*dagger.Directory, error)
	// Sign returns addresses by which whoever has them may GET or PUT the objects named, for some time.
	Sign(ctx context.Context, method string, names []string, valid time.Duration) ([]string, error)
}

var _ Carrier = store.Bucket{}

// Job trains the points of a model's grid in pods of a cluster: one in a Job, several in an Indexed Job, each by what [Train]
// runs in a container of the engine.
//
// The tables go into the store under their digests, and the pods get addresses that let them read these and write their
// outputs, and nothing else. What came of a point lies in the store under the digest of all that it was made of, so that what
// was trained once, or before a run broke off, is not trained again. As on the engine, that does not hold for what ran out of time or memory.
type Job struct {
	Model   project.Model
	Points  []map[string]string
	Cluster kube.Cluster
	Store   Carrier
	// Progress is told what the trainings print, in lines; nil tells nobody.
	Progress func(string)
}

// Grid is what a [Job] left.
type Grid struct {
	// Result is not passed if the cluster could not run the trainings. That one of them failed, its own result says.
	step.Result
	// Trained has a training for each point, in their order.
	Trained []Trained
}

// signedFor is how much longer than the Job signed addresses hold.
const signedFor = time.Hour

// maxTail is how many of a training's last lines are shown.
const maxTail = 20

// Run trains.
func (j Job) Run(ctx context.Context, c *dagger.Client, img Image, data Data) (Grid, error) {
	trainings, folders := make([]Train, len(j.Points)), make([]string, len(j.Points))
	for i, point := range j.Points {
		trainings[i] = Train{Model: j.Model, Parameters: point}
		folder, err := j.folder(trainings[i], img, data)
		if err != nil {
			return Grid{}, err
		}
		folders[i] = folder
	}
	grid := Grid{Result: step.Result{Verdict: graph.Passed}, Trained: make([]Trained, len(j.Points))}
	found, err := j.fetch(ctx, c, folders)
	if err != nil {
		return grid, err
	}
	var missing []int
	for i := range j.Points {
		if found[folders[i]] == nil {
			missing = append(missing, i)
		}
	}
	var ran kube.JobResult
	if len(missing) > 0 {
		if ran, err = j.pods(ctx, c, img, data, trainings, folders, missing); err != nil {
			return grid, fmt.Errorf("train %s: %w", j.Model.Name, err)
		}
		if found, err = j.fetch(ctx, c, folders); err != nil {
			return grid, err
		}
	}
	for i, t := range trainings {
		grid.Trained[i] = Trained{Parameters: t.Parameters, Image: img, Data: data, Command: t.Argv(data)}
		if archive := found[folders[i]]; archive != nil {
			if err := t.unpack(ctx, c, archive, &grid.Trained[i]); err != nil {
				return grid, err
			}
			continue
		}
		if ran.Verdict != graph.Passed {
			grid.Verdict, grid.Reason, grid.Output = ran.Verdict, j.Model.Name+": "+ran.Reason, ran.Screen
			grid.Trained[i].Result = grid.Result
			continue
		}
		if err := j.judge(ran.Ended[slices.Index(missing, i)], &grid.Trained[i]); graph.IsTransient(err) {
			return grid, err
		} else if err != nil {
			// The other points have gone their way.
			reason, _, _ := strings.Cut(err.Error(), "\n")
			grid.Trained[i].Verdict, grid.Trained[i].Reason = graph.Errored, reason
		}
	}
	return grid, nil
}

// folder is where what comes of a training lies: all that decides about it is in the name.
func (j Job) folder(t Train, img Image, data Data) (string, error) {
	supervisor, err := tools.ReadFile("tools/supervise.py")
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{
		"image": img.Digest, "data": data.Version(t.Model.Inputs...), "command": t.Argv(data), "seed": t.Model.Seed,
		"cpus": t.Model.CPUs, "metrics": t.Model.Metrics, "supervisor": string(supervisor), "resources": t.Model.Kubernetes.Resources,
	})
	if err != nil {
		return "", fmt.Errorf("name what comes of training %s: %w", t.Model.Name, err)
	}
	sum := sha256.Sum256(text)
	return "trainings/" + t.Model.Name + "/sha256-" + hex.EncodeToString(sum[:]), nil
}

const (
	archiveName = "outputs.tar"
	// digestSuffix names the file with an archive's digest. It is written last, and the store's client checks it.
	digestSuffix = ".sha256"
)

// fetch returns the archives that lie whole in the store, by their folders.
func (j Job) fetch(ctx context.Context, c *dagger.Client, folders []string) (map[string]*dagger.File, error) {
	var names []string
	for _, folder := range folders {
		names = append(names, folder+"/"+archiveName, folder+"/"+archiveName+digestSuffix)
	}
	dir, err := j.Store.Fetch(ctx, c, names)
	if err != nil {
		return nil, fmt.Errorf("look for trainings of %s in %s: %w", j.Model.Name, j.Store, err)
	}
	there, err := dir.Glob(ctx, "trainings/**/*"+digestSuffix)
	if err != nil {
		return nil, fmt.Errorf("look for trainings of %s in %s: %w", j.Model.Name, j.Store, step.Explain(err))
	}
	found := map[string]*dagger.File{}
	for _, folder := range folders {
		if slices.Contains(there, folder+"/"+archiveName+digestSuffix) {
			found[folder] = dir.File(folder + "/" + archiveName)
		}
	}
	return found, nil
}

// pods has pods train the points that are missing.
func (j Job) pods(ctx context.Context, c *dagger.Client, img Image, data Data, trainings []Train, folders []string, missing []int) (kube.JobResult, error) {
	m := j.Model
	user, err := userOf(ctx, img)
	if err != nil {
		return kube.JobResult{}, fmt.Errorf("look at the image: %w", err)
	}
	job := kube.Job{
		Name: "millrace-train-" + strings.ReplaceAll(m.Name, "_", "-"), Where: *m.Kubernetes, Image: img.Reference, Count: len(missing),
		Steps: []kube.JobStep{
			{Name: "fetch", Argv: []string{"python3", toolsFolder + "/point.py", "fetch"}},
			{Name: "train", Argv: []string{"python3", toolsFolder + "/point.py", "train"}},
			{Name: "put", Argv: []string{"python3", toolsFolder + "/point.py", "put"}},
		},
		Watch: "train", Files: map[string]string{}, Folders: []string{dataFolder, trainingFolder},
		User: user, CPUs: m.CPUs, MemoryMiB: m.MemoryMiB, Timeout: m.Timeout,
	}
	if j.Progress != nil {
		job.Progress = func(index int, line string) { j.tell(missing, index, line) }
	}
	for _, name := range []string{"point.py", "supervise.py"} {
		text, err := tools.ReadFile("tools/" + name)
		if err != nil {
			return kube.JobResult{}, err
		}
		job.Files[name] = string(text)
	}
	plan, err := j.plan(ctx, c, data, trainings, folders, missing, job.Deadline()+signedFor)
	if err != nil {
		return kube.JobResult{}, err
	}
	job.Files["plan.json"] = plan
	return job.Run(ctx, c, j.Cluster)
}

// tell passes on a line of a training, and keeps what the supervisor says to this program to itself.
func (j Job) tell(missing []int, index int, line string) {
	switch {
	case strings.HasPrefix(line, stoppedPrefix):
	case index < 0 || len(j.Points) == 1:
		j.Progress(line)
	default:
		j.Progress("[" + strconv.Itoa(missing[index]+1) + "] " + line)
	}
}

// plan puts the tables into the store, and says what the pods are to do. It has signed addresses, and so is secret.
func (j Job) plan(ctx context.Context, c *dagger.Client, data Data, trainings []Train, folders []string, missing []int, valid time.Duration) (string, error) {
	type table struct {
		Path   string `json:"path"`
		SHA256 string `json:"sha256"`
		URL    string `json:"url"`
	}
	type point struct {
		Command []string `json:"command"`
		Archive string   `json:"archive"`
		Digest  string   `json:"digest"`
	}
	var tables []table
	var names []string
	dir, digests := c.Directory(), map[string]string{}
	for _, t := range data.Tables {
		if !slices.Contains(j.Model.Inputs, t.Name) {
			continue
		}
		tables = append(tables, table{Path: t.Path, SHA256: t.SHA256})
		name := "sha256-" + t.SHA256
		names = append(names, "tables/"+name)
		digests[name] = t.SHA256
		dir = dir.WithFile(name, data.Directory.File(t.Path))
	}
	var archives []string
	for _, i := range missing {
		archives = append(archives, folders[i]+"/"+archiveName, folders[i]+"/"+archiveName+digestSuffix)
	}
	var reads, writes []string
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		if err := j.Store.Put(ctx, "tables", dir, digests); err != nil {
			return fmt.Errorf("put the tables into %s: %w", j.Store, err)
		}
		return nil
	})
	work.Go(func() (err error) {
		reads, err = j.Store.Sign(ctx, "GET", names, valid)
		return err
	})
	work.Go(func() (err error) {
		writes, err = j.Store.Sign(ctx, "PUT", archives, valid)
		return err
	})
	if err := work.Wait(); err != nil {
		return "", err
	}
	for i := range tables {
		tables[i].URL = reads[i]
	}
	points := make([]point, 0, len(missing))
	for n, i := range missing {
		points = append(points, point{Command: trainings[i].Argv(data), Archive: writes[2*n], Digest: writes[2*n+1]})
	}
	headers := map[string]string{}
	if strings.HasPrefix(j.Store.String(), "az:") {
		headers["x-ms-blob-type"] = "BlockBlob" // Azure takes no blob without
	}
	text, err := json.Marshal(map[string]any{"tables": tables, "points": points, "headers": headers, "settings": trainings[0].settings()})
	if err != nil {
		return "", fmt.Errorf("write what the pods are to do: %w", err)
	}
	return string(text), nil
}

// userOf returns the number of the image's user; 0 where it has a name or is root, which no pod may be.
func userOf(ctx context.Context, img Image) (int, error) {
	user, err := img.Container.User(ctx)
	if err != nil {
		return 0, step.Explain(err)
	}
	number, _, _ := strings.Cut(user, ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0, nil
	}
	return n, nil
}

// unpack reads what a pod has left.
func (t Train) unpack(ctx context.Context, c *dagger.Client, archive *dagger.File, out *Trained) error {
	ctr, err := container(ctx, c, "unpack.py")
	if err != nil {
		return err
	}
	done, err := run(ctx, ctr.WithMountedFile("/archive.tar", archive).WithDirectory(trainingFolder, c.Directory()), "unpack", "/archive.tar", trainingFolder)
	if err != nil {
		return fmt.Errorf("unpack what came of training %s: %w", t.Model.Name, err)
	}
	return t.read(ctx, c, done.Container, out)
}

// judge says how a training ended that left nothing. An error means that it was not the training's fault.
func (j Job) judge(e kube.Ended, out *Trained) error {
	m := j.Model
	lines := strings.Split(e.Words, "\n")
	// Where the kernel has ended the training and left the supervisor, that can but guess why.
	if said, ok := lastSaid(e.Words); ok && e.ExitCode == exitStopped && !e.OutOfMemory {
		out.Verdict, out.Reason, out.Output = graph.Failed, m.Name+": "+said.Stopped, strings.Join(said.Tail, "\n")
		return nil
	}
	out.Output = strings.Join(lines[max(0, len(lines)-maxTail):], "\n")
	switch {
	case e.Lost != "":
		return graph.Transient(fmt.Errorf("train %s: the cluster ended the pod: %s", m.Name, e.Lost))
	case e.Late:
		out.Verdict, out.Reason = graph.Failed, fmt.Sprintf("%s: timed out: the cluster ended its pod, with %s for the training (timeout)", m.Name, m.Timeout)
	case e.OutOfMemory:
		out.Verdict = graph.Failed
		out.Reason = fmt.Sprintf("%s: out of memory: the cluster ended it, and %d MiB are the limit (memory_mib)", m.Name, m.MemoryMiB)
	case e.NotStarted != "":
		return fmt.Errorf("train %s: its container can't be started: the image needs Python 3: %s", m.Name, e.NotStarted)
	case e.Done:
		return fmt.Errorf("train %s: its pod ended well, and its outputs are not in %s: somebody removed them", m.Name, j.Store)
	case e.Step == "train":
		return fmt.Errorf("train %s: the supervisor ended with exit code %d\n%s", m.Name, e.ExitCode, out.Output)
	default:
		return fmt.Errorf("train %s: the step %s in its pod ended with exit code %d: %s", m.Name, e.Step, e.ExitCode, lastWords(lines))
	}
	return nil
}
