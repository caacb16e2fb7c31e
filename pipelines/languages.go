package pipelines

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/golang"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/python"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Lint checks the code in every language that the project holds, side by side.
type Lint struct {
	Project *project.Project
}

// Run lints src. Findings of all languages come together; reports lie in a folder a language.
func (l Lint) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	p := l.Project
	parts := map[string]part{}
	if tools := chosen(p.Lint.Tools, python.Linters); p.Python.Found() && len(tools) > 0 {
		parts["python"] = func(ctx context.Context) (step.Result, error) {
			return python.Lint{
				Python: p.Python.Version, Requirements: p.Python.Requirements, Paths: p.Python.Paths(),
				Tools: tools, Args: p.Lint.Args,
			}.Run(ctx, c, src)
		}
	}
	if tools := chosen(p.Lint.Tools, []string{"golangci-lint"}); p.Go.Found() && len(tools) > 0 {
		parts["go"] = func(ctx context.Context) (step.Result, error) {
			return golang.Lint{Modules: p.Go.Modules, Args: p.Lint.Args["golangci-lint"]}.Run(ctx, c, src)
		}
	}
	return sideBySide(ctx, c, parts, "no Python and no Go code to lint")
}

// chosen returns those of the available tools that are asked for; all of them when nothing is.
func chosen(asked, available []string) []string {
	if len(asked) == 0 {
		return available
	}
	return slices.DeleteFunc(slices.Clone(available), func(tool string) bool { return !slices.Contains(asked, tool) })
}

// Test runs the tests of every language that the project holds, side by side.
type Test struct {
	Project *project.Project
	// Fresh, when it changes, has the tests run again although nothing else did: for tests that pass by chance.
	Fresh string
}

// Run tests src.
func (t Test) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	p := t.Project
	parts := map[string]part{}
	if p.Python.Found() {
		threshold := p.Test.Coverage
		if threshold == 0 {
			threshold = -1 // none: to the step, 0 is its default
		}
		parts["python"] = func(ctx context.Context) (step.Result, error) {
			return python.Test{
				Python: p.Python.Version, Requirements: p.Python.Requirements, Paths: p.Python.Tests,
				Threshold: threshold, Shards: p.Test.Shards, Args: p.Test.Args, Fresh: t.Fresh,
			}.Run(ctx, c, src)
		}
	}
	if p.Go.Found() {
		parts["go"] = func(ctx context.Context) (step.Result, error) {
			return golang.Test{Modules: p.Go.Modules, Timeout: p.Test.Timeout, Short: true, Fresh: t.Fresh}.Run(ctx, c, src)
		}
	}
	return sideBySide(ctx, c, parts, "no Python and no Go code to test")
}

// Security scans the code and its dependencies.
type Security struct {
	Project *project.Project
	// SafetyKey is an API key of safety's vendor; nil uses its free database.
	SafetyKey *dagger.Secret
	// Now is the time that exceptions expire by.
	Now time.Time
}

// Run scans src.
func (s Security) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	p := s.Project
	parts := map[string]part{}
	if p.Python.Found() {
		threshold, err := report.ParseSeverity(p.Security.Severity)
		if err != nil {
			return step.Result{}, fmt.Errorf("security.severity: %w", err)
		}
		allow := make([]python.Exception, 0, len(p.Security.Allow))
		for _, a := range p.Security.Allow {
			allow = append(allow, python.Exception{ID: a.ID, Reason: a.Reason, Expires: a.Expires.String()})
		}
		parts["python"] = func(ctx context.Context) (step.Result, error) {
			return python.Security{
				Python: p.Python.Version, Requirements: p.Python.Requirements, Paths: p.Python.Sources,
				Threshold: threshold, Allow: allow, APIKey: s.SafetyKey, Now: s.Now,
			}.Run(ctx, c, src)
		}
	}
	return sideBySide(ctx, c, parts, "no Python code to scan")
}

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
	results := make([]step.Result, len(names))
	g, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() (err error) {
			results[i], err = parts[name](ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return step.Result{}, err
	}
	if len(results) == 1 {
		return results[0], nil
	}
	named := map[string]step.Result{}
	for i, name := range names {
		named[name] = results[i]
	}
	return step.Merge(c.Directory(), named), nil
}
