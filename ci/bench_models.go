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
	"runtime"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// The times that are aimed at, on 2 cores.
const (
	boundTraining  = 90 * time.Second
	boundUntrained = 3 * time.Second
	boundDrift     = 60 * time.Second
	boundDriftMiB  = 2048
	// Trainings side by side may take so much more than the slowest one's command bare, besides set-up.
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

// bareTraining times the models' commands by themselves, one after the other in one container, and holds the slowest against
// the time that the step takes to train all of them side by side, less what it takes when their commands do nothing.
func (b *bench) bareTraining(ctx context.Context) error {
	var slowest, work time.Duration
	for _, m := range b.project.Models {
		var used time.Duration
		times, err := b.repeat(nil, func() (took time.Duration, err error) {
			err = b.session(ctx, func(c *dagger.Client, in pipelines.Inputs) error {
				took, used, err = b.bareModel(ctx, c, in, m.Name)
				return err
			})
			return took, err
		})
		if err != nil {
			return err
		}
		b.add("the command of "+m.Name+" bare", times, 0, fmt.Sprintf("in its container, without its start; %.1f s of processor time", used.Seconds()))
		slowest, work = max(slowest, middle(times)), work+used
	}
	// Whatever the models would do is left out, but not what the step looks for at the end.
	nothing := func(m project.Model) project.Model {
		m.Command = []string{"python3", "-c", `import sys; open(sys.argv[1], "w").write('{"nothing": 0}')`, "{out}/" + m.Metrics}
		return m
	}
	setUp, err := b.sideBySide(ctx, "set-up of all trainings", nothing)
	if err != nil {
		return err
	}
	whole, err := b.sideBySide(ctx, "all trainings", func(m project.Model) project.Model { return m })
	if err != nil {
		return err
	}
	b.add("the step for all of them side by side, with commands that do nothing: set-up", setUp, 0, "")
	b.add("the step for all of them side by side", whole, 0, "")
	ratio := (middle(whole) - middle(setUp)).Seconds() / slowest.Seconds()
	b.rows = append(b.rows, figure{
		scenario: "all trainings side by side, less set-up / the slowest bare", median: fmt.Sprintf("%.2f", ratio),
		bound: strconv.FormatFloat(boundTrainingRatio, 'f', -1, 64), ratio: fmt.Sprintf("%.2f", ratio/boundTrainingRatio),
		note: fmt.Sprintf("%d processors can't do better than %.2f", runtime.NumCPU(), max(1, work.Seconds()/float64(runtime.NumCPU())/slowest.Seconds())),
	})
	return nil
}

// sideBySide times the step that trains, for all models at once.
func (b *bench) sideBySide(ctx context.Context, what string, changed func(project.Model) project.Model) ([]time.Duration, error) {
	return b.repeat(nil, func() (took time.Duration, err error) {
		return took, b.session(ctx, func(c *dagger.Client, in pipelines.Inputs) error {
			var images []model.Image
			for _, m := range b.project.Models {
				img, _, err := pipelines.TrainingImage(ctx, in, m.Name)
				if err != nil {
					return err
				}
				// The engine knows no training in this image.
				img.Container = img.Container.WithEnvVariable("MILLRACE_BENCH", time.Now().Format(time.RFC3339Nano))
				images = append(images, img)
			}
			started := time.Now()
			var g errgroup.Group
			for i, m := range b.project.Models {
				g.Go(func() error {
					got, err := model.Train{Model: changed(m)}.Run(ctx, c, images[i], b.tables(c))
					if err == nil && got.Verdict != graph.Passed {
						err = fmt.Errorf("train %s: %s", m.Name, got.Reason)
					}
					return err
				})
			}
			err := g.Wait()
			took = time.Since(started)
			fmt.Fprintf(b.stderr, "%8.2f s  %s\n", took.Seconds(), what)
			return err
		})
	})
}

// tables are those of the source.
func (b *bench) tables(c *dagger.Client) model.Data {
	data := model.Data{Directory: c.Host().Directory(filepath.Join(b.source, "data"))}
	for _, t := range b.project.Data {
		data.Tables = append(data.Tables, model.Table{Name: t.Name, Path: t.Path})
	}
	return data
}

//go:embed bench_model.py
var bareModelScript string

// bareModel runs a model's command without the step, and returns how long that took and how much processor time.
func (b *bench) bareModel(ctx context.Context, c *dagger.Client, in pipelines.Inputs, name string) (took, used time.Duration, err error) {
	img, m, err := pipelines.TrainingImage(ctx, in, name)
	if err != nil {
		return 0, 0, err
	}
	data := b.tables(c)
	argv := model.Train{Model: m}.Argv(data)
	text, err := img.Container.
		WithUser("root").
		WithMountedDirectory("/data", data.Directory).
		WithNewFile("/bench.py", bareModelScript).
		WithEnvVariable("MILLRACE_BENCH", time.Now().Format(time.RFC3339Nano)).
		WithExec(append([]string{"python3", "/bench.py"}, argv...)).File("/took.txt").Contents(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("train %s bare: %w", name, step.Explain(err))
	}
	var seconds, processor float64
	if _, err := fmt.Sscan(text, &seconds, &processor); err != nil {
		return 0, 0, fmt.Errorf("train %s bare: %w", name, err)
	}
	fmt.Fprintf(b.stderr, "%8.2f s  %s bare\n", seconds, name)
	return time.Duration(seconds * float64(time.Second)), time.Duration(processor * float64(time.Second)), nil
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
