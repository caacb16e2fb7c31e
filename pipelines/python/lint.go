package python

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Linters are the tools that [Lint] can run.
var Linters = []string{"black", "isort", "flake8", "mypy", "pylint"}

// Lint checks Python code with black, isort, flake8, mypy and pylint, side by side.
//
// All the tools run, whatever the others find; the verdict is failed when any of them found something, and errored
// when a tool broke. A tree without Python files is skipped.
//
// A tool follows the project's own settings. Where those say nothing: isort follows black's profile, flake8 allows
// 100 columns and leaves to black what the two disagree on (E203, E701), mypy ignores imports that it cannot find, and takes the folder
// for part of a module's name where two modules would otherwise have the same one.
//
// A tool runs again when a Python file or the tool's own settings change; mypy and pylint also when a requirement does.
// A file at the root that is neither (a README, another tool's settings) makes no difference; a folder at the root counts
// as a whole, see [step.Source]. Tools are installed again when millrace pins other versions, and the project's dependencies when a requirement file changes.
type Lint struct {
	// Python is the version of Python, for example "3.12"; empty means 3.11. The tools need 3.11 or newer.
	Python string
	// Requirements are the project's requirement files; empty means those that are found, see [Test].
	Requirements []string
	// Paths are the files and folders to check; empty means all.
	Paths []string
	// Tools are the linters to run; empty means all of [Linters].
	Tools []string
	// Args are further arguments by tool, after ours.
	Args map[string][]string
}

// linter is one tool of [Lint].
type linter struct {
	name string
	// settings are the files that the tool reads its settings from.
	settings []string
	// needsProject says that the tool looks at the project's dependencies too.
	needsProject bool
	argv         func(l lintInput) []string
	parse        func(stdout, stderr string, exit int) ([]report.Finding, error)
}

// lintInput is what decides on a linter's arguments.
type lintInput struct {
	settings settings
	files    []string
	paths    []string
}

var linters = []linter{
	{
		name: "black", settings: []string{"pyproject.toml", "**/.gitignore"}, parse: parseBlack,
		argv: func(l lintInput) []string {
			return append([]string{"black", "--check", "--diff", "--no-color", "--"}, l.paths...)
		},
	},
	{
		name: "isort", settings: isortFiles, parse: parseIsort,
		argv: func(l lintInput) []string {
			return slices.Concat([]string{"isort", "--check-only", "--diff"}, isortDefaults(l.settings), []string{"--"}, l.paths)
		},
	},
	{
		name: "flake8", settings: []string{"setup.cfg", "tox.ini", ".flake8"}, parse: parseFlake8,
		argv: func(l lintInput) []string {
			argv := []string{"flake8", "--format", flake8Format}
			places := func(key string) []string {
				return []string{"setup.cfg:flake8:" + key, "tox.ini:flake8:" + key, ".flake8:flake8:" + key}
			}
			if !l.settings.says(places("max_line_length")...) {
				argv = append(argv, "--max-line-length", "100")
			}
			if !l.settings.says(slices.Concat(places("ignore"), places("extend_ignore"))...) {
				argv = append(argv, "--extend-ignore", "E203,E701")
			}
			return slices.Concat(argv, []string{"--"}, l.paths)
		},
	},
	{
		name: "mypy", settings: []string{"pyproject.toml", "setup.cfg", "mypy.ini", ".mypy.ini"}, needsProject: true, parse: parseMypy,
		argv: func(l lintInput) []string {
			argv := []string{"mypy", "--output", "json", "--python-executable", venvPython, "--cache-dir", "/cache/mypy"}
			places := func(key string) []string {
				return []string{"mypy.ini:mypy:" + key, ".mypy.ini:mypy:" + key, "pyproject.toml:tool.mypy:" + key, "setup.cfg:mypy:" + key}
			}
			if !l.settings.says(places("ignore_missing_imports")...) {
				argv = append(argv, "--ignore-missing-imports")
			}
			if !l.settings.says(places("explicit_package_bases")...) && ambiguous(l.files) {
				argv = append(argv, "--namespace-packages", "--explicit-package-bases")
			}
			if len(l.paths) == 1 && l.paths[0] == "." &&
				l.settings.says(slices.Concat(places("files"), places("packages"), places("modules"))...) {
				return argv // the project says what to check
			}
			return slices.Concat(argv, []string{"--"}, l.paths)
		},
	},
	{
		name: "pylint", settings: []string{"pyproject.toml", "setup.cfg", "tox.ini", "pylintrc", ".pylintrc", "pylintrc.toml", ".pylintrc.toml"},
		needsProject: true, parse: parsePylint,
		argv: func(l lintInput) []string {
			argv := []string{"pylint", "--recursive=y", "--output-format=json2", "--score=n"}
			if !l.settings.says("pylintrc:MAIN:init_hook", "pylintrc:MASTER:init_hook", ".pylintrc:MAIN:init_hook",
				".pylintrc:MASTER:init_hook", "pyproject.toml:tool.pylint.main:init_hook", "pyproject.toml:tool.pylint.MASTER:init_hook",
				"pylintrc.toml:tool.pylint.main:init_hook", ".pylintrc.toml:tool.pylint.main:init_hook") {
				// At the end of the path: the project's pins must not stand in for pylint's own dependencies.
				argv = append(argv, "--init-hook",
					"import glob, sys; sys.path.extend(glob.glob('"+venvDir+"/lib/python*/site-packages'))")
			}
			return slices.Concat(argv, []string{"--"}, l.paths)
		},
	},
}

var isortFiles = []string{"pyproject.toml", "setup.cfg", "tox.ini", ".isort.cfg", ".editorconfig"}

// isortDefaults has isort agree with black, unless the project has settings for isort.
func isortDefaults(s settings) []string {
	if s.says(".isort.cfg:settings:", ".isort.cfg:isort:", "pyproject.toml:tool.isort:", "setup.cfg:isort:",
		"setup.cfg:tool:isort:", "tox.ini:isort:", ".editorconfig:*.py:", ".editorconfig:*:profile") {
		return nil
	}
	return []string{"--profile", "black"}
}

// ambiguous reports whether two of the files would be modules of one name, which mypy refuses:
// outside of packages, a module's name is its file's.
func ambiguous(files []string) bool {
	packages := map[string]bool{}
	for _, f := range files {
		if base := path.Base(f); base == "__init__.py" || base == "__init__.pyi" {
			packages[path.Dir(f)] = true
		}
	}
	seen := map[string]string{}
	for _, f := range files {
		ext := path.Ext(f)
		name := strings.TrimSuffix(path.Base(f), ext)
		dir := path.Dir(f)
		if name == "__init__" {
			name, dir = path.Base(dir), path.Dir(dir)
		}
		for packages[dir] {
			name, dir = path.Base(dir)+"."+name, path.Dir(dir)
		}
		if other, ok := seen[name]; ok && other != strings.TrimSuffix(f, ext) {
			return true
		}
		seen[name] = strings.TrimSuffix(f, ext)
	}
	return false
}

// pythonFiles lists the Python files of src.
func pythonFiles(ctx context.Context, src *dagger.Directory) ([]string, error) {
	found, err := src.Filter(dagger.DirectoryFilterOpts{Include: []string{"**/*.py", "**/*.pyi"}, Exclude: generated}).Glob(ctx, "**/*.py*")
	if err != nil {
		return nil, fmt.Errorf("list the Python files: %w", step.Explain(err))
	}
	return slices.DeleteFunc(found, func(name string) bool {
		ext := path.Ext(name)
		return ext != ".py" && ext != ".pyi"
	}), nil
}

// Run lints src.
//
// Reports: a folder for each tool with its output; findings name the file, line and rule.
// Metrics: files, findings.
func (l Lint) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	chosen, err := l.chosen()
	if err != nil {
		return step.Result{}, err
	}
	ready, err := l.setUp(ctx, c, src)
	if err != nil {
		return step.Result{}, err
	}
	if len(ready.in.files) == 0 {
		return step.Skip("no Python files to lint"), nil
	}
	parts := map[string]step.Result{}
	var mu sync.Mutex
	// One tool's error must not stop the others, so their context is not the group's.
	var group errgroup.Group
	for _, tool := range chosen {
		group.Go(func() error {
			result := func() step.Result {
				ctr := ready.base
				if tool.needsProject {
					p, err := ready.project()
					if err != nil {
						return failure(tool.name, err)
					}
					if p.Fault != nil {
						return *p.Fault
					}
					ctr = p.Container
				}
				ctr = ready.mount(ctr, code(ready.src, tool.settings...))
				result, err := tool.run(ctx, ctr, withArgs(tool.argv(ready.in), l.Args[tool.name]))
				if err != nil {
					return failure(tool.name, err)
				}
				return result
			}()
			mu.Lock()
			defer mu.Unlock()
			parts[tool.name] = result
			return nil
		})
	}
	_ = group.Wait() // each part carries its own error
	if err := ctx.Err(); err != nil {
		return step.Result{}, err
	}
	result := step.Merge(c.Directory(), parts)
	dedupe(&result, parts)
	result.Metrics["files"] = float64(len(ready.in.files))
	result.Metrics["findings"] = float64(len(result.Findings))
	return result, nil
}

// Container returns a container as mypy and pylint run in: with the tools in /tools, the project's dependencies in /venv,
// and in /src the Python files and the settings of all tools.
// Each tool has an executable of its name in /lint, which runs it with the arguments that it has in the step.
//
// An error tells also that there are no Python files, or that the requirements can't be met.
func (l Lint) Container(ctx context.Context, c *dagger.Client, src *dagger.Directory) (*dagger.Container, error) {
	chosen, err := l.chosen()
	if err != nil {
		return nil, err
	}
	ready, err := l.setUp(ctx, c, src)
	if err != nil {
		return nil, err
	}
	if len(ready.in.files) == 0 {
		return nil, errors.New("there are no Python files to lint")
	}
	env, err := ready.project()
	if err != nil {
		return nil, err
	}
	if env.Fault != nil {
		return nil, errors.New(env.Fault.Reason)
	}
	var settings []string
	scripts := c.Directory()
	for _, tool := range chosen {
		settings = append(settings, tool.settings...)
		argv := withArgs(tool.argv(ready.in), l.Args[tool.name])
		argv[0] = toolsDir + "/bin/" + argv[0]
		scripts = scripts.WithNewFile(tool.name, "#!/bin/sh\nexec "+quoted(argv)+"\n", dagger.DirectoryWithNewFileOpts{Permissions: 0o755})
	}
	slices.Sort(settings)
	return ready.mount(env.Container, code(ready.src, slices.Compact(settings)...)).
		WithDirectory("/lint", scripts).
		WithEnvVariable("PATH", toolsDir+"/bin:"+venvDir+"/bin:"+systemPath), nil
}

// quoted writes argv so that a shell reads it as it is.
func quoted(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

// lintSetup is what all linters share.
type lintSetup struct {
	src   step.Source
	in    lintInput
	base  *dagger.Container
	tools *dagger.Directory
	// project installs what mypy and pylint look at besides the source: once, and only when one of them asks.
	project func() (environment, error)
}

// setUp asks the source, side by side, all that has to be known before a tool can run.
func (l Lint) setUp(ctx context.Context, c *dagger.Client, src *dagger.Directory) (lintSetup, error) {
	ready := lintSetup{in: lintInput{paths: orDot(l.Paths)}}
	var needs requirements
	var unread error
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { ready.in.files, err = pythonFiles(groupCtx, src); return err })
	group.Go(func() (err error) { ready.in.settings, err = readSettings(groupCtx, src); return err })
	group.Go(func() (err error) { ready.base, err = installer(groupCtx, c, l.Python); return err })
	group.Go(func() (err error) { ready.src, err = step.OpenSource(groupCtx, c, src); return err })
	group.Go(func() error {
		// Tools that don't look at the requirements work without them, so this is no error yet.
		needs, unread = readRequirements(groupCtx, src, l.Requirements)
		return nil
	})
	if err := group.Wait(); err != nil {
		return ready, err
	}
	ready.tools = toolbox(ready.base, lintLock)
	ready.project = sync.OnceValues(func() (environment, error) {
		if unread != nil {
			return environment{}, unread
		}
		env, err := prepare(ctx, c, ready.base, needs)
		if err != nil || env.Fault != nil {
			return env, err
		}
		env.Container = env.Container.
			WithMountedCache("/cache/mypy", c.CacheVolume("millrace-mypy-"+needs.digest())).
			WithMountedCache("/cache/pylint", c.CacheVolume("millrace-pylint-"+needs.digest())).
			WithEnvVariable("PYLINTHOME", "/cache/pylint")
		return env, nil
	})
	return ready, nil
}

// mount adds the tools and what they look at.
func (l lintSetup) mount(ctr *dagger.Container, src *dagger.Directory) *dagger.Container {
	return ctr.
		WithMountedDirectory(toolsDir, l.tools).
		WithMountedDirectory(sourceDir, src).
		WithWorkdir(sourceDir)
}

// dedupe says once what several parts say alike, which is that the requirements cannot be met.
func dedupe(result *step.Result, parts map[string]step.Result) {
	result.Findings = slices.Compact(result.Findings)
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if reason := parts[name].Reason; reason != "" && !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	result.Reason = strings.Join(reasons, "; ")
}

// failure is the part of a tool that could not do its work; the others' results are worth having all the same.
func failure(tool string, err error) step.Result {
	return step.Result{Verdict: graph.Errored, Err: err, Reason: tool + ": " + firstLine(err.Error()), Output: err.Error()}
}

func (l Lint) chosen() ([]linter, error) {
	if len(l.Tools) == 0 {
		return linters, nil
	}
	for _, name := range l.Tools {
		if !slices.Contains(Linters, name) {
			return nil, fmt.Errorf("unknown linter %q: use %s", name, strings.Join(Linters, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(linters), func(t linter) bool { return !slices.Contains(l.Tools, t.name) }), nil
}

// withArgs puts args behind the other options, which end at "--" or with the command line.
func withArgs(argv, args []string) []string {
	end := slices.Index(argv, "--")
	if end < 0 {
		end = len(argv)
	}
	return slices.Insert(slices.Clone(argv), end, args...)
}

// run runs the tool in a container that has all it needs, by the arguments argv.
func (t linter) run(ctx context.Context, ctr *dagger.Container, argv []string) (step.Result, error) {
	argv[0] = toolsDir + "/bin/" + argv[0]
	ctr = ctr.WithNewFile(reportsDir+"/command.txt", strings.Join(argv, " ")+"\n")
	done, err := step.Exec(ctx, ctr, reportsDir, t.name, argv)
	if err != nil {
		return step.Result{}, err
	}
	result := step.Result{
		Verdict: graph.Passed,
		Tools:   map[string]string{t.name: pins(lintLock)[t.name]},
		Reports: done.Container.Directory(reportsDir),
	}
	if done.ExitCode == 0 {
		return result, nil
	}
	stdout, err := done.Stdout(ctx)
	if err != nil {
		return step.Result{}, err
	}
	stderr, err := done.Stderr(ctx)
	if err != nil {
		return step.Result{}, err
	}
	if result.Output, err = done.Tail(ctx); err != nil {
		return step.Result{}, err
	}
	result.Findings, err = t.parse(stdout, stderr, done.ExitCode)
	if err != nil {
		result.Verdict, result.Reason = graph.Errored, firstLine(err.Error())
		return result, nil
	}
	report.SortFindings(result.Findings)
	result.Verdict = graph.Failed
	result.Reason = t.name + ": " + count(result.Findings)
	return result, nil
}

// count sums findings up in a few words and shows the first.
func count(findings []report.Finding) string {
	files := map[string]bool{}
	for _, f := range findings {
		files[f.File] = true
	}
	noun, where := "findings", "files"
	if len(findings) == 1 {
		noun = "finding"
	}
	if len(files) == 1 {
		where = "file"
	}
	worst := slices.MaxFunc(findings, func(a, b report.Finding) int {
		return slices.Index(report.Severities, a.Severity) - slices.Index(report.Severities, b.Severity)
	})
	return fmt.Sprintf("%d %s in %d %s, such as %s", len(findings), noun, len(files), where, firstLine(worst.String()))
}

func orDot(paths []string) []string {
	if len(paths) == 0 {
		return []string{"."}
	}
	return paths
}
