package golang

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dagger.io/dagger"
	"golang.org/x/mod/modfile"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// gotestsumVersion pins what turns the go command's events into JUnit.
const gotestsumVersion = "v1.13.0"

// DefaultTimeout is how long the tests of one package may take.
const DefaultTimeout = 10 * time.Minute

// Test runs "go test" with the race detector and coverage, module by module.
//
// A package that does not compile, a test that fails and one that runs into the timeout are findings and make the
// verdict failed, as does coverage below the threshold; there is none unless asked for. A tree without a go.mod,
// or without a test, is skipped.
//
// The tests run again when any file changes that is no CI setting; the go command's caches of
// builds and modules are kept between runs, and its own cache of test results is not used.
type Test struct {
	// Modules are the folders of Go modules; empty means all that are found.
	Modules []string
	// Packages are the packages to test; empty means "./...".
	Packages []string
	// Threshold is the least coverage of a module, in percent of the statements; 0 means none.
	Threshold float64
	// Short leaves out what the tests themselves hold to be long.
	Short bool
	// NoRace turns the race detector off; it needs cgo and takes 2 to 10 times as long.
	NoRace bool
	// Timeout is how long the tests of one package may take; 0 means 10 min.
	Timeout time.Duration
	// Setup adds to the container that the tests run in: services, variables, packages of the system.
	Setup dagger.WithContainerFunc
	// Fresh, when it changes, has the tests run again although nothing else did: for tests that pass by chance.
	Fresh string
}

// Run tests src.
//
// Reports: a folder for each module with junit.xml, test.json (the go command's events) and coverage.out.
// Metrics: modules, tests, failures, skipped, test_seconds, coverage_percent (of all modules together), threshold_percent.
func (t Test) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	dirs, err := modules(ctx, src, t.Modules)
	if err != nil {
		return step.Result{}, err
	}
	if len(dirs) == 0 {
		return step.Skip("no Go module to test: there is no go.mod"), nil
	}
	ctr, err := t.Container(ctx, c, src)
	if err != nil {
		return step.Result{}, err
	}
	parts := map[string]step.Result{}
	var coverages []report.Coverage
	var mu sync.Mutex
	// One module's error must not stop the others.
	var group errgroup.Group
	for _, dir := range dirs {
		group.Go(func() error {
			part, coverage, err := t.module(ctx, src, ctr, dir)
			if err != nil {
				part = failure(dir, err, part)
			}
			mu.Lock()
			defer mu.Unlock()
			parts[name(dir)] = part
			coverages = append(coverages, coverage)
			return nil
		})
	}
	_ = group.Wait() // each part carries its own error
	if err := ctx.Err(); err != nil {
		return step.Result{}, err
	}
	result := step.Merge(c.Directory(), parts)
	result.Metrics["modules"] = float64(len(dirs))
	if all := report.MergeCoverage(coverages...); len(all.Files) > 0 {
		result.Metrics["coverage_percent"] = all.Percent()
	}
	if t.Threshold > 0 {
		result.Metrics["threshold_percent"] = t.Threshold
	}
	return result, nil
}

// Container returns the container that the tests run in, with the source in /src.
func (t Test) Container(ctx context.Context, c *dagger.Client, src *dagger.Directory) (*dagger.Container, error) {
	tree, err := step.OpenSource(ctx, c, src)
	if err != nil {
		return nil, err
	}
	runner := toolchain(c, image.Golang).
		WithEnvVariable("GOBIN", "/tools").
		WithExec([]string{"go", "install", "gotest.tools/gotestsum@" + gotestsumVersion}).
		File("/tools/gotestsum")
	ctr := toolchain(c, image.Golang).
		WithFile("/usr/local/bin/gotestsum", runner).
		WithMountedDirectory(sourceDir, tree.Part(nil, untested)).
		WithWorkdir(sourceDir)
	if t.Setup != nil {
		ctr = ctr.With(t.Setup)
	}
	if t.Fresh != "" {
		ctr = ctr.WithEnvVariable("MILLRACE_FRESH", t.Fresh)
	}
	return ctr, nil
}

func (t Test) module(ctx context.Context, src *dagger.Directory, ctr *dagger.Container, dir string) (step.Result, report.Coverage, error) {
	none := report.Coverage{}
	text, err := src.File(path.Join(dir, "go.mod")).Contents(ctx)
	if err != nil {
		return step.Result{}, none, fmt.Errorf("read go.mod: %w", step.Explain(err))
	}
	modulePath := modfile.ModulePath([]byte(text))
	done, err := step.Exec(ctx, ctr.WithWorkdir(path.Join(sourceDir, dir)).WithNewFile(reportsDir+"/module.txt", dir+"\n"),
		reportsDir, "gotestsum", t.argv())
	if err != nil {
		return step.Result{}, none, err
	}
	_, version, _ := strings.Cut(image.Golang, ":")
	result := step.Result{
		Verdict: graph.Passed, Metrics: map[string]float64{}, Reports: done.Container.Directory(reportsDir),
		Tools: map[string]string{"go": version, "gotestsum": strings.TrimPrefix(gotestsumVersion, "v")},
	}
	if done.ExitCode != 0 {
		if result.Output, err = done.Tail(ctx); err != nil {
			return result, none, err
		}
	}
	text, err = done.File(ctx, reportsDir+"/junit.xml")
	if err != nil {
		return result, none, broke("gotestsum", done.ExitCode, result.Output)
	}
	tests, err := report.ParseJUnit(strings.NewReader(text))
	if err != nil && !errors.Is(err, report.ErrEmpty) {
		return result, none, err
	}
	totals := tests.Totals()
	result.Findings = slices.Concat(tests.Findings("go test"), parseCompile(result.Output, dir))
	for i, f := range result.Findings {
		// The report prefixes a file by its package's import path.
		if rest, ok := strings.CutPrefix(f.File, modulePath+"/"); ok {
			result.Findings[i].File = path.Join(dir, rest)
		}
	}
	report.SortFindings(result.Findings)
	result.Findings = slices.Compact(result.Findings)
	result.Metrics["tests"] = float64(totals.Tests)
	result.Metrics["failures"] = float64(totals.Failures + totals.Errors)
	result.Metrics["skipped"] = float64(totals.Skipped)
	result.Metrics["test_seconds"] = totals.Seconds

	where := ""
	if dir != "." {
		where = dir + ": "
	}
	coverage := none
	// A run that ends early leaves no profile, or a broken one.
	if text, readErr := done.File(ctx, reportsDir+"/coverage.out"); readErr == nil {
		coverage, err = report.ParseCoverprofile(strings.NewReader(text), modulePath)
		if err != nil && done.ExitCode == 0 && !errors.Is(err, report.ErrEmpty) {
			return result, none, err
		}
	}
	switch {
	case done.ExitCode != 0 && len(result.Findings) > 0:
		result.Verdict = graph.Failed
		result.Reason = where + count(result.Findings)
	case done.ExitCode != 0:
		return result, none, broke("go test", done.ExitCode, result.Output)
	case totals.Tests == 0:
		skipped := step.Skip("%sthe Go module has no tests", where)
		skipped.Tools = result.Tools
		return skipped, none, nil
	case t.Threshold > 0 && coverage.Percent() < t.Threshold:
		result.Verdict = graph.Failed
		result.Reason = fmt.Sprintf("%scoverage is %.1f %%, below the threshold of %s %%", where, floor(coverage.Percent()), decimal(t.Threshold))
	}
	return result, coverage, nil
}

func (t Test) argv() []string {
	timeout := t.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	argv := []string{"gotestsum", "--format", "testname", "--junitfile", reportsDir + "/junit.xml", "--jsonfile", reportsDir + "/test.json", "--",
		"-count=1", "-timeout", timeout.String(), "-covermode=atomic", "-coverprofile", reportsDir + "/coverage.out"}
	if !t.NoRace {
		argv = append(argv, "-race")
	}
	if t.Short {
		argv = append(argv, "-short")
	}
	packages := t.Packages
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	return append(argv, packages...)
}

// compileError is a line of the compiler, of vet or of the go command, as gotestsum repeats it.
var compileError = regexp.MustCompile(`(?m)^(?:vet: )?([\w./@+-][\w./@+ -]*\.go):(\d+)(?::(\d+))?: (.+)$`)

// parseCompile finds what does not compile. Tests print lines of this form too, but with a leading space.
func parseCompile(output, dir string) []report.Finding {
	var findings []report.Finding
	for _, m := range compileError.FindAllStringSubmatch(output, -1) {
		line, _ := strconv.Atoi(m[2])
		column, _ := strconv.Atoi(m[3])
		findings = append(findings, report.Finding{
			Tool: "go test", Rule: "build", Severity: report.High, File: path.Join(dir, m[1]), Line: line, Column: column, Message: m[4],
		})
	}
	return findings
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// floor cuts to one decimal: 79.96 must not read as "80.0, below 80".
func floor(f float64) float64 { return float64(int(f*10)) / 10 }
