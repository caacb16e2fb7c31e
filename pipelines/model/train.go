package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Image is what a model is trained in.
type Image struct {
	step.Result
	Container *dagger.Container
	// Digest names its content: that of its manifest where it was pulled, of its file system and configuration where it was built.
	Digest string
	// Reference is what a cluster pulls it by, with the digest of its manifest; empty where no cluster is to.
	Reference string
}

// Content names what an image holds, and with what environment, user and folder it starts, by a digest. The engine could as well, but
// forgets it with the session: for an image of some size that is most of what a run takes in which nothing has changed.
func Content(ctx context.Context, c *dagger.Client, image *dagger.Container) (string, error) {
	ctr, err := container(ctx, c, "rootfs.py")
	if err != nil {
		return "", err
	}
	done, err := run(ctx, ctr.WithMountedDirectory("/image", image.Rootfs()), "rootfs", "/image")
	if err != nil {
		return "", err
	}
	files, err := done.Stdout(ctx)
	if err != nil {
		return "", err
	}
	config, err := configOf(ctx, c, image)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(files) + "\n" + config))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// configOf returns what else of an image a command sees, in one form always.
func configOf(ctx context.Context, c *dagger.Client, image *dagger.Container) (string, error) {
	id, err := image.ID(ctx)
	if err != nil {
		return "", step.Explain(err)
	}
	var answer struct {
		LoadContainerFromID struct {
			EnvVariables  []struct{ Name, Value string }
			User, Workdir string
		}
	}
	question := dagger.Request{
		Query:     "query($id: ContainerID!){loadContainerFromID(id: $id){envVariables{name value} user workdir}}",
		Variables: map[string]any{"id": id},
	}
	if err := c.Do(ctx, &question, &dagger.Response{Data: &answer}); err != nil {
		return "", step.Explain(err)
	}
	found := answer.LoadContainerFromID
	slices.SortFunc(found.EnvVariables, func(a, b struct{ Name, Value string }) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.Marshal(found)
	return string(text), err
}

// Points returns every combination of the grid's values, in one order always; one empty one for a model without a grid.
func Points(m project.Model) []map[string]string {
	points := []map[string]string{{}}
	for _, name := range slices.Sorted(maps.Keys(m.Grid)) {
		var more []map[string]string
		for _, p := range points {
			for _, value := range m.Grid[name] {
				next := maps.Clone(p)
				next[name] = value
				more = append(more, next)
			}
		}
		points = more
	}
	return points
}

// Train trains a model in its own container, with limits on time, memory and processors.
//
// The memory of all its processes is looked at ten times a second, and the training is ended when it is beyond the limit;
// it is bound to as many processors as it may use. The engine gives containers no limits of their own.
type Train struct {
	Model project.Model
	// Parameters are those of one point of the grid.
	Parameters map[string]string
}

// Trained is a training that has ended well.
type Trained struct {
	step.Result
	// Outputs are what it wrote.
	Outputs    *dagger.Directory
	Parameters map[string]string
	Command    []string
	// Libraries are the versions of what is installed in the image.
	Libraries map[string]string
	Image     Image
	Data      Data
}

const (
	trainingFolder = "/training"
	// exitStopped is the supervisor's, for a training that ran out of time or memory.
	exitStopped = 200
)

// supervised is what the supervisor says of a training.
type supervised struct {
	Status, Reason string
	Stopped        string
	PeakMiB        int `json:"peak_mib"`
	Tail           []string
	Libraries      map[string]string
}

// Run trains. The verdict is failed when the training ends badly, takes too long or too much memory, or leaves no metrics
// or such as are no numbers. What failed for want of time or memory runs again the next time; all else is cached.
func (t Train) Run(ctx context.Context, c *dagger.Client, img Image, data Data) (Trained, error) {
	m := t.Model
	out := Trained{Parameters: t.Parameters, Image: img, Data: data, Command: t.Argv(data)}
	ctr, err := t.Container(ctx, c, img, data)
	if err != nil {
		return out, err
	}
	ctr = ctr.WithExec(append([]string{"python3", toolsFolder + "/supervise.py", settingsFile}, out.Command...))
	ctr, err = ctr.Sync(ctx)
	if said, ok := stopped(err); ok {
		out.Verdict, out.Reason, out.Output = graph.Failed, m.Name+": "+said.Stopped, strings.Join(said.Tail, "\n")
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("train %s: %w", m.Name, step.Explain(err))
	}
	return out, t.read(ctx, c, ctr, &out)
}

// Container is what the command runs in: the image, with the tables that it needs and a folder that its outputs go below.
func (t Train) Container(ctx context.Context, c *dagger.Client, img Image, data Data) (*dagger.Container, error) {
	user, err := img.Container.User(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the image of %s: %w", t.Model.Name, step.Explain(err))
	}
	inputs := c.Directory()
	for _, table := range data.Tables {
		if slices.Contains(t.Model.Inputs, table.Name) {
			inputs = inputs.WithFile(table.Path, data.Directory.File(table.Path))
		}
	}
	ctr, err := withPrograms(img.Container, "supervise.py")
	if err != nil {
		return nil, err
	}
	if ctr, err = withSettings(ctr, t.settings()); err != nil {
		return nil, err
	}
	return ctr.
		WithDirectory(trainingFolder, c.Directory(), dagger.ContainerWithDirectoryOpts{Owner: user}).
		WithMountedDirectory(dataFolder, inputs), nil
}

// settings are the supervisor's.
func (t Train) settings() map[string]any {
	m := t.Model
	return map[string]any{
		"out": trainingFolder + "/out", "log": trainingFolder + "/log.txt", "result": trainingFolder + "/result.json",
		"metrics": m.Metrics, "seed": m.Seed, "cpus": m.CPUs, "memory_mib": m.MemoryMiB, "seconds": m.Timeout.Seconds(),
	}
}

// read reads what the supervisor has left in a container.
func (t Train) read(ctx context.Context, c *dagger.Client, ctr *dagger.Container, out *Trained) error {
	m := t.Model
	text, err := ctr.File(trainingFolder + "/result.json").Contents(ctx)
	if err != nil {
		return fmt.Errorf("train %s: %w", m.Name, step.Explain(err))
	}
	var said supervised
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		return fmt.Errorf("read what came of training %s: %w", m.Name, err)
	}
	out.Verdict, out.Output, out.Libraries = graph.Passed, strings.Join(said.Tail, "\n"), said.Libraries
	out.Metrics = map[string]float64{"peak_memory_mib": float64(said.PeakMiB)}
	out.Outputs = ctr.Directory(trainingFolder + "/out")
	out.Reports = c.Directory().WithFile("log.txt", ctr.File(trainingFolder+"/log.txt")).WithDirectory("outputs", out.Outputs)
	if said.Status != "trained" {
		out.Verdict, out.Reason = graph.Failed, m.Name+": "+said.Reason
		if cause := lastWords(said.Tail); cause != "" && !strings.Contains(said.Reason, "metric") {
			out.Reason += ": " + cause
		}
	}
	return nil
}

// lastWords returns the last line that a training printed.
func lastWords(tail []string) string {
	for _, line := range slices.Backward(tail) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// stopped returns what the supervisor said of a training that it has ended.
func stopped(err error) (said supervised, ok bool) {
	var exec *dagger.ExecError
	if !errors.As(err, &exec) || exec.ExitCode != exitStopped {
		return said, false
	}
	return lastSaid(exec.Stderr)
}

// stoppedPrefix begins the line by which the supervisor says that it has ended a training.
const stoppedPrefix = `{"stopped": `

// lastSaid reads that line, which is the last.
func lastSaid(text string) (said supervised, ok bool) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, stoppedPrefix) {
		return said, false
	}
	err := json.Unmarshal([]byte(last), &said)
	return said, err == nil
}

// Argv is the command, with its placeholders filled in: tables below /data, outputs in /training/out.
func (t Train) Argv(data Data) []string {
	holes := []string{"{out}", trainingFolder + "/out", "{seed}", fmt.Sprint(t.Model.Seed)}
	for _, table := range data.Tables {
		holes = append(holes, "{data."+table.Name+"}", dataFolder+"/"+table.Path)
	}
	replacer := strings.NewReplacer(holes...)
	argv := make([]string, 0, len(t.Model.Command)+len(t.Parameters))
	for _, word := range t.Model.Command {
		argv = append(argv, replacer.Replace(word))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		argv = append(argv, "--"+name+"="+t.Parameters[name])
	}
	return argv
}
