package pipelines

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/golang"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/python"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Lint checks the code in every language that the project holds, side by side. What has a tool run again is said at [python.Lint]
// and [golang.Lint].
type Lint struct {
	// Project is what project.Detect finds; needed.
	Project *project.Project
}

// Run lints src. Findings of all languages come together; reports lie in a folder a language.
func (l Lint) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	p := l.Project
	if p == nil {
		return step.Result{}, errNoProject
	}
	parts := map[string]part{}
	if p.Python.Found() && len(l.python().Tools) > 0 {
		parts[Python] = func(ctx context.Context) (step.Result, error) { return l.python().Run(ctx, c, src) }
	}
	if p.Go.Found() && len(chosen(p.Lint.Tools, goLinters)) > 0 {
		parts[Go] = func(ctx context.Context) (step.Result, error) { return l.golang().Run(ctx, c, src) }
	}
	return sideBySide(ctx, c, parts, "no Python and no Go code to lint")
}

// errNoProject says what a step of all languages lacks. Those of one language, in their packages, do without.
var errNoProject = errors.New("the step does not know the project: set Project to what project.Detect finds")

var goLinters = []string{"golangci-lint"}

func (l Lint) python() python.Lint {
	p := l.Project
	return python.Lint{
		Python: p.Python.Version, Requirements: p.Python.Requirements, Paths: p.Python.Paths(),
		Tools: chosen(p.Lint.Tools, python.Linters), Args: p.Lint.Args,
	}
}

func (l Lint) golang() golang.Lint {
	return golang.Lint{Modules: l.Project.Go.Modules, Args: l.Project.Lint.Args["golangci-lint"]}
}

// chosen returns those of the available tools that are asked for; all of them when nothing is.
func chosen(asked, available []string) []string {
	if len(asked) == 0 {
		return available
	}
	return slices.DeleteFunc(slices.Clone(available), func(tool string) bool { return !slices.Contains(asked, tool) })
}

// Test runs the tests of every language that the project holds, side by side. What has them run again is said at [python.Test] and
// [golang.Test].
type Test struct {
	// Project is what project.Detect finds; needed.
	Project *project.Project
	// Fresh, when it changes, has the tests run again although nothing else did: for tests that pass by chance.
	Fresh string
}

// Run tests src.
func (t Test) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	p := t.Project
	if p == nil {
		return step.Result{}, errNoProject
	}
	parts := map[string]part{}
	if p.Python.Found() {
		parts[Python] = func(ctx context.Context) (step.Result, error) { return t.python().Run(ctx, c, src) }
	}
	if p.Go.Found() {
		parts[Go] = func(ctx context.Context) (step.Result, error) { return t.golang().Run(ctx, c, src) }
	}
	return sideBySide(ctx, c, parts, "no Python and no Go code to test")
}

func (t Test) python() python.Test {
	p := t.Project
	threshold := 0.0 // the step's default
	if p.Test.Coverage != nil {
		if threshold = *p.Test.Coverage; threshold == 0 {
			threshold = -1 // none
		}
	}
	return python.Test{
		Python: p.Python.Version, Requirements: p.Python.Requirements, Paths: p.Python.Tests,
		Threshold: threshold, Shards: p.Test.Shards, Args: p.Test.Args, Fresh: t.Fresh,
	}
}

func (t Test) golang() golang.Test {
	p := t.Project
	threshold := 0.0
	if p.Test.Coverage != nil {
		threshold = *p.Test.Coverage
	}
	return golang.Test{Modules: p.Go.Modules, Threshold: threshold, Timeout: p.Test.Timeout, Short: p.Test.Short, Fresh: t.Fresh}
}

// Security scans the code and its dependencies. What has a scanner run again is said at [python.Security].
type Security struct {
	// Project is what project.Detect finds; needed.
	Project *project.Project
	// SafetyKey is an API key of safety's vendor; nil uses its free database.
	SafetyKey *dagger.Secret
	// Now is the time that exceptions expire by.
	Now time.Time
}

// Run scans src.
func (s Security) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	p := s.Project
	if p == nil {
		return step.Result{}, errNoProject
	}
	parts := map[string]part{}
	if p.Python.Found() {
		scan, err := s.python()
		if err != nil {
			return step.Result{}, err
		}
		parts[Python] = func(ctx context.Context) (step.Result, error) { return scan.Run(ctx, c, src) }
	}
	return sideBySide(ctx, c, parts, "no Python code to scan")
}

func (s Security) python() (python.Security, error) {
	p := s.Project
	threshold, err := report.ParseSeverity(p.Security.Severity)
	if err != nil {
		return python.Security{}, fmt.Errorf("security.severity: %w", err)
	}
	allow := make([]python.Exception, 0, len(p.Security.Allow))
	for _, a := range p.Security.Allow {
		allow = append(allow, python.Exception{ID: a.ID, Reason: a.Reason, Expires: a.Expires.String()})
	}
	return python.Security{
		Python: p.Python.Version, Requirements: p.Python.Requirements, Paths: p.Python.Sources,
		Threshold: threshold, Allow: allow, APIKey: s.SafetyKey, Now: s.Now,
	}, nil
}

// The languages that the steps know, as their parts are named.
const (
	Python = "python"
	Go     = "go"
)

// part is a language's share of a step.
type part func(context.Context) (step.Result, error)

// sideBySide runs the parts at the same time and joins what they say; without any, the step is skipped with the reason none.
func sideBySide(ctx context.Context, c *dagger.Client, parts map[string]part, none string) (step.Result, error) {
	if len(parts) == 0 {
		return step.Skip("%s", none), nil
	}
	names := make([]string, 0, len(parts))
	for name := range parts {
		names = append(names, name)
	}
	slices.Sort(names)
	results, broke := make([]step.Result, len(names)), make([]error, len(names))
	// What one language has to say is worth having when another's tools break.
	var g errgroup.Group
	for i, name := range names {
		g.Go(func() error {
			results[i], broke[i] = parts[name](ctx)
			return nil
		})
	}
	_ = g.Wait()
	if len(results) == 1 {
		results[0].Parts = map[string]graph.Verdict{names[0]: results[0].Verdict}
		return results[0], broke[0]
	}
	named := map[string]step.Result{}
	for i, name := range names {
		if broke[i] != nil {
			results[i].Verdict, results[i].Reason = graph.Errored, name+": "+broke[i].Error()
		}
		named[name] = results[i]
	}
	return step.Merge(c.Directory(), named), errors.Join(broke...)
}
