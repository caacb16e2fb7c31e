package python

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"dagger.io/dagger"
	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// installer returns the Python image with uv in it; its key is the image and uv's version.
func installer(ctx context.Context, c *dagger.Client, version string) (*dagger.Container, error) {
	base := c.Container().From(image.Python(version))
	trusted, err := base.Exists(ctx, caBundle)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", image.Python(version), step.Explain(err))
	}
	if trusted {
		// uv and Requests come with bundles of their own and would not know the host's authorities.
		base = base.WithEnvVariable("UV_SYSTEM_CERTS", "1").
			WithEnvVariable("SSL_CERT_FILE", caBundle).
			WithEnvVariable("REQUESTS_CA_BUNDLE", caBundle)
	}
	return base.
		WithEnvVariable("PIP_DISABLE_PIP_VERSION_CHECK", "1").
		WithEnvVariable("PIP_ROOT_USER_ACTION", "ignore").
		WithExec([]string{"pip", "install", "--no-cache-dir", "--quiet", "uv==" + uvVersion}).
		WithEnvVariable("UV_CACHE_DIR", "/cache/uv").
		WithEnvVariable("UV_LINK_MODE", "copy").
		// Containers are thrown away, so what is not compiled now would be compiled at every run.
		WithEnvVariable("UV_COMPILE_BYTECODE", "1").
		WithEnvVariable("UV_PYTHON_DOWNLOADS", "never").
		WithEnvVariable("UV_NO_PROGRESS", "1").
		WithEnvVariable("NO_COLOR", "1").
		WithMountedCache("/cache/uv", c.CacheVolume("millrace-uv")), nil
}

// requirements are the files that say what a project needs, and what they say.
type requirements struct {
	names []string
	texts map[string]string
	// lock is the project's uv.lock, which outranks everything else; empty without one.
	lock bool
}

// digest names the content, for caches that must not be shared between projects.
func (r requirements) digest() string {
	hash := sha256.New()
	for _, name := range r.names {
		fmt.Fprintf(hash, "%s\x00%s\x00", name, r.texts[name])
	}
	return hex.EncodeToString(hash.Sum(nil))[:12]
}

// readRequirements reads the requirement files named, of which a uv.lock outranks all others, or those that src has:
// uv.lock; else requirements*.txt and requirements/*.txt at its root and the [project] table of pyproject.toml;
// else requirements*.txt in any folder.
func readRequirements(ctx context.Context, src *dagger.Directory, names []string) (requirements, error) {
	r := requirements{names: slices.Clone(names), texts: map[string]string{}}
	if len(names) == 0 {
		found, err := src.Filter(dagger.DirectoryFilterOpts{
			Include: []string{"**/requirements*.txt", "**/requirements/*.txt", "pyproject.toml", "uv.lock"},
			Exclude: generated,
		}).Glob(ctx, "**/*")
		if err != nil {
			return r, fmt.Errorf("look for requirement files: %w", step.Explain(err))
		}
		r.names, r.lock = choose(found)
	} else if locked(names) {
		r.names, r.lock = lockedProject, true
	}
	var mu sync.Mutex
	read := func(ctx context.Context, name string) error {
		text, err := src.File(name).Contents(ctx)
		if err != nil {
			return fmt.Errorf("read the requirement file %s: %w", name, step.Explain(err))
		}
		mu.Lock()
		defer mu.Unlock()
		r.texts[name] = text
		return nil
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, name := range r.names {
		group.Go(func() error { return read(groupCtx, name) })
	}
	if err := group.Wait(); err != nil {
		return r, err
	}
	// A requirement file may include another one that no pattern found, and so on.
	for queue := slices.Clone(r.names); len(queue) > 0; queue = queue[1:] {
		for _, included := range includes(queue[0], r.texts[queue[0]]) {
			if _, known := r.texts[included]; known {
				continue
			}
			if exists, err := src.Exists(ctx, included); err != nil || !exists {
				continue // uv says so, with the file that includes it
			}
			if err := read(ctx, included); err != nil {
				return r, err
			}
			queue = append(queue, included)
		}
	}
	return r, nil
}

// lockedProject are the files of a project that uv has locked. They say all that it needs.
var lockedProject = []string{"pyproject.toml", "uv.lock"}

func locked(names []string) bool {
	return !slices.ContainsFunc(lockedProject, func(name string) bool { return !slices.Contains(names, name) })
}

// choose picks among the requirement files that a source tree has.
func choose(found []string) (names []string, lock bool) {
	found = slices.DeleteFunc(slices.Clone(found), func(name string) bool { return strings.HasSuffix(name, "/") })
	slices.Sort(found)
	if locked(found) {
		return lockedProject, true
	}
	for _, name := range found {
		if dir := path.Dir(name); dir == "." || dir == "requirements" {
			names = append(names, name)
		}
	}
	if len(names) == 0 || slices.Equal(names, []string{"pyproject.toml"}) {
		for _, name := range found {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, false
}

var includeLine = regexp.MustCompile(`(?m)^\s*(?:-r|-c|--requirement|--constraint)[ =]*(\S+)`)

// includes lists the files that a requirement file refers to, as seen from the source's root.
func includes(name, text string) []string {
	var files []string
	for _, m := range includeLine.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(m[1], "://") {
			files = append(files, path.Join(path.Dir(name), m[1]))
		}
	}
	return files
}

var ownLine = regexp.MustCompile(`(?m)^\s*(?:-e|--editable)?[ =]*(?:file:)?\.{1,2}/?(?:\[[^\]]*\])?\s*(?:#.*)?$`)

// inputs returns the files that uv resolves from: requirement files as they are, but for a line that installs the
// project itself, and of pyproject.toml only the dependencies, so that an edit to another table installs nothing anew.
func (r requirements) inputs() (files map[string]string, args []string, err error) {
	files = map[string]string{}
	for name, text := range r.texts {
		if name == "pyproject.toml" {
			continue
		}
		files[name] = ownLine.ReplaceAllString(text, "")
	}
	for _, name := range r.names {
		if name != "pyproject.toml" {
			args = append(args, name)
			continue
		}
		dependencies, err := projectDependencies(r.texts[name])
		if err != nil {
			return nil, nil, err
		}
		if dependencies != "" {
			files["pyproject.toml.dependencies.txt"] = dependencies
			args = append(args, "pyproject.toml.dependencies.txt")
		}
	}
	return files, args, nil
}

// projectDependencies lists what the standard tables of a pyproject.toml ask for, optional and development ones too.
func projectDependencies(text string) (string, error) {
	var file struct {
		Project struct {
			Name         string              `toml:"name"`
			Dependencies []string            `toml:"dependencies"`
			Optional     map[string][]string `toml:"optional-dependencies"`
		} `toml:"project"`
		Groups map[string][]any `toml:"dependency-groups"`
	}
	if err := toml.Unmarshal([]byte(text), &file); err != nil {
		var decode *toml.DecodeError
		if errors.As(err, &decode) {
			line, _ := decode.Position()
			return "", fmt.Errorf("pyproject.toml:%d: %w", line, err)
		}
		return "", fmt.Errorf("pyproject.toml: %w", err)
	}
	lines := slices.Clone(file.Project.Dependencies)
	for _, extra := range file.Project.Optional {
		lines = append(lines, extra...)
	}
	for _, members := range file.Groups {
		for _, member := range members {
			if line, ok := member.(string); ok { // the rest include another group, which is listed anyway
				lines = append(lines, line)
			}
		}
	}
	// An extra may ask for the project's other extras ("name[dev]"): they are listed already.
	lines = slices.DeleteFunc(lines, func(line string) bool {
		name, _, _ := strings.Cut(line, "[")
		return file.Project.Name != "" && normalize(strings.TrimSpace(name)) == normalize(file.Project.Name)
	})
	slices.Sort(lines)
	lines = slices.Compact(lines)
	if len(lines) == 0 {
		return "", nil
	}
	return strings.Join(lines, "\n") + "\n", nil
}

// environment is a container with the project's dependencies in /venv, and what is known about them.
type environment struct {
	// Container has the dependencies and the test tools in /venv; nil when they cannot be resolved.
	Container *dagger.Container
	// Resolved lists every distribution that the project needs, directly or not, with its version.
	Resolved *dagger.File
	// Fault says why the project's requirements cannot be met, as a result of its own; nil when they can.
	Fault *step.Result
}

// prepare installs what the project needs, and the test tools beside it, into a virtual environment.
//
// Its layers are keyed by the requirement files alone. The test tools come in the project's own versions where it
// pins them, else in those of our lock.
func prepare(ctx context.Context, c *dagger.Client, base *dagger.Container, r requirements) (environment, error) {
	resolved, fault, err := resolve(ctx, c, base, r)
	if err != nil || fault != nil {
		return environment{Fault: reported(c, fault)}, err
	}
	ctr := base.
		WithExec([]string{"uv", "venv", venvDir}).
		WithFile("/deps/project.txt", resolved).
		WithNewFile("/deps/test.in", testNames).
		// uv prefers the versions of the output file that it finds, unless the project rules them out.
		WithNewFile("/deps/environment.txt", testLock).
		WithExec([]string{"uv", "pip", "compile", "--quiet", "--python", venvDir, "--no-annotate",
			"--output-file", "/deps/environment.txt", "/deps/project.txt", "/deps/test.in"}).
		WithExec([]string{"uv", "pip", "sync", "--python", venvDir, "/deps/environment.txt"})
	ctr, err = ctr.Sync(ctx)
	if err != nil {
		fault, err := blame(err, r)
		return environment{Resolved: resolved, Fault: reported(c, fault)}, err
	}
	return environment{Container: ctr, Resolved: resolved}, nil
}

// resolve finds a version for every distribution that the project needs, directly or not.
func resolve(ctx context.Context, c *dagger.Client, base *dagger.Container, r requirements) (*dagger.File, *step.Result, error) {
	files, args, err := r.inputs()
	if err != nil {
		return nil, unmet(err.Error(), "pyproject.toml", 0), nil
	}
	if len(args) == 0 {
		return c.Directory().WithNewFile("project.txt", "").File("project.txt"), nil, nil
	}
	// In one order always: the engine's cache goes by how a folder was put together.
	folder := c.Directory()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		folder = folder.WithNewFile(name, files[name])
	}
	ctr := base.WithWorkdir("/deps/project")
	if r.lock {
		ctr = ctr.WithDirectory(".", folder.WithNewFile("pyproject.toml", r.texts["pyproject.toml"])).
			WithExec([]string{"uv", "export", "--quiet", "--frozen", "--no-emit-project", "--all-extras", "--all-groups",
				"--no-hashes", "--output-file", "/deps/project.txt"})
	} else {
		ctr = ctr.WithDirectory(".", folder).
			WithExec(append([]string{"uv", "pip", "compile", "--quiet", "--output-file", "/deps/project.txt"}, args...))
	}
	// A failure is no cached result: the index may be back, or have the distribution, at the next try.
	ctr, err = ctr.Sync(ctx)
	if err != nil {
		fault, err := blame(err, r)
		return nil, fault, err
	}
	return ctr.File("/deps/project.txt"), nil, nil
}

// atFault are uv's words when the requirements, and not the network, are the reason.
var atFault = []string{
	"No solution found when resolving", "Couldn't parse requirement", "Error parsing included file", "Failed to build",
	"Failed to parse", "Conflicting URLs", "File not found", "not a valid",
}

// inaccessible are uv's words when the index could not be asked, whatever it concludes from that.
var inaccessible = []string{"could not be queried", "error sending request", "Failed to fetch", "Network connectivity is disabled"}

// blame tells a project's fault, which is a result, from the machinery's, which is an error.
func blame(err error, r requirements) (*step.Result, error) {
	err = step.Explain(err)
	text := err.Error()
	for _, words := range inaccessible {
		if strings.Contains(text, words) {
			return nil, fmt.Errorf("install the project's dependencies: the package index cannot be reached: %w", err)
		}
	}
	for _, words := range atFault {
		if strings.Contains(text, words) {
			name, file, line := culprit(text, r)
			// uv wraps its explanation: one line of it is enough for a reason.
			_, said, _ := strings.Cut(text, "\n")
			said = strings.Join(strings.Fields(strings.NewReplacer("\n  cause:", ":", "error:", "").Replace(said)), " ")
			result := unmet(said, file, line)
			if name != "" {
				result.Findings[0].Rule = "requirement:" + name
			}
			result.Output = text
			return result, nil
		}
	}
	return nil, fmt.Errorf("install the project's dependencies: %w", err)
}

// unmet is the result for requirements that cannot be met.
func unmet(said, file string, line int) *step.Result {
	f := report.Finding{Tool: "uv", Rule: "requirement", Severity: report.High, File: file, Line: line, Message: said}
	return &step.Result{
		Verdict:  graph.Failed,
		Reason:   "requirements cannot be met: " + f.String(),
		Findings: []report.Finding{f},
		Tools:    map[string]string{"uv": uvVersion},
		Output:   said,
	}
}

// reported puts what uv said into reports.
func reported(c *dagger.Client, fault *step.Result) *step.Result {
	if fault != nil {
		fault.Reports = c.Directory().WithNewFile("uv.txt", fault.Output+"\n")
	}
	return fault
}

var (
	inFile  = regexp.MustCompile("(?:parse requirement in|parsing included file in) `([^`]+)`")
	missing = regexp.MustCompile(`(?:Because|cause:|and|build) +(?:there (?:is|are) no versions? of )?\x60?([A-Za-z0-9][A-Za-z0-9._-]*)(?:[=<>!~]=?[^ ]*)?\x60? `)
)

// culprit finds which requirement uv complains about, and where it stands.
func culprit(text string, r requirements) (name, file string, line int) {
	if m := inFile.FindStringSubmatch(text); m != nil {
		return "", strings.TrimPrefix(m[1], "/deps/project/"), 0
	}
	for _, m := range missing.FindAllStringSubmatch(text, -1) {
		if file, line := r.find(m[1]); file != "" {
			return m[1], file, line
		}
	}
	for _, m := range regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9._-]*`).FindAllString(text, -1) {
		if file, line := r.find(m); file != "" {
			return m, file, line
		}
	}
	return "", strings.Join(r.names, ", "), 0
}

var requirementName = regexp.MustCompile(`^\s*["']?([A-Za-z0-9][A-Za-z0-9._-]*)`)

// find returns where a distribution is required by name; the file is empty when nothing requires it directly.
func (r requirements) find(name string) (file string, line int) {
	for _, file := range slices.Sorted(maps.Keys(r.texts)) {
		if file == "uv.lock" {
			continue
		}
		n := 0
		for text := range strings.Lines(r.texts[file]) {
			n++
			m := requirementName.FindStringSubmatch(text)
			if m == nil || normalize(m[1]) != normalize(name) {
				continue
			}
			// In TOML a bare word is a key; only a quoted one is a requirement.
			if strings.HasSuffix(file, ".toml") && !strings.ContainsAny(strings.TrimSpace(text)[:1], `"'`) {
				continue
			}
			return file, n
		}
	}
	return "", 0
}
