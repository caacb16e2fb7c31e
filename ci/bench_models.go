package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// The times that are aimed at, on 2 cores.
const (
	boundTraining  = 90 * time.Second
	boundUntrained = 3 * time.Second
	boundDrift     = 60 * time.Second
	boundDriftMiB  = 2048
	// A training may take so much more than its command bare.
	boundTrainingRatio = 1.15
)

// training runs the graph as a user would, with a store of its own.
func (b *bench) training(ctx context.Context, store string) (time.Duration, error) {
	return b.ci(ctx, "training", "--data", filepath.Join(b.source, "data"), "--store", filepath.Join(b.folder, store), "--out", b.out)
}

// trained times trainings that nothing is known of: the code that the models are trained by has changed, and the store is
// empty. What has to be installed is installed by one run before.
func (b *bench) trained(ctx context.Context) error {
	if len(b.project.Models) == 0 {
		return usagef("%s has no models to train", b.Source)
	}
	if _, err := b.training(ctx, "first"); err != nil {
		return err
	}
	file := b.modelCode()
	run := 0
	times, err := b.repeat(func() error { return b.edit(file) }, func() (time.Duration, error) {
		run++
		return b.training(ctx, "store-"+strconv.Itoa(run))
	})
	if err != nil {
		return err
	}
	nodes, err := b.nodes()
	if err != nil {
		return err
	}
	b.add(fmt.Sprintf("%d models trained anew, after an edit to %s", len(b.project.Models), file), times, boundTraining, "the last run: "+nodes)
	return nil
}

// modelCode is a file that the image of the first model reads: its Dockerfile, if nothing smaller is known.
func (b *bench) modelCode() string {
	m := b.project.Models[0]
	for _, img := range b.project.Images {
		if img.Name != m.Image && img.Dockerfile != m.Dockerfile {
			continue
		}
		for _, word := range m.Command {
			name := strings.ReplaceAll(word, ".", "/") + ".py"
			if _, err := os.Stat(filepath.Join(b.source, filepath.FromSlash(name))); err == nil {
				return name
			}
		}
		return img.Dockerfile
	}
	return m.Dockerfile
}

// bareTraining times the models' commands by themselves, one after the other in one container, and holds the slowest
// against the time that the graph takes to train all of them side by side.
func (b *bench) bareTraining(ctx context.Context) error {
	run, err := b.record()
	if err != nil {
		return err
	}
	var begin, end time.Time
	for _, n := range run.Nodes {
		if !strings.HasPrefix(n.Name, "train-") || n.Started == nil {
			continue
		}
		if begin.IsZero() || n.Started.Before(begin) {
			begin = *n.Started
		}
		if ended := n.Started.Add(time.Duration(n.Seconds * float64(time.Second))); ended.After(end) {
			end = ended
		}
	}
	var slowest time.Duration
	for _, m := range b.project.Models {
		times, err := b.repeat(nil, func() (took time.Duration, err error) {
			err = b.session(ctx, func(c *dagger.Client, in pipelines.Inputs) error {
				took, err = b.bareModel(ctx, c, in, m.Name)
				return err
			})
			return took, err
		})
		if err != nil {
			return err
		}
		b.add("the command of "+m.Name+" bare", times, 0, "in its container, without its start")
		slowest = max(slowest, middle(times))
	}
	ratio := end.Sub(begin).Seconds() / slowest.Seconds()
	b.rows = append(b.rows, figure{
		scenario: "all trainings side by side / the slowest bare", median: fmt.Sprintf("%.2f", ratio),
		bound: strconv.FormatFloat(boundTrainingRatio, 'f', -1, 64), ratio: fmt.Sprintf("%.2f", ratio/boundTrainingRatio),
		note: fmt.Sprintf("%.1f s from the first one's start to the last one's end", end.Sub(begin).Seconds()),
	})
	return nil
}

//go:embed bench_model.py
var bareModelScript string

// bareModel runs a model's command without the step.
func (b *bench) bareModel(ctx context.Context, c *dagger.Client, in pipelines.Inputs, name string) (time.Duration, error) {
	img, m, err := pipelines.TrainingImage(ctx, in, name)
	if err != nil {
		return 0, err
	}
	data := model.Data{Directory: c.Host().Directory(filepath.Join(b.source, "data"))}
	for _, t := range b.project.Data {
		data.Tables = append(data.Tables, model.Table{Name: t.Name, Path: t.Path})
	}
	argv := model.Train{Model: m}.Argv(data)
	text, err := img.Container.
		WithUser("root").
		WithMountedDirectory("/data", data.Directory).
		WithNewFile("/bench.py", bareModelScript).
		WithEnvVariable("MILLRACE_BENCH", time.Now().Format(time.RFC3339Nano)).
		WithExec(append([]string{"python3", "/bench.py"}, argv...)).File("/took.txt").Contents(ctx)
	if err != nil {
		return 0, fmt.Errorf("train %s bare: %w", name, step.Explain(err))
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return 0, fmt.Errorf("train %s bare: %w", name, err)
	}
	fmt.Fprintf(b.stderr, "%8.2f s  %s bare\n", seconds, name)
	return time.Duration(seconds * float64(time.Second)), nil
}

// untrained times a run in which nothing has changed.
func (b *bench) untrained(ctx context.Context) error {
	times, err := b.repeat(nil, func() (time.Duration, error) { return b.training(ctx, "store-"+strconv.Itoa(b.Runs)) })
	if err != nil {
		return err
	}
	nodes, err := b.nodes()
	if err != nil {
		return err
	}
	b.add("nothing changed, and nothing trained", times, boundUntrained, nodes)
	return nil
}

// drift times the comparison of two large tables, each time with another one of today.
func (b *bench) drift(ctx context.Context) error {
	const rows, columns = 1_000_000, 50
	reference, current := filepath.Join(b.folder, "reference.csv"), filepath.Join(b.folder, "current.csv")
	if err := writeTable(reference, 0, rows, columns); err != nil {
		return err
	}
	// Nothing of the source's configuration is about these tables.
	b.source = filepath.Join(b.folder, "nothing")
	if err := os.Mkdir(b.source, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.source, "millrace.yaml"), []byte("drift: {}\n"), 0o644); err != nil {
		return err
	}
	run := 0
	times, err := b.repeat(func() error {
		run++
		return writeTable(current, uint64(run), rows, columns)
	}, func() (time.Duration, error) {
		return b.ci(ctx, "drift", "--reference", reference, "--current", current, "--state", filepath.Join(b.folder, "state"), "--out", b.out)
	})
	if err != nil {
		return err
	}
	nodes, err := b.nodes()
	if err != nil {
		return err
	}
	said, err := os.ReadFile(filepath.Join(b.out, "reports", "detect", "measure.stderr.txt"))
	if err != nil {
		return err
	}
	var seconds, mib float64
	if _, err := fmt.Sscanf(string(said), "%f s of processor time, %f MiB", &seconds, &mib); err != nil {
		return fmt.Errorf("read what the detector took: %w", err)
	}
	b.add(fmt.Sprintf("drift of %d rows by %d columns", rows, columns), times, boundDrift, nodes)
	b.rows = append(b.rows, figure{
		scenario: "memory of that, at most", median: fmt.Sprintf("%.0f MiB", mib), bound: fmt.Sprintf("%d MiB", boundDriftMiB),
		ratio: fmt.Sprintf("%.2f", mib/boundDriftMiB), note: fmt.Sprintf("%.0f s of processor time", seconds),
	})
	return nil
}

// writeTable writes a table of numbers and categories. Tables with different seeds are of one distribution.
func writeTable(name string, seed uint64, rows, columns int) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	random := rand.New(rand.NewPCG(seed, 1))
	var line []byte
	for i := range columns {
		line = append(line, fmt.Sprintf("c%d,", i)...)
	}
	for row := range rows + 1 {
		if row > 0 {
			line = line[:0]
			for i := range columns {
				if i%5 == 0 {
					line = append(line, 'a'+byte(random.IntN(8)))
				} else {
					line = strconv.AppendFloat(line, random.NormFloat64()*10, 'f', 4, 64)
				}
				line = append(line, ',')
			}
		}
		line[len(line)-1] = '\n'
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return w.Flush()
}
