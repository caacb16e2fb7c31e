package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// writeOut writes the run's record in all its forms, and every step's reports, to the folder dir.
// What an earlier run left of either is replaced. A part that can't be written does not keep the others from it.
func writeOut(ctx context.Context, dir string, run report.Run, result *graph.Result) error {
	files, err := report.Files(run)
	failed := []error{err}
	for _, f := range files {
		failed = append(failed, write(dir, f.Name, f.Data))
	}
	failed = append(failed, exportReports(ctx, dir, result))
	return errors.Join(failed...)
}

// leave writes the run's record and its reports to the folder dir, if there is one, and the summary to the job's. The verdict stands,
// whatever becomes of them.
func leave(ctx context.Context, s *streams, dir string, run report.Run, result *graph.Result) {
	if dir != "" {
		if err := writeOut(context.WithoutCancel(ctx), dir, run, result); err != nil {
			fmt.Fprintln(s.stderr, "ci: some reports are missing:", err)
		}
	}
	if err := addSummary(os.Getenv(summaryVariable), run); err != nil {
		fmt.Fprintln(s.stderr, "ci:", err)
	}
}

func exportReports(ctx context.Context, dir string, result *graph.Result) error {
	if err := os.RemoveAll(filepath.Join(dir, "reports")); err != nil {
		return err
	}
	var g errgroup.Group
	for name, reports := range pipelines.Reports(result) {
		g.Go(func() error {
			if _, err := reports.Export(ctx, filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				return fmt.Errorf("export %s: %w", name, step.Explain(err))
			}
			return nil
		})
	}
	return g.Wait()
}

// write makes the file name in dir, whole or not at all.
func write(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}

// summaryVariable names the file that GitHub Actions, Gitea and Forgejo show as the job's summary.
const summaryVariable = "GITHUB_STEP_SUMMARY"

// addSummary appends the run's summary to the job's, where the CI host has one.
func addSummary(name string, run report.Run) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("add to the job summary (%s): %w", summaryVariable, err)
	}
	_, err = f.WriteString(report.Markdown(run) + "\n")
	return errors.Join(err, f.Close())
}
