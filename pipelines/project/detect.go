package project

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// File is a file that the caller has read.
type File struct {
	// Name is shown in messages.
	Name string
	// Data is the content.
	Data []byte
}

// ConfigNames are the names under which the configuration is looked for in the tree's root.
var ConfigNames = []string{"millrace.yaml", ".millrace.yaml"}

// Detect returns what the tree holds, overruled by the configuration. With config nil, millrace.yaml or .millrace.yaml
// in the tree's root is read, if it is there. The tree is listed once; read are the configuration, Dockerfiles,
// .python-version, pyproject.toml and requirements files.
//
// A tree that can't be used gives a [*TreeError] and a mistake in the configuration a [*ConfigError]; both are the
// user's to put right. A mistake in a Dockerfile is kept in [Image].Err, because it is for the build to fail on.
func Detect(tree Tree, config *File) (*Project, error) {
	l, err := list(tree)
	if err != nil {
		return nil, err
	}
	p := defaults()
	if err := p.detectPython(l); err != nil {
		return nil, err
	}
	for _, f := range l.files {
		if path.Base(f) == "go.mod" {
			p.Go.Modules = append(p.Go.Modules, path.Dir(f))
		}
	}
	p.detectManifests(l)
	p.detectLoadTests(l)
	p.detectImages(l)

	if config == nil {
		if config, err = findConfig(l); err != nil {
			return nil, err
		}
	}
	if config != nil {
		if err := p.configure(l, *config); err != nil {
			return nil, err
		}
	}
	for _, img := range p.Images {
		if img.Skip {
			p.Skipped = append(p.Skipped, img)
		}
	}
	p.Images = slices.DeleteFunc(p.Images, func(img Image) bool { return img.Skip })
	for i := range p.Images {
		if err := p.Images[i].parse(l); err != nil {
			return nil, err
		}
	}
	for i := range p.Models {
		m := &p.Models[i]
		if m.Dockerfile == "" {
			continue
		}
		data, err := l.read(m.Dockerfile)
		if err != nil {
			return nil, err
		}
		m.Parsed, _ = ParseDockerfile(m.Dockerfile, data, "", nil)
	}
	return p, nil
}

func findConfig(l *listing) (*File, error) {
	var found *File
	for _, name := range ConfigNames {
		// Hidden files in the root are listed: only hidden folders are ignored.
		if !l.exists[name] {
			continue
		}
		if found != nil {
			return nil, &TreeError{Path: name, Problem: fmt.Sprintf("there is a %s too: keep one of them", found.Name)}
		}
		if l.folders[name] {
			return nil, &TreeError{Path: name, Problem: "it is a folder, not a file"}
		}
		data, err := l.read(name)
		if err != nil {
			return nil, err
		}
		found = &File{Name: name, Data: data}
	}
	return found, nil
}

// warn notes what a person should know; text is made to fit in one line.
func (p *Project) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
}

// --- Python

// requirementsFile matches the files that dependencies are installed from.
func requirementsFile(p string) bool {
	base := path.Base(p)
	switch {
	case base == "pyproject.toml", base == "uv.lock":
		return true
	case path.Ext(base) == ".txt":
		return strings.HasPrefix(base, "requirements") || path.Base(path.Dir(p)) == "requirements"
	}
	return false
}

// testFile matches what pytest collects by default.
func testFile(p string) bool {
	base := path.Base(p)
	return strings.HasSuffix(base, ".py") && strings.HasPrefix(base, "test_") || strings.HasSuffix(base, "_test.py")
}

func (p *Project) detectPython(l *listing) error {
	var sources, tests []string
	for _, f := range l.files {
		if requirementsFile(f) {
			p.Python.Requirements = append(p.Python.Requirements, f)
		}
		if testFile(f) {
			tests = append(tests, testFolder(f))
		}
	}
	p.Python.Tests = outermost(slices.DeleteFunc(tests, func(t string) bool { return t == "." }))
	apart := testsApart(l, p.Python.Tests)
	for _, f := range l.files {
		if !strings.HasSuffix(f, ".py") || slices.ContainsFunc(apart, func(t string) bool { return within(f, t) }) {
			continue
		}
		top, _, _ := strings.Cut(f, "/")
		if top == f && testFile(f) {
			p.Python.Tests = append(p.Python.Tests, f)
			continue
		}
		sources = append(sources, top)
	}
	p.Python.Sources = outermost(sources)
	slices.Sort(p.Python.Tests)
	if !p.Python.Found() {
		// A pyproject.toml alone, kept for a tool's settings, makes no Python project.
		p.Python.Requirements = nil
		return nil
	}
	p.followIncludes(l)
	return p.detectVersion(l)
}

// testFolder returns the outermost folder called test or tests that holds f, or else f's own.
func testFolder(f string) string {
	parts := strings.Split(path.Dir(f), "/")
	for i, part := range parts {
		if part == "tests" || part == "test" {
			return strings.Join(parts[:i+1], "/")
		}
	}
	return path.Dir(f)
}

// testsApart returns those of the folders that hold tests alone: by their name, or because there is no other code.
func testsApart(l *listing, folders []string) []string {
	return slices.DeleteFunc(slices.Clone(folders), func(dir string) bool {
		if base := path.Base(dir); base == "tests" || base == "test" {
			return false
		}
		return slices.ContainsFunc(l.files, func(f string) bool {
			base := path.Base(f)
			return within(f, dir) && strings.HasSuffix(f, ".py") && !testFile(f) && base != "conftest.py" && base != "__init__.py"
		})
	})
}

var includeLine = regexp.MustCompile(`(?m)^\s*(?:-r|-c|--requirement|--constraint)(?:\s+|=)(\S+)`)

// followIncludes adds the files that requirements files include, whatever their names: an install needs them too.
func (p *Project) followIncludes(l *listing) {
	for i := 0; i < len(p.Python.Requirements); i++ {
		f := p.Python.Requirements[i]
		if path.Ext(f) != ".txt" && path.Ext(f) != ".in" {
			continue
		}
		data, err := l.read(f)
		if err != nil {
			p.warn("%v", err)
			continue
		}
		for _, m := range includeLine.FindAllSubmatch(data, -1) {
			included := path.Join(path.Dir(f), string(m[1]))
			if l.exists[included] && !l.folders[included] && !slices.Contains(p.Python.Requirements, included) {
				p.Python.Requirements = append(p.Python.Requirements, included)
			}
		}
	}
	slices.Sort(p.Python.Requirements)
}

var minorVersion = regexp.MustCompile(`^3\.[0-9]+`)

// detectVersion asks .python-version, then requires-python, of the root first and then of the first folder that has one.
func (p *Project) detectVersion(l *listing) error {
	byDepth := func(base string) (string, bool) {
		var found []string
		for _, f := range l.files {
			if path.Base(f) == base {
				found = append(found, f)
			}
		}
		if len(found) == 0 {
			return "", false
		}
		return slices.MinFunc(found, func(a, b string) int { return cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")) }), true
	}
	if f, ok := byDepth(".python-version"); ok {
		data, err := l.read(f)
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			line = strings.TrimPrefix(strings.TrimSpace(line), "cpython-")
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if v := minorVersion.FindString(line); v != "" {
				p.Python.Version = v
				return nil
			}
			p.warn("%s asks for %q, which is no version of Python 3: %s is used", showPath(f), line, p.Python.Version)
			break
		}
	}
	f, ok := byDepth("pyproject.toml")
	if !ok {
		return nil
	}
	data, err := l.read(f)
	if err != nil {
		return err
	}
	var doc struct {
		Project struct {
			RequiresPython string `toml:"requires-python"`
		} `toml:"project"`
		Tool struct {
			Poetry struct {
				Dependencies struct {
					Python string `toml:"python"`
				} `toml:"dependencies"`
			} `toml:"poetry"`
		} `toml:"tool"`
	}
	if err := toml.Unmarshal(data, &doc); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			p.warn("%s:%d:%d: %v: its requires-python is not looked at", showPath(f), row, column, at)
		} else {
			p.warn("%s: %v: its requires-python is not looked at", showPath(f), err)
		}
		return nil
	}
	spec := cmp.Or(doc.Project.RequiresPython, doc.Tool.Poetry.Dependencies.Python)
	if spec == "" {
		return nil
	}
	if v, ok := pickVersion(spec); ok {
		p.Python.Version = v
	} else {
		p.warn("%s asks for Python %q, which none of 3.%d to 3.%d meets: %s is used", showPath(f), spec, oldestMinor, newestMinor, p.Python.Version)
	}
	return nil
}

// The minor versions of Python 3 that requires-python is tried with.
const (
	oldestMinor = 8
	newestMinor = 14
)

var specifier = regexp.MustCompile(`^(===|==|~=|!=|<=|>=|<|>|\^|~)?\s*v?3(?:\.([0-9]+|\*))?((?:\.(?:[0-9]+|\*))*)$`)

// pickVersion returns the default version if spec allows it, else the oldest that it allows.
func pickVersion(spec string) (string, bool) {
	_, text, _ := strings.Cut(DefaultPython, ".")
	preferred, _ := strconv.Atoi(text)
	if allows(spec, preferred) {
		return DefaultPython, true
	}
	for minor := oldestMinor; minor <= newestMinor; minor++ {
		if allows(spec, minor) {
			return fmt.Sprintf("3.%d", minor), true
		}
	}
	return "", false
}

// allows reports whether some release of Python 3.minor meets all clauses of spec.
func allows(spec string, minor int) bool {
	for clause := range strings.SplitSeq(spec, ",") {
		clause = strings.TrimSpace(clause)
		if clause == "" || clause == "*" || clause == "<4" || clause == "<4.0" {
			continue
		}
		m := specifier.FindStringSubmatch(clause)
		if m == nil {
			return false
		}
		if m[2] == "" || m[2] == "*" {
			// The clause is about Python 3 as a whole.
			switch m[1] {
			case "<", "!=", "<=":
				return false
			}
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return false
		}
		patch := strings.Trim(m[3], ".0*")
		var ok bool
		switch m[1] {
		case ">=", "^", ">":
			ok = minor >= n
		case "<=":
			ok = minor <= n
		case "<":
			ok = minor < n || minor == n && patch != ""
		case "!=":
			ok = minor != n || !strings.HasSuffix(clause, "*") && m[3] != ""
		case "~=":
			// ~=3.10 is >=3.10,==3.*; ~=3.10.2 is >=3.10.2,==3.10.*
			ok = minor >= n && (m[3] == "" || minor == n)
		default: // ==, ===, ~ and none
			ok = minor == n
		}
		if !ok {
			return false
		}
	}
	return true
}

// --- Kubernetes and load tests

var manifestFolders = []string{"k8s", "kubernetes", "manifests", "kustomize", "helm", "chart", "charts"}

func (p *Project) detectManifests(l *listing) {
	var found []string
	for _, f := range l.files {
		ext := path.Ext(f)
		if ext != ".yaml" && ext != ".yml" {
			continue
		}
		base := strings.TrimSuffix(path.Base(f), ext)
		switch dir := outermostNamed(f, manifestFolders); {
		case dir != "":
			found = append(found, dir)
		case base == "kustomization", base == "Chart":
			found = append(found, path.Dir(f))
		}
	}
	p.Manifests = outermost(slices.DeleteFunc(found, func(d string) bool { return d == "." }))
}

// outermostNamed returns the outermost folder above f whose name is among names; empty if there is none.
func outermostNamed(f string, names []string) string {
	parts := strings.Split(path.Dir(f), "/")
	for i, part := range parts {
		if slices.Contains(names, strings.ToLower(part)) {
			return strings.Join(parts[:i+1], "/")
		}
	}
	return ""
}

var loadTestFolders = []string{
	"loadtest", "loadtests", "load-test", "load-tests", "load_test", "load_tests", "k6", "perf", "performance",
}

// loadTestModules are the folders, below those of load tests, with code that scripts import and that is none itself.
var loadTestModules = []string{"lib", "libs", "helpers", "utils", "modules", "common", "shared"}

func (p *Project) detectLoadTests(l *listing) {
	for _, f := range l.files {
		base := path.Base(f)
		if path.Ext(base) != ".js" && path.Ext(base) != ".ts" {
			continue
		}
		dir := outermostNamed(f, loadTestFolders)
		if dir != "" && outermostNamed(strings.TrimPrefix(f, dir+"/"), loadTestModules) == "" || strings.Contains(base, ".k6.") {
			p.LoadTests = append(p.LoadTests, f)
		}
	}
}

// --- Images

// dockerfileName takes the image's name out of a Dockerfile's; own is true if the file carries no name of its own.
func dockerfileName(p string) (name string, own, ok bool) {
	base := path.Base(p)
	if strings.HasSuffix(base, ".dockerignore") {
		return "", false, false
	}
	for _, plain := range []string{"Dockerfile", "Containerfile"} {
		if base == plain {
			if name = path.Base(path.Dir(p)); name == "." {
				name = rootImage
			}
			return imageName(name), true, true
		}
		if rest, found := strings.CutSuffix(base, "."+plain); found && rest != "" {
			return imageName(rest), false, true
		}
		if rest, found := strings.CutPrefix(base, plain+"."); found && rest != "" {
			return imageName(rest), false, true
		}
	}
	return "", false, false
}

// rootImage is the name of the image of a Dockerfile in the root, which no folder and no suffix names.
const rootImage = "app"

var (
	notInImageName = regexp.MustCompile(`[^a-z0-9]+`)
	validImageName = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)
)

// imageName turns text into a valid part of a repository's name.
func imageName(text string) string {
	text = strings.ToLower(text)
	if validImageName.MatchString(text) {
		return text
	}
	return cmp.Or(strings.Trim(notInImageName.ReplaceAllString(text, "-"), "-"), "image")
}

func (p *Project) detectImages(l *listing) {
	byName := map[string][]string{}
	for _, f := range l.files {
		if name, _, ok := dockerfileName(f); ok {
			byName[name] = append(byName[name], f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		for _, f := range byName[name] {
			img := Image{Name: name, Dockerfile: f}
			if dir := path.Dir(f); len(byName[name]) > 1 && dir != "." {
				// Two Dockerfiles of one name: put the folders in front.
				if _, own, _ := dockerfileName(f); own {
					img.Name = imageName(strings.ReplaceAll(dir, "/", "-"))
				} else {
					img.Name = imageName(strings.ReplaceAll(dir, "/", "-") + "-" + name)
				}
			}
			for n, base := 2, img.Name; slices.ContainsFunc(p.Images, func(o Image) bool { return o.Name == img.Name }); n++ {
				img.Name = fmt.Sprintf("%s-%d", base, n)
			}
			p.Images = append(p.Images, img)
		}
	}
	slices.SortFunc(p.Images, func(a, b Image) int { return cmp.Compare(a.Name, b.Name) })
}

// parse reads the image's Dockerfile, and settles the context if nobody has named one.
func (img *Image) parse(l *listing) error {
	data, err := l.read(img.Dockerfile)
	if err != nil {
		return err
	}
	img.Parsed, img.Err = ParseDockerfile(img.Dockerfile, data, img.Target, img.Args)
	if img.Context == "" {
		img.Context = guessContext(l, img.Dockerfile, img.Parsed.Reads)
	}
	return nil
}

// guessContext returns the folder in which all that the Dockerfile copies is found.
// A plain Dockerfile is tried from its own folder upwards, as "docker build DIR" has it; an api.Dockerfile is one of
// several for the same code and is tried from the root downwards.
func guessContext(l *listing, dockerfile string, reads []string) string {
	folders := []string{path.Dir(dockerfile)}
	for dir := path.Dir(dockerfile); dir != "."; {
		dir = path.Dir(dir)
		folders = append(folders, dir)
	}
	if _, own, _ := dockerfileName(dockerfile); !own {
		slices.Reverse(folders)
	}
	for _, dir := range folders {
		if !slices.ContainsFunc(reads, func(read string) bool { return !l.matches(path.Join(dir, read)) }) {
			return dir
		}
	}
	return folders[0]
}

// matches reports whether a path exists, or any that a wildcard stands for.
func (l *listing) matches(pattern string) bool {
	if l.exists[pattern] {
		return true
	}
	if !strings.ContainsAny(pattern, `*?[`) {
		return false
	}
	for p := range l.exists {
		if ok, err := path.Match(pattern, p); ok && err == nil {
			return true
		}
	}
	return false
}
