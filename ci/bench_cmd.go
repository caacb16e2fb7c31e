package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

type benchCmd struct {
	sourceFlags
	engineFlag
	Graph  string `enum:"ci-cd,training,drift" default:"ci-cd" placeholder:"NAME" help:"Graph to time: ci-cd, training or drift (default: ci-cd)."`
	Runs   int    `default:"3" placeholder:"N" help:"Runs of each scenario, of which the median counts (default: 3)."`
	Module string `placeholder:"DIR" help:"Folder of the Dagger module whose ci-cd function is timed too."`
}

// The times that are aimed at, on 2 cores.
const (
	boundCLI       = 2 * time.Second
	boundCall      = 3 * time.Second
	boundLintRatio = 1.3
)

// Run measures on a copy of the source, edits that copy, and prints the figures as a Markdown table. It judges nothing.
func (c *benchCmd) Run(ctx context.Context, s *streams) (err error) {
	if c.Runs < 1 {
		return usagef("--runs %d: at least 1 run is needed", c.Runs)
	}
	source, err := c.sourceDir()
	if err != nil {
		return err
	}
	chosen, err := c.choose(ctx, s)
	if err != nil {
		return err
	}
	if err := chosen.Ready(ctx); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b := &bench{benchCmd: c, streams: s, engine: chosen, originals: map[string]string{}, folder: folder, source: filepath.Join(folder, "source"), out: filepath.Join(folder, "out")}
	if err := copyTree(b.source, source); err != nil {
		return fmt.Errorf("copy the source: %w", err)
	}
	if c.Config != "" {
		if c.Config, err = filepath.Abs(c.Config); err != nil {
			return err
		}
	}
	if b.project, err = c.detect(b.source); err != nil {
		return err
	}
	if b.own, err = os.Executable(); err != nil {
		return err
	}
	scenarios := map[string][]func(context.Context) error{
		"ci-cd":    {b.first, b.unchanged, b.readme, b.outside, b.service, b.linters, b.call},
		"training": {b.trained, b.bareTraining, b.untrained},
		"drift":    {b.drift},
	}
	for _, run := range scenarios[c.Graph] {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return b.print()
}

// bench is one run of the command.
type bench struct {
	*benchCmd
	*streams
	engine      *engine.Engine
	project     *project.Project
	own         string // this program
	source, out string
	originals   map[string]string // of the files edited
	folder      string            // for what the scenarios make besides
	rows        []figure
}

// figure is a line of the table. What is not measured in seconds has its own text.
type figure struct {
	scenario string
	median   string
	bound    string
	ratio    string // to the bound
	note     string
}

func (b *bench) add(scenario string, times []time.Duration, bound time.Duration, note string) {
	median := middle(times)
	row := figure{scenario: scenario, median: fmt.Sprintf("%.2f s", median.Seconds()), note: note}
	if bound > 0 {
		row.bound = fmt.Sprintf("%.0f s", bound.Seconds())
		row.ratio = fmt.Sprintf("%.2f", median.Seconds()/bound.Seconds())
	}
	b.rows = append(b.rows, row)
}

func middle(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// ci runs this program as a user would, and returns how long it took from start to end.
func (b *bench) ci(ctx context.Context, args ...string) (time.Duration, error) {
	args = append(args, "--source", b.source, "--engine", string(b.engine.Kind))
	if b.Config != "" {
		args = append(args, "--config", b.Config)
	}
	return b.command(ctx, "", b.own, args...)
}

// command runs a program and returns how long it took. That a verdict is not "passed" is no error: it takes its time too.
func (b *bench) command(ctx context.Context, dir, program string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = os.Environ()
	for _, v := range b.engine.Environment(os.Getenv("PATH")) {
		cmd.Env = append(cmd.Env, v[0]+"="+v[1])
	}
	started := time.Now()
	output, err := cmd.CombinedOutput()
	took := time.Since(started)
	fmt.Fprintf(b.stderr, "%8.2f s  %s\n", took.Seconds(), strings.Join(append([]string{filepath.Base(program)}, args...), " "))
	var failed *exec.ExitError
	if errors.As(err, &failed) && failed.ExitCode() == graph.Failed.ExitCode() {
		return took, nil
	}
	if err != nil {
		return took, fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), args[0], err, output)
	}
	return took, nil
}

// repeat does a thing as often as is asked for. before is not timed; it may be nil.
func (b *bench) repeat(before func() error, timed func() (time.Duration, error)) ([]time.Duration, error) {
	var times []time.Duration
	for range b.Runs {
		if before != nil {
			if err := before(); err != nil {
				return nil, err
			}
		}
		took, err := timed()
		if err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	return times, nil
}

// edit puts a comment behind the last line of a file of the copy, in place of that of the edit before. A comment there
// leaves Python code as clean as it was, so that lint goes on to pass.
func (b *bench) edit(name string) error {
	file := filepath.Join(b.source, filepath.FromSlash(name))
	if _, known := b.originals[file]; !known {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		b.originals[file] = strings.TrimRight(string(text), "\n")
	}
	return os.WriteFile(file, []byte(b.originals[file]+time.Now().Format("  # 20060102T150405.000000")+"\n"), 0o644)
}

func (b *bench) first(ctx context.Context) error {
	took, err := b.ci(ctx, "ci-cd", "--keep-going")
	if err == nil {
		b.add("the first run of this source", []time.Duration{took}, 0, "with whatever the engine remembers of it")
	}
	return err
}

func (b *bench) unchanged(ctx context.Context) error {
	times, err := b.repeat(nil, func() (time.Duration, error) { return b.ci(ctx, "ci-cd", "--keep-going") })
	if err == nil {
		b.add("nothing changed", times, boundCLI, "")
	}
	return err
}

func (b *bench) readme(ctx context.Context) error {
	times, err := b.repeat(func() error { return b.edit("README.md") },
		func() (time.Duration, error) { return b.ci(ctx, "ci-cd", "--keep-going") })
	if err == nil {
		b.add("an edit to README.md", times, boundCLI, "")
	}
	return err
}

// outside edits a Python file that no image is built from.
func (b *bench) outside(ctx context.Context) error {
	name, _, err := b.pythonFile(func(readers int) bool { return readers == 0 })
	if err != nil || name == "" {
		return err
	}
	return b.edited(ctx, "an edit to "+name, name)
}

// service edits a Python file that one image is built from.
func (b *bench) service(ctx context.Context) error {
	name, readers, err := b.pythonFile(func(readers int) bool { return readers == 1 })
	if err != nil || name == "" {
		return err
	}
	return b.edited(ctx, "an edit to "+name+" of the image "+readers[0], name)
}

// edited times runs after edits to a file, and tells which nodes took how long and which images became others.
func (b *bench) edited(ctx context.Context, scenario, name string) error {
	before, err := b.digests(ctx)
	if err != nil {
		return err
	}
	times, err := b.repeat(func() error { return b.edit(name) },
		func() (time.Duration, error) { return b.ci(ctx, "ci-cd", "--keep-going", "--out", b.out) })
	if err != nil {
		return err
	}
	after, err := b.digests(ctx)
	if err != nil {
		return err
	}
	var other []string
	for image, digest := range after {
		if before[image] != digest {
			other = append(other, image)
		}
	}
	slices.Sort(other)
	nodes, err := b.nodes()
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%d of %d images changed", len(other), len(after))
	if len(other) > 0 {
		note += " (" + strings.Join(other, ", ") + ")"
	}
	b.add(scenario, times, 0, note+"; "+nodes)
	return nil
}

// record reads what the last run has left.
func (b *bench) record() (report.Run, error) {
	var run report.Run
	data, err := os.ReadFile(filepath.Join(b.out, "run.json"))
	if err != nil {
		return run, err
	}
	if err := json.Unmarshal(data, &run); err != nil {
		return run, fmt.Errorf("read run.json: %w", err)
	}
	return run, nil
}

// nodes says how long each node of the last run took.
func (b *bench) nodes() (string, error) {
	run, err := b.record()
	if err != nil {
		return "", err
	}
	var parts []string
	for _, n := range run.Nodes {
		switch n.Verdict {
		case graph.Skipped:
		case graph.Passed:
			parts = append(parts, fmt.Sprintf("%s %.1f s", n.Name, n.Seconds))
		default:
			parts = append(parts, fmt.Sprintf("%s %.1f s (%s)", n.Name, n.Seconds, n.Verdict))
		}
	}
	return strings.Join(parts, ", "), nil
}

// pythonFile finds a Python file, as short as can be, of as many images as suits; its name is empty when there is none.
func (b *bench) pythonFile(suits func(readers int) bool) (name string, readers []string, err error) {
	shortest := int64(-1)
	files := os.DirFS(b.source)
	err = fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) != ".py" || project.Ignored(p) {
			return err
		}
		if !slices.ContainsFunc(b.project.Python.Paths(), func(root string) bool {
			return root == "." || p == root || strings.HasPrefix(p, root+"/")
		}) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		by := b.readersOf(p)
		if suits(len(by)) && info.Size() > 0 && (shortest < 0 || info.Size() < shortest) {
			shortest, name, readers = info.Size(), p, by
		}
		return nil
	})
	return name, readers, err
}

// readersOf names the images whose Dockerfile reads a file.
func (b *bench) readersOf(name string) []string {
	var all []string
	for _, img := range b.project.Images {
		reads := img.Parsed.Reads == nil || slices.ContainsFunc(img.Parsed.Reads, func(pattern string) bool {
			full := path.Join(img.Context, pattern)
			matched, err := path.Match(full, name)
			return full == "." || strings.HasPrefix(name, full+"/") || matched && err == nil
		})
		if reads {
			all = append(all, img.Name)
		}
	}
	return all
}

// session does something with the engine in this process.
func (b *bench) session(ctx context.Context, do func(*dagger.Client, pipelines.Inputs) error) error {
	p := &pipeline{sourceFlags: sourceFlags{Source: b.source, Config: b.Config}}
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	client, err := b.engine.Connect(ctx, io.Discard)
	if err != nil {
		return err
	}
	return errors.Join(do(client, ready.inputs(client, "")), client.Close())
}

// digests names the content of every image.
func (b *bench) digests(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	err := b.session(ctx, func(c *dagger.Client, in pipelines.Inputs) error {
		built, err := image.Build{Images: pipelines.Images(in.Project)}.Run(ctx, c, in.Source)
		if err != nil {
			return err
		}
		for _, img := range built.Images {
			if all[img.Name], err = img.Container.Rootfs().Digest(ctx); err != nil {
				return fmt.Errorf("digest of the image %s: %w", img.Name, step.Explain(err))
			}
		}
		return nil
	})
	return all, err
}

//go:embed bench.py
var bareScript string

// linters times the lint step against the same tools run bare, by xargs, in one container: the same interpreter,
// versions, arguments and caches, and an edit before each run of either, so that the tools' own caches know all but one file.
func (b *bench) linters(ctx context.Context) error {
	name, _, err := b.pythonFile(func(int) bool { return true })
	if err != nil || name == "" {
		return err
	}
	edit := func() error { return b.edit(name) }
	if _, err := b.ci(ctx, "run", "lint"); err != nil { // what is installed is not what is measured
		return err
	}
	whole, err := b.repeat(edit, func() (time.Duration, error) { return b.ci(ctx, "run", "lint", "--out", b.out) })
	if err != nil {
		return err
	}
	nodes, err := b.nodes()
	if err != nil {
		return err
	}
	bare, err := b.repeat(edit, func() (took time.Duration, err error) {
		err = b.session(ctx, func(c *dagger.Client, in pipelines.Inputs) error {
			took, err = b.bare(ctx, in)
			return err
		})
		return took, err
	})
	if err != nil {
		return err
	}
	b.add("five linters bare, with xargs -P2", bare, 0, "in one container, without its start; warm tool caches, one file edited")
	b.add("lint, with the tools installed", whole, 0, "the whole command; warm tool caches, one file edited; the last run's "+nodes)
	ratio := middle(whole).Seconds() / middle(bare).Seconds()
	b.rows = append(b.rows, figure{
		scenario: "lint / bare", median: fmt.Sprintf("%.2f", ratio), bound: strconv.FormatFloat(boundLintRatio, 'f', -1, 64),
		ratio: fmt.Sprintf("%.2f", ratio/boundLintRatio),
	})
	return nil
}

// bare runs the linters of the lint step without the step.
func (b *bench) bare(ctx context.Context, in pipelines.Inputs) (time.Duration, error) {
	ctr, err := pipelines.Container(ctx, in, pipelines.Workplace{Node: "lint", Language: pipelines.Python})
	if err != nil {
		return 0, err
	}
	done := ctr.WithNewFile("/bench.py", bareScript).
		WithEnvVariable("MILLRACE_BENCH", time.Now().Format(time.RFC3339Nano)).
		WithExec([]string{"/usr/local/bin/python", "/bench.py", "/lint", "/took.txt"})
	text, err := done.File("/took.txt").Contents(ctx)
	if err != nil {
		return 0, fmt.Errorf("run the linters bare: %w", step.Explain(err))
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return 0, fmt.Errorf("run the linters bare: %w", err)
	}
	fmt.Fprintf(b.stderr, "%8.2f s  the linters bare\n", seconds)
	return time.Duration(seconds * float64(time.Second)), nil
}

// call times the module's function.
func (b *bench) call(ctx context.Context) error {
	if b.Module == "" {
		return nil
	}
	module, err := filepath.Abs(b.Module)
	if err != nil {
		return err
	}
	cli := "dagger"
	for _, v := range b.engine.Environment("") {
		if dir, ok := strings.CutSuffix(v[1], ":"); ok && v[0] == "PATH" {
			cli = filepath.Join(dir, "dagger")
		}
	}
	run := func() (time.Duration, error) {
		return b.command(ctx, module, cli, "call", "--progress", "plain", "ci-cd", "--source", b.source)
	}
	first, err := run()
	if err != nil {
		return err
	}
	b.add("dagger call, the first one", []time.Duration{first}, 0, "")
	times, err := b.repeat(nil, run)
	if err != nil {
		return err
	}
	b.add("dagger call, nothing changed", times, boundCall, "")
	return nil
}

// print writes the table to stdout.
func (b *bench) print() error {
	fmt.Fprintf(b.stdout, "Medians of %d runs, %s engine %s. The ratio is to the bound.\n\n", b.Runs, b.engine.Kind, b.engine.Version)
	fmt.Fprintln(b.stdout, "| scenario | median | bound | ratio | |")
	fmt.Fprintln(b.stdout, "|---|---:|---:|---:|---|")
	for _, r := range b.rows {
		if _, err := fmt.Fprintf(b.stdout, "| %s | %s | %s | %s | %s |\n", r.scenario, r.median, r.bound, r.ratio, r.note); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies what the pipelines read of a source tree.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(pipelines.Ignore, func(pattern string) bool { return path.Base(pattern) == d.Name() }) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, info.Mode().Perm())
	})
}
