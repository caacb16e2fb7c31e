package python

import (
	"context"
	"fmt"
	"slices"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Format rewrites Python code with isort and black, by the same settings as [Lint].
//
// It runs again when a Python file or the settings of either tool change.
type Format struct {
	// Python is the version of Python, for example "3.12"; empty means 3.11.
	Python string
	// Paths are the files and folders to format; empty means all.
	Paths []string
}

// Formatted is what [Format] made of a source tree.
type Formatted struct {
	step.Result
	// Source is the source tree with the changes in it.
	Source *dagger.Directory
	// Changed are the files that the tools rewrote, sorted.
	Changed []string
}

// Run formats src. The verdict is passed whether or not something changed, and failed when a file is no valid Python.
//
// Metrics: changed_files.
func (f Format) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (Formatted, error) {
	var files []string
	var said settings
	var base *dagger.Container
	var tree step.Source
	setup, setupCtx := errgroup.WithContext(ctx)
	setup.Go(func() (err error) { files, err = pythonFiles(setupCtx, src); return err })
	setup.Go(func() (err error) { said, err = readSettings(setupCtx, src); return err })
	setup.Go(func() (err error) { base, err = installer(setupCtx, c, f.Python); return err })
	setup.Go(func() (err error) { tree, err = step.OpenSource(setupCtx, c, src); return err })
	if err := setup.Wait(); err != nil {
		return Formatted{}, err
	}
	if len(files) == 0 {
		return Formatted{Result: step.Skip("no Python files to format"), Source: src}, nil
	}

	before := code(tree, append([]string{"**/.gitignore"}, isortFiles...)...)
	paths := orDot(f.Paths)
	ctr := base.
		WithMountedDirectory(toolsDir, toolbox(base, lintLock)).
		WithDirectory(sourceDir, before).
		WithDirectory(reportsDir, c.Directory()). // the engine does not make the folder that output is redirected to
		WithWorkdir(sourceDir)
	// isort first: black has the last word on the layout of what isort moved.
	isort, err := step.Exec(ctx, ctr, reportsDir, "isort",
		slices.Concat([]string{toolsDir + "/bin/isort"}, isortDefaults(said), []string{"--"}, paths))
	if err != nil {
		return Formatted{}, err
	}
	if isort.ExitCode != 0 {
		tail, _ := isort.Tail(ctx)
		return Formatted{}, broke("isort", isort.ExitCode, tail)
	}
	black, err := step.Exec(ctx, isort.Container, reportsDir, "black",
		append([]string{toolsDir + "/bin/black", "--no-color", "--"}, paths...))
	if err != nil {
		return Formatted{}, err
	}
	versions := pins(lintLock)
	out := Formatted{
		Result: step.Result{
			Verdict: graph.Passed,
			Tools:   map[string]string{"black": versions["black"], "isort": versions["isort"]},
			Reports: black.Container.Directory(reportsDir),
		},
	}
	if black.ExitCode != 0 {
		stderr, err := black.Stderr(ctx)
		if err != nil {
			return Formatted{}, err
		}
		findings, err := parseBlack("", stderr, black.ExitCode)
		if err != nil {
			return Formatted{}, err
		}
		// What black has rewritten is no finding here; what it could not is.
		out.Findings = slices.DeleteFunc(findings, func(f report.Finding) bool { return f.Rule == "black" })
		out.Verdict, out.Reason, out.Output = graph.Failed, "black: "+count(out.Findings), stderr
	}
	after := black.Container.Directory(sourceDir)
	changes := after.Changes(before)
	if out.Changed, err = changes.ModifiedPaths(ctx); err != nil {
		return Formatted{}, fmt.Errorf("compare the formatted source: %w", step.Explain(err))
	}
	slices.Sort(out.Changed)
	out.Source = src.WithChanges(changes)
	out.Metrics = map[string]float64{"changed_files": float64(len(out.Changed))}
	return out, nil
}
