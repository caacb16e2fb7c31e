package golang

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Lint checks Go code with golangci-lint, module by module.
//
// The project's own configuration (.golangci.yml and so on) decides what is checked; without one, the linter's standard set.
// A tree without a go.mod is skipped; code that does not compile is a finding.
//
// It runs again when a file changes that is no CI setting. The linter's own cache, and the go
// command's, are kept between runs, so that only changed packages are analysed.
type Lint struct {
	// Modules are the folders of Go modules; empty means all that are found.
	Modules []string
	// Args are further arguments of golangci-lint run, after ours.
	Args []string
}

// Run lints src.
//
// Reports: a folder for each module with golangci-lint.json and .sarif. Metrics: modules, findings.
func (l Lint) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	dirs, err := modules(ctx, src, l.Modules)
	if err != nil {
		return step.Result{}, err
	}
	if len(dirs) == 0 {
		return step.Skip("no Go module to lint: there is no go.mod"), nil
	}
	ctr, err := l.Container(ctx, c, src)
	if err != nil {
		return step.Result{}, err
	}
	parts := map[string]step.Result{}
	var mu sync.Mutex
	// One module's error must not stop the others.
	var group errgroup.Group
	for _, dir := range dirs {
		group.Go(func() error {
			part, err := l.module(ctx, ctr, dir)
			if err != nil {
				part = failure(dir, err, part)
			}
			mu.Lock()
			defer mu.Unlock()
			parts[name(dir)] = part
			return nil
		})
	}
	_ = group.Wait() // each part carries its own error
	if err := ctx.Err(); err != nil {
		return step.Result{}, err
	}
	result := step.Merge(c.Directory(), parts)
	result.Metrics["modules"] = float64(len(dirs))
	result.Metrics["findings"] = float64(len(result.Findings))
	return result, nil
}

// Container returns the container that golangci-lint runs in, with the source in /src.
func (l Lint) Container(ctx context.Context, c *dagger.Client, src *dagger.Directory) (*dagger.Container, error) {
	tree, err := step.OpenSource(ctx, c, src)
	if err != nil {
		return nil, err
	}
	return toolchain(c, image.GolangciLint).
		WithEnvVariable("GOGC", "200"). // less of its time goes into collecting garbage, for up to half as much memory again
		WithEnvVariable("GOLANGCI_LINT_CACHE", "/cache/golangci-lint").
		WithMountedCache("/cache/golangci-lint", c.CacheVolume("millrace-golangci-lint")).
		WithMountedDirectory(sourceDir, tree.Part(nil, untested)).
		WithWorkdir(sourceDir), nil
}

func (l Lint) module(ctx context.Context, ctr *dagger.Container, dir string) (step.Result, error) {
	done, err := step.Exec(ctx, ctr.WithWorkdir(path.Join(sourceDir, dir)).WithNewFile(reportsDir+"/module.txt", dir+"\n"),
		reportsDir, "golangci-lint", slices.Concat([]string{
			"golangci-lint", "run", "--allow-parallel-runners",
			"--output.json.path", reportsDir + "/golangci-lint.json", "--output.sarif.path", reportsDir + "/golangci-lint.sarif",
			"--output.text.path", "stdout", "--path-mode", "abs", "--show-stats=false",
			"--max-issues-per-linter", "0", "--max-same-issues", "0",
		}, l.Args, []string{"./..."}))
	if err != nil {
		return step.Result{}, err
	}
	_, version, _ := strings.Cut(image.GolangciLint, ":")
	result := step.Result{
		Verdict: graph.Passed,
		Tools:   map[string]string{"golangci-lint": strings.TrimPrefix(version, "v")},
		Reports: done.Container.Directory(reportsDir),
	}
	if done.ExitCode == 0 {
		return result, nil
	}
	if result.Output, err = done.Tail(ctx); err != nil {
		return result, err
	}
	if done.ExitCode != lintIssues {
		return result, broke("golangci-lint", done.ExitCode, result.Output)
	}
	text, err := done.File(ctx, reportsDir+"/golangci-lint.json")
	if err != nil {
		return result, err
	}
	if result.Findings, err = parseGolangci(text, dir); err != nil {
		return result, err
	}
	if len(result.Findings) == 0 {
		return result, broke("golangci-lint", done.ExitCode, result.Output)
	}
	report.SortFindings(result.Findings)
	result.Verdict = graph.Failed
	result.Reason = "golangci-lint: " + count(result.Findings)
	if dir != "." {
		result.Reason = dir + ": " + result.Reason
	}
	return result, nil
}

// lintIssues is golangci-lint's exit code for findings; 2 to 7 say that it broke, see its package exitcodes.
const lintIssues = 1

// parseGolangci reads golangci-lint's JSON report, with absolute paths below /src, of the module in dir.
func parseGolangci(text, dir string) ([]report.Finding, error) {
	var out struct {
		Issues []struct {
			FromLinter, Text, Severity string
			Pos                        struct {
				Filename     string
				Line, Column int
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("read golangci-lint's report: %w", err)
	}
	var findings []report.Finding
	for _, i := range out.Issues {
		compile := i.FromLinter == "typecheck"
		if said, ok := strings.CutPrefix(i.Text, ": # "); ok && compile {
			// A package that does not compile comes as all that the compiler said, at the start of any file of it.
			errors := parseCompile(said, dir)
			for _, f := range errors {
				f.Tool, f.Rule = "golangci-lint", i.FromLinter
				findings = append(findings, f)
			}
			if len(errors) > 0 {
				continue
			}
		}
		severity, err := report.ParseSeverity(i.Severity)
		switch {
		case compile: // whatever the project's own grades are
			severity = report.High
		case err == nil:
		case i.Severity == "error":
			severity = report.High
		default: // most linters grade nothing
			severity = report.Medium
		}
		message := i.Text
		if _, said, ok := strings.Cut(message, "\n"); ok && strings.HasPrefix(message, ": # ") {
			message = said // the first line names the package
		}
		f := report.Finding{
			Tool: "golangci-lint", Rule: i.FromLinter, Severity: severity, Line: i.Pos.Line, Column: i.Pos.Column,
			Message: firstLine(message),
		}
		if i.Pos.Filename != "" {
			f.File = strings.TrimPrefix(path.Clean(i.Pos.Filename), sourceDir+"/")
		}
		findings = append(findings, f)
	}
	return findings, nil
}
