package python

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

const (
	// DefaultThreshold is the coverage, in percent of the lines, that [Test] asks for.
	DefaultThreshold = 80.0
	// DefaultTestTimeout is how long one test may take.
	DefaultTestTimeout = 300 * time.Second
	// DefaultShards is the number of parts that tests are split into.
	DefaultShards = 2
)

//go:embed watch.py
var watchPlugin string

//go:embed durations.py
var durationsScript string

// coverageDefaults are the settings of coverage.py for a project that has none.
const coverageDefaults = `[run]
relative_files = true
omit =
    */tests/*
    tests/*
    */test_*.py
    test_*.py
    */*_test.py
    */conftest.py
    conftest.py
    setup.py
    */.venv/*
`

// Test runs a project's tests with pytest, and measures their coverage.
//
// Tests are split over shards by how long they took before, and the shards run side by side; pytest's own settings in
// the project are followed. Below the coverage threshold the verdict is failed, as it is for a test that fails, hangs
// or can't be collected, and for requirements that can't be met. Without tests it is skipped.
//
// A test that hangs is failed by its timeout and named. A test that can't be interrupted, because it waits inside of
// native code, is only ended by the timeout of the graph's node.
//
// The tests run again when any file changes but those at the root that no test reads (Markdown, CI settings, linters'
// settings; see Exclude), or when a requirement does. A folder at the root counts as a whole, see [step.Source]. Dependencies are installed again when a requirement changes, and
// for no other edit of pyproject.toml.
type Test struct {
	// Python is the version of Python, for example "3.12"; empty means 3.11.
	Python string
	// Requirements are the project's requirement files. Empty means uv.lock; else requirements*.txt at the root,
	// requirements/*.txt and the dependencies in pyproject.toml; else requirements*.txt in any folder.
	Requirements []string
	// Paths are the files and folders with tests; empty means those that pytest finds.
	Paths []string
	// Exclude are patterns of files that no test reads, beyond those that are left out anyway.
	Exclude []string
	// Threshold is the least coverage in percent of the lines; 0 means the project's own fail_under, else 80, and
	// less than 0 none.
	Threshold float64
	// Timeout is how long one test may take; 0 means the project's own setting, else 300 s.
	Timeout time.Duration
	// Shards is how many parts run side by side; 0 means 2.
	Shards int
	// Durations is a record of an earlier run (.test_durations in its reports); nil means the file of that name
	// in the source, else what the engine's cache remembers.
	Durations *dagger.File
	// Args are further arguments of pytest, after ours.
	Args []string
	// Setup adds to the container that the tests run in: services, variables, packages of the system.
	Setup dagger.WithContainerFunc
	// Fresh, when it changes, has the tests run again although nothing else did: for tests that pass by chance.
	Fresh string
}

// Run tests src.
//
// Reports: junit-N.xml and output a shard, coverage.xml (Cobertura), coverage.json, coverage.html (a folder) and
// .test_durations. Metrics: tests, failures, skipped, coverage_percent, threshold_percent, test_seconds, shards.
func (t Test) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	shards := t.Shards
	if shards == 0 {
		shards = DefaultShards
	}
	if shards < 0 {
		return step.Result{}, fmt.Errorf("shards: %d is no number of shards: use 1 or more", shards)
	}
	ready, err := t.setUp(ctx, c, src)
	if err != nil {
		return step.Result{}, err
	}
	if ready.none {
		return step.Skip("no Python files, so no tests"), nil
	}
	if ready.fault != nil {
		return *ready.fault, nil
	}
	threshold, err := t.threshold(ready.said)
	if err != nil {
		return step.Result{}, err
	}
	ctr, said := ready.ctr, ready.said
	done := make([]step.Executed, shards)
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range shards {
		group.Go(func() (err error) {
			done[i], err = t.shard(groupCtx, ctr, said, i, shards)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return step.Result{Reports: t.reports(done)}, err
	}
	result, err := t.judge(ctx, ctr, done, threshold)
	if err != nil {
		return step.Result{Reports: t.reports(done)}, err
	}
	maps.Copy(result.Metrics, map[string]float64{"shards": float64(shards), "threshold_percent": max(threshold, 0)})
	return result, nil
}

// Container returns the container that the tests run in: with the project's dependencies and pytest in /venv, and the
// source in /src.
//
// An error tells also that there are no Python files, or that the requirements can't be met.
func (t Test) Container(ctx context.Context, c *dagger.Client, src *dagger.Directory) (*dagger.Container, error) {
	ready, err := t.setUp(ctx, c, src)
	switch {
	case err != nil:
		return nil, err
	case ready.none:
		return nil, errors.New("there are no Python files, so no tests")
	case ready.fault != nil:
		return nil, errors.New(ready.fault.Reason)
	}
	return ready.ctr, nil
}

// testSetup is what the shards share.
type testSetup struct {
	said settings
	// ctr is what every shard starts from.
	ctr *dagger.Container
	// none says that there is nothing to test, and fault why it can't be tested; ctr is nil then.
	none  bool
	fault *step.Result
}

// setUp asks the source, side by side, all that has to be known before a test can run, and installs what it needs.
func (t Test) setUp(ctx context.Context, c *dagger.Client, src *dagger.Directory) (testSetup, error) {
	var ready testSetup
	var files []string
	var needs requirements
	var base *dagger.Container
	var recorded *dagger.File
	var tree step.Source
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { files, err = pythonFiles(groupCtx, src); return err })
	group.Go(func() (err error) { ready.said, err = readSettings(groupCtx, src); return err })
	group.Go(func() (err error) { needs, err = readRequirements(groupCtx, src, t.Requirements); return err })
	group.Go(func() (err error) { base, err = installer(groupCtx, c, t.Python); return err })
	group.Go(func() (err error) { tree, err = step.OpenSource(groupCtx, c, src); return err })
	group.Go(func() (err error) { recorded, err = t.recorded(groupCtx, c, src); return err })
	if err := group.Wait(); err != nil {
		return ready, err
	}
	if len(files) == 0 {
		ready.none = true
		return ready, nil
	}
	env, err := prepare(ctx, c, base, needs)
	if err != nil {
		return ready, err
	}
	if env.Fault != nil {
		ready.fault = env.Fault
		return ready, nil
	}
	ctr := t.container(c, env.Container, tree, needs, files)
	if recorded == nil {
		recorded = remembered(ctr)
	}
	ready.ctr = ctr.WithFile("/durations.json", recorded).WithEnvVariable("MILLRACE_COVERAGERC", coverageConfig(ready.said))
	return ready, nil
}

// container is the environment with what the tests read.
func (t Test) container(c *dagger.Client, env *dagger.Container, src step.Source, needs requirements, files []string) *dagger.Container {
	ctr := env.
		WithEnvVariable("PYTHONDONTWRITEBYTECODE", "1").
		WithEnvVariable("VIRTUAL_ENV", venvDir).
		WithEnvVariable("PATH", venvDir+"/bin:"+systemPath).
		WithNewFile("/millrace/millrace_watch.py", watchPlugin).
		WithNewFile("/millrace/durations.py", durationsScript).
		WithNewFile("/millrace/coveragerc", coverageDefaults).
		WithMountedCache("/cache/pytest", c.CacheVolume("millrace-pytest-"+needs.digest()))
	path := "/millrace"
	if slices.ContainsFunc(files, func(name string) bool { return strings.HasPrefix(name, "src/") }) {
		// The src layout: the package is not installed, so it has to be found.
		path += ":" + sourceDir + "/src"
	}
	ctr = ctr.WithEnvVariable("PYTHONPATH", path).
		WithDirectory(sourceDir, testable(src, t.Exclude)).
		WithWorkdir(sourceDir)
	if t.Setup != nil {
		ctr = ctr.With(t.Setup)
	}
	if t.Fresh != "" {
		ctr = ctr.WithEnvVariable("MILLRACE_FRESH", t.Fresh)
	}
	return ctr
}

// recorded returns the record of durations that was given, or that the source has; nil without one.
func (t Test) recorded(ctx context.Context, c *dagger.Client, src *dagger.Directory) (*dagger.File, error) {
	if t.Durations != nil {
		return t.Durations, nil
	}
	const name = ".test_durations"
	exists, err := src.Exists(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", name, step.Explain(err))
	}
	if !exists {
		return nil, nil
	}
	return step.File(c, src, name), nil
}

// remembered returns the record that the engine's cache has. All shards must split by one and the same: by different
// ones, a test might run in no shard.
func remembered(ctr *dagger.Container) *dagger.File {
	// The copy is a result like any other: for the same source it stays as it was, and so do the shards' results.
	return ctr.WithNewFile("/durations.json", "{}").
		WithExec([]string{"python", "/millrace/durations.py", "/cache/pytest/durations.json", "/durations.json", "/cache/pytest/durations.json"}).
		File("/durations.json")
}

// shard runs one part of the tests.
func (t Test) shard(ctx context.Context, ctr *dagger.Container, said settings, i, shards int) (step.Executed, error) {
	name := "pytest-" + strconv.Itoa(i+1)
	running := reportsDir + "/running.txt"
	// Values are joined to their options: before pytest knows its plugins' options, it takes a path that stands alone
	// for one with tests, and looks for the project's root and settings above it.
	argv := []string{
		venvPython, "-m", "pytest", "-pmillrace_watch", "--rootdir=" + sourceDir,
		fmt.Sprintf("--junitxml=%s/junit-%d.xml", reportsDir, i+1), "-ojunit_family=xunit2", "-ojunit_logging=no",
		fmt.Sprintf("-ocache_dir=/cache/pytest/shard-%d", i+1),
		fmt.Sprintf("--durations-path=%s/durations-%d.json", reportsDir, i+1), "--store-durations",
		// Coverage of a part says nothing: the threshold is checked when the parts are put together.
		"--cov-report=", "--cov-fail-under=0", "--cov-config=" + coverageConfig(said),
	}
	if said.says("pyproject.toml:tool.coverage.run:source", "pyproject.toml:tool.coverage.run:source_pkgs", ".coveragerc:run:source",
		".coveragerc:run:source_pkgs", "setup.cfg:coverage:run:source", "tox.ini:coverage:run:source") {
		argv = append(argv, "--cov")
	} else {
		argv = append(argv, "--cov=.")
	}
	if shards > 1 {
		argv = append(argv, "--splits="+strconv.Itoa(shards), "--group="+strconv.Itoa(i+1))
	}
	switch {
	case t.Timeout > 0:
		argv = append(argv, "--timeout="+seconds(t.Timeout))
	case !said.says(pytestPlaces("timeout")...):
		argv = append(argv, "--timeout="+seconds(DefaultTestTimeout))
	}
	argv = append(argv, t.Args...)
	// The value of --cov is optional: what follows it must not be taken for that.
	argv = append(argv, "--")
	argv = append(argv, t.Paths...)
	ctr = ctr.
		WithEnvVariable("COVERAGE_FILE", fmt.Sprintf("%s/.coverage.%d", reportsDir, i+1)).
		WithEnvVariable("MILLRACE_RUNNING", running).
		WithNewFile(running, "").
		WithFile(fmt.Sprintf("%s/durations-%d.json", reportsDir, i+1), ctr.File("/durations.json"))
	started := time.Now()
	done, ended, err := supervised(ctx, ctr, venvPython, name, argv)
	if err == nil && done.ExitCode < 0 && ended.Before(started.Truncate(time.Second)) {
		// An earlier run was killed, and the engine kept that as its result. There may be more memory now.
		done, _, err = supervised(ctx, ctr.WithEnvVariable("MILLRACE_AGAIN", started.String()), venvPython, name, argv)
	}
	if err != nil {
		return step.Executed{}, err // to look for reports would run the tests again
	}
	if done.ExitCode >= 0 {
		return done, nil
	}
	test, err := done.File(ctx, running)
	if err != nil {
		return done, err
	}
	if test == "" {
		test = "no test"
	}
	return done, fmt.Errorf("pytest was killed by signal %d while %s ran, most likely because memory ran out: give the engine more memory, or have the test use less", -done.ExitCode, test)
}

func coverageConfig(said settings) string {
	for _, place := range []string{".coveragerc:run:", ".coveragerc:report:", "setup.cfg:coverage:*:", "tox.ini:coverage:*:", "pyproject.toml:tool.coverage:"} {
		if said.says(place) {
			name, _, _ := strings.Cut(place, ":")
			return name
		}
	}
	return "/millrace/coveragerc"
}

// pytestPlaces are where a project may state one of pytest's settings.
func pytestPlaces(key string) []string {
	return []string{
		"pytest.toml:pytest:" + key, ".pytest.toml:pytest:" + key, "pytest.ini:pytest:" + key, ".pytest.ini:pytest:" + key,
		"pyproject.toml:tool.pytest.ini_options:" + key, "pyproject.toml:tool.pytest:" + key,
		"tox.ini:pytest:" + key, "setup.cfg:tool:pytest:" + key,
	}
}

// threshold is the coverage to ask for; less than 0 is none.
func (t Test) threshold(said settings) (float64, error) {
	if t.Threshold != 0 {
		return t.Threshold, nil
	}
	value, ok := said.lookup("pyproject.toml:tool.coverage.report:fail_under", ".coveragerc:report:fail_under",
		"setup.cfg:coverage:report:fail_under", "tox.ini:coverage:report:fail_under")
	if !ok {
		return DefaultThreshold, nil
	}
	threshold, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return 0, fmt.Errorf("the project's coverage setting fail_under is %q, which is no number", value)
	}
	return threshold, nil
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// pytest's exit codes; see its reference.
const (
	pytestPassed      = 0
	pytestFailed      = 1
	pytestInterrupted = 2
	pytestBroke       = 3
	pytestUsage       = 4
	pytestNoTests     = 5
)

// judge puts the shards together.
func (t Test) judge(ctx context.Context, ctr *dagger.Container, done []step.Executed, threshold float64) (step.Result, error) {
	result := step.Result{
		Verdict: graph.Passed, Metrics: map[string]float64{}, Tools: map[string]string{"uv": uvVersion},
	}
	frozen, err := ctr.File("/deps/environment.txt").Contents(ctx)
	if err != nil {
		return result, fmt.Errorf("read the environment's versions: %w", step.Explain(err))
	}
	for _, name := range []string{"pytest", "pytest-cov", "pytest-split", "pytest-timeout", "coverage"} {
		result.Tools[name] = pins(frozen)[name]
	}
	var tests []report.Tests
	var outputs []string
	empty := 0
	for i, shard := range done {
		if shard.ExitCode != pytestPassed && shard.ExitCode != pytestNoTests {
			tail, err := shard.Tail(ctx)
			if err != nil {
				return result, err
			}
			if !slices.Contains(outputs, tail) {
				outputs = append(outputs, tail)
			}
			if shard.ExitCode == pytestUsage || shard.ExitCode == pytestBroke || shard.ExitCode > pytestNoTests || shard.ExitCode < 0 {
				result.Reports = t.reports(done)
				result.Output = tail
				result.Findings, err = parsePytest(tail, shard.ExitCode)
				if err != nil {
					result.Verdict, result.Reason = graph.Errored, firstLine(err.Error())
					return result, nil
				}
				result.Verdict, result.Reason = graph.Failed, "pytest: "+firstLine(result.Findings[0].String())
				return result, nil
			}
		}
		if shard.ExitCode == pytestNoTests {
			empty++
			continue
		}
		text, err := shard.File(ctx, fmt.Sprintf("%s/junit-%d.xml", reportsDir, i+1))
		if err != nil {
			return result, err
		}
		parsed, err := report.ParseJUnit(strings.NewReader(text))
		if err != nil {
			return result, fmt.Errorf("shard %d: %w", i+1, err)
		}
		tests = append(tests, parsed)
	}
	result.Output = strings.Join(outputs, "\n")
	if empty == len(done) {
		skipped := step.Skip("pytest found no tests")
		skipped.Tools, skipped.Metrics = result.Tools, result.Metrics
		return skipped, nil
	}

	all := report.MergeTests(tests...)
	totals := all.Totals()
	// Every shard collects all tests, so each reports what can't be collected.
	result.Findings = all.Findings("pytest")
	for i, f := range result.Findings {
		if f.File == "" {
			result.Findings[i].File, result.Findings[i].Line = placeOf(f.Rule, all.Failed())
		}
	}
	report.SortFindings(result.Findings)
	result.Findings = slices.Compact(result.Findings)
	failures := len(result.Findings)
	result.Metrics["tests"] = float64(totals.Tests)
	result.Metrics["failures"] = float64(failures)
	result.Metrics["skipped"] = float64(totals.Skipped)
	result.Metrics["test_seconds"] = totals.Seconds

	combined, err := t.combine(ctx, ctr, done)
	if err != nil {
		return result, err
	}
	result.Reports = combined.Container.Directory(reportsDir)
	measured, percent := false, 0.0
	if combined.ExitCode == 0 {
		text, err := combined.File(ctx, reportsDir+"/coverage.xml")
		if err != nil {
			return result, err
		}
		coverage, err := report.ParseCobertura(strings.NewReader(text), sourceDir)
		if err != nil {
			return result, err
		}
		total, _ := coverage.Count()
		if measured = total > 0; measured {
			percent = coverage.Percent()
			result.Metrics["coverage_percent"] = percent
		}
	}

	collected := !slices.ContainsFunc(done, func(e step.Executed) bool { return e.ExitCode == pytestInterrupted })
	switch {
	case failures > 0:
		noun := "tests failed"
		if failures == 1 {
			noun = "test failed"
		}
		if !collected {
			noun = "of the test files can't be loaded"
		}
		result.Verdict = graph.Failed
		result.Reason = fmt.Sprintf("%d %s, first %s", failures, noun, firstLine(result.Findings[0].String()))
	case !collected || slices.ContainsFunc(done, func(e step.Executed) bool { return e.ExitCode == pytestFailed }):
		result.Verdict = graph.Failed
		result.Reason = "pytest failed though no test did: " + lastLine(result.Output)
	case threshold > 0 && !measured:
		result.Verdict = graph.Failed
		result.Reason = fmt.Sprintf("no coverage was measured, and %s %% are asked for", decimal(threshold))
	case threshold > 0 && percent < threshold:
		result.Verdict = graph.Failed
		result.Reason = fmt.Sprintf("coverage is %.1f %%, below the threshold of %s %%; coverage.html in the reports shows the lines", floor(percent), decimal(threshold))
	}
	return result, nil
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// floor cuts to one decimal: 79.96 must not read as "80.0, below 80".
func floor(f float64) float64 { return float64(int(f*10)) / 10 }

// reports gathers what the shards left behind; nil where none came to its end.
func (t Test) reports(done []step.Executed) (dir *dagger.Directory) {
	for _, shard := range done {
		switch {
		case shard.Container == nil:
		case dir == nil:
			dir = shard.Container.Directory(reportsDir).WithoutFile("running.txt")
		default:
			dir = dir.WithDirectory(".", shard.Container.Directory(reportsDir).WithoutFile("running.txt"))
		}
	}
	return dir
}

// combine joins the shards' coverage and durations. A non-zero exit code means that there was no coverage to join.
func (t Test) combine(ctx context.Context, ctr *dagger.Container, done []step.Executed) (step.Executed, error) {
	argv := []string{"python", "/millrace/durations.py", "/durations.json", reportsDir + "/.test_durations", "/cache/pytest/durations.json"}
	var parts []string
	for i, shard := range done {
		if shard.ExitCode == pytestNoTests {
			continue
		}
		argv = append(argv, fmt.Sprintf("%s/durations-%d.json", reportsDir, i+1))
		parts = append(parts, fmt.Sprintf("%s/.coverage.%d", reportsDir, i+1))
	}
	ctr = ctr.WithDirectory(reportsDir, t.reports(done)).
		WithEnvVariable("COVERAGE_FILE", reportsDir+"/.coverage").
		WithNewFile("/millrace/combine.py", combineScript).
		WithExec(argv)
	return step.Exec(ctx, ctr, reportsDir, "coverage", append([]string{venvPython, "/millrace/combine.py", reportsDir}, parts...))
}

//go:embed combine.py
var combineScript string

var (
	conftest = regexp.MustCompile(`ImportError while loading conftest '([^']+)'`)
	pyPlace  = regexp.MustCompile(`(?m)^(?:E +File "([^"\n]+)", line (\d+)|([^\s:"<>]+\.py):(\d+): )`)
	iniFile  = regexp.MustCompile(`(?m)^ +inifile: (.+)$`)
	saidE    = regexp.MustCompile(`(?m)^(?:E +(\S*(?:Error|Exception|Exit).*)|(?:ERROR: )?.*?error: (.+)|ERROR: (.+))$`)
)

// placeOf finds a module at the source's root that can't be loaded: its name has no dot, so nothing in the report
// tells it from a test's name but that it has no class.
func placeOf(name string, failed []report.Case) (string, int) {
	for _, c := range failed {
		if c.Name != name || c.Class != "" {
			continue
		}
		file := strings.ReplaceAll(name, ".", "/") + ".py"
		for _, m := range pyPlace.FindAllStringSubmatch(c.Text, -1) {
			if relative(m[1]+m[3]) == file {
				return file, number(m[2] + m[4])
			}
		}
		return file, 0
	}
	return "", 0
}

// parsePytest reads what pytest printed when it ended before it wrote a report: exit code 4 for wrong arguments, wrong
// settings or a conftest.py that can't be loaded, which are the project's fault, and 3 when pytest itself broke.
func parsePytest(output string, exit int) ([]report.Finding, error) {
	if exit != pytestUsage {
		return nil, broke("pytest", exit, output)
	}
	f := report.Finding{Tool: "pytest", Rule: "usage", Severity: report.High}
	if m := saidE.FindAllStringSubmatch(output, -1); m != nil {
		last := m[len(m)-1]
		f.Message = last[1] + last[2] + last[3]
	}
	if m := conftest.FindStringSubmatch(output); m != nil {
		f.Rule, f.File = "conftest", relative(m[1])
		for _, place := range pyPlace.FindAllStringSubmatch(output, -1) {
			file, line := place[1]+place[3], place[2]+place[4]
			// The last place inside the source is the one that the project can mend.
			if p := relative(file); !path.IsAbs(p) && !strings.HasPrefix(p, "../") && !strings.Contains(p, "site-packages") {
				f.File, f.Line = p, number(line)
			}
		}
	} else if m := iniFile.FindStringSubmatch(output); m != nil && m[1] != "None" {
		f.File = relative(m[1])
	}
	if f.Message == "" {
		return nil, broke("pytest", exit, output)
	}
	return []report.Finding{f}, nil
}
