// Package golang lints and tests Go modules.
package golang

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Where things lie in the containers.
const (
	sourceDir  = "/src"
	reportsDir = "/reports"
)

// untested are files that neither the compiler nor a test reads, by what they are for. Documentation is not among them:
// Go embeds it, and tests compare with it.
var untested = []string{
	"**/.git", ".github", ".gitlab-ci.yml", ".circleci", ".buildkite", "Jenkinsfile",
	"azure-pipelines.yml", "bitbucket-pipelines.yml", ".woodpecker*", ".vscode", ".idea", "**/node_modules", "**/.venv",
}

// modules returns the folders below src that have a go.mod, "." for the root, sorted; chosen replaces what is found.
// Folders that the go command passes over (vendor, testdata, and names that begin with "." or "_") are left out.
func modules(ctx context.Context, src *dagger.Directory, chosen []string) ([]string, error) {
	if len(chosen) > 0 {
		for _, dir := range chosen {
			exists, err := src.Exists(ctx, path.Join(dir, "go.mod"))
			if err != nil {
				return nil, fmt.Errorf("look for Go modules: %w", step.Explain(err))
			}
			if !exists {
				return nil, fmt.Errorf("no Go module in %q: it has no go.mod", dir)
			}
		}
		return chosen, nil
	}
	found, err := src.Glob(ctx, "**/go.mod")
	if err != nil {
		return nil, fmt.Errorf("look for Go modules: %w", step.Explain(err))
	}
	return moduleDirs(found), nil
}

// moduleDirs picks, of the go.mod files found, the folders that are worth visiting.
func moduleDirs(found []string) []string {
	var dirs []string
	for _, file := range found {
		if path.Base(file) != "go.mod" {
			continue
		}
		dir := path.Dir(path.Clean(file))
		ignored := slices.ContainsFunc(strings.Split(dir, "/"), func(part string) bool {
			return part == "vendor" || part == "testdata" || part == "node_modules" ||
				part != "." && strings.HasPrefix(part, ".") || strings.HasPrefix(part, "_")
		})
		if !ignored {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// toolchain mounts the caches of the go command, which are safe to share.
func toolchain(c *dagger.Client, ref string) *dagger.Container {
	return c.Container().From(ref).
		// The repository's history is no input. What only a debugger reads takes the compiler a fifth of its time; one that is
		// started by hand asks for it itself.
		WithEnvVariable("GOFLAGS", "-buildvcs=false -gcflags=all=-dwarf=false").
		WithEnvVariable("GOTOOLCHAIN", "auto").
		WithEnvVariable("GOMODCACHE", "/go/pkg/mod").
		WithEnvVariable("GOCACHE", "/cache/go-build").
		WithMountedCache("/go/pkg/mod", c.CacheVolume("millrace-go-mod")).
		WithMountedCache("/cache/go-build", c.CacheVolume("millrace-go-build"))
}

// name of a module's folder in reports.
func name(module string) string {
	if module == "." {
		return "root"
	}
	return strings.ReplaceAll(module, "/", "-")
}

// failure is the part of a module whose tool could not do its work; the others' results are worth having all the same.
func failure(module string, err error, left step.Result) step.Result {
	return step.Result{
		Verdict: graph.Errored, Err: err, Reason: firstLine(fmt.Sprintf("%s: %v", module, err)), Output: err.Error(),
		Tools: left.Tools, Reports: left.Reports,
	}
}

// broke is the error for a tool that ended in a way that is no verdict on the code, with the tool's own words.
func broke(tool string, exit int, outputs ...string) error {
	said := "it said nothing"
	for _, text := range outputs {
		if text = strings.TrimSpace(text); text != "" {
			said = text
			break
		}
	}
	const most = 4 << 10
	whole := said
	if len(whole) > most {
		whole = "…" + strings.ToValidUTF8(whole[len(whole)-most:], "")
	}
	return fmt.Errorf("%s broke (exit code %d): %s\n%s", tool, exit, gist(said), whole)
}

// gist picks the one line of a tool's last words that says most.
func gist(said string) string {
	lines := strings.Split(said, "\n")
	for _, line := range lines {
		if strings.Contains(strings.ToLower(line), "error") {
			return strings.TrimSpace(line)
		}
	}
	return lines[0]
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// count sums findings up in a few words and shows the worst.
func count(findings []report.Finding) string {
	worst := slices.MaxFunc(findings, func(a, b report.Finding) int {
		return slices.Index(report.Severities, a.Severity) - slices.Index(report.Severities, b.Severity)
	})
	if len(findings) == 1 {
		return "1 finding, " + firstLine(worst.String())
	}
	return fmt.Sprintf("%d findings, such as %s", len(findings), firstLine(worst.String()))
}
