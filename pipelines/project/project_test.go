package project_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// tree makes a file system of paths and contents.
func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func detect(t *testing.T, files map[string]string) *project.Project {
	t.Helper()
	p, err := project.Detect(project.FS(tree(files)), nil)
	require.NoError(t, err)
	return p
}

// platform is laid out as ML teams do.
var platform = map[string]string{
	"README.md":                                    "",
	"requirements.txt":                             "-r backend/requirements/api.txt\npytest==8.0.0\n",
	"pyproject.toml":                               "[project]\nname = \"shop\"\nrequires-python = \">=3.11,<3.12\"\n",
	"backend/__init__.py":                          "",
	"backend/api/app.py":                           "",
	"backend/batch/score.py":                       "",
	"backend/requirements/api.txt":                 "fastapi\n",
	"backend/tests/conftest.py":                    "",
	"backend/tests/test_api.py":                    "",
	"backend/tests/unit/test_batch.py":             "",
	"backend/docker/api.Dockerfile":                "FROM python:3.11-slim\nCOPY backend/requirements/api.txt r.txt\nRUN pip install -r r.txt\nCOPY backend/api backend/api\n",
	"backend/docker/batch.Dockerfile":              "FROM python:3.11-slim\nCOPY backend/batch /app/\n",
	"backend/docker/api.Dockerfile.dockerignore":   "*.md\n",
	"backend/k8s/deployment.yaml":                  "kind: Deployment\n",
	"backend/k8s/overlays/prod/kustomization.yaml": "resources: []\n",
	"loadtest/api.js":                              "",
	"loadtest/lib/helpers.js":                      "",
	"data/customers.csv":                           "",
	".github/workflows/ci.yml":                     "",
	".venv/lib/site-packages/x/setup.py":           "",
	"node_modules/x/Dockerfile":                    "FROM scratch\n",
	"frontend/vendor/y/test_y.py":                  "",
}

func TestDetectThePlatform(t *testing.T) {
	t.Parallel()
	p := detect(t, platform)
	require.Equal(t, project.Python{
		Sources:      []string{"backend"},
		Requirements: []string{"backend/requirements/api.txt", "pyproject.toml", "requirements.txt"},
		Tests:        []string{"backend/tests"},
		Version:      "3.11",
	}, p.Python)
	require.True(t, p.Python.Found())
	require.Equal(t, []string{"backend"}, p.Python.Paths())
	require.False(t, p.Go.Found())
	require.Equal(t, []project.Image{
		{Name: "api", Dockerfile: "backend/docker/api.Dockerfile", Context: ".", Parsed: project.Dockerfile{
			Bases: []string{"python:3.11-slim"}, Reads: []string{"backend/api", "backend/requirements/api.txt"}, Stages: []string{"0"}}},
		{Name: "batch", Dockerfile: "backend/docker/batch.Dockerfile", Context: ".", Parsed: project.Dockerfile{
			Bases: []string{"python:3.11-slim"}, Reads: []string{"backend/batch"}, Stages: []string{"0"}}},
	}, p.Images)
	require.Equal(t, []string{"backend/k8s"}, p.Manifests)
	require.Equal(t, []string{"loadtest/api.js"}, p.LoadTests)
	require.Empty(t, p.Warnings)
	require.Empty(t, p.ConfigFile)
	require.Equal(t, project.Test{Shards: 1, Timeout: 30 * time.Minute}, p.Test)
	require.Equal(t, "medium", p.Security.Severity)
	require.Equal(t, []string{"main", "develop"}, p.Publish.Branches)
}

// TestDetectTheExample runs on the real example, whose files other tests build and run.
func TestDetectTheExample(t *testing.T) {
	t.Parallel()
	p, err := project.Detect(project.FS(os.DirFS(filepath.Join("..", "..", "examples", "customer-intelligence"))), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"backend"}, p.Python.Sources)
	require.Equal(t, []string{"backend/tests"}, p.Python.Tests)
	require.Equal(t, "3.11", p.Python.Version)
	require.Contains(t, p.Python.Requirements, "requirements.txt")
	require.Contains(t, p.Python.Requirements, "pyproject.toml")
	var names []string
	for _, img := range p.Images {
		names = append(names, img.Name)
		require.NoError(t, img.Err)
		require.Equal(t, ".", img.Context)
		require.Equal(t, []string{"python:3.11-slim"}, img.Parsed.Bases)
		require.NotContains(t, img.Parsed.Reads, ".", "an edit to one service must not build the others")
	}
	require.Equal(t, []string{"api", "batch", "monitoring", "training"}, names)
	require.Equal(t, []string{"backend/k8s"}, p.Manifests)
	require.NotEmpty(t, p.LoadTests)
	require.Empty(t, p.Warnings)
}

func TestDetectPython(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files map[string]string
		want  project.Python
		paths []string
	}{
		"flat": {
			map[string]string{"app.py": "", "setup.py": "", "test_app.py": "", "requirements-dev.txt": ""},
			project.Python{Sources: []string{"app.py", "setup.py"}, Tests: []string{"test_app.py"}, Requirements: []string{"requirements-dev.txt"}, Version: "3.11"},
			[]string{"app.py", "setup.py", "test_app.py"}},
		"src layout with uv": {
			map[string]string{"src/shop/a.py": "", "tests/test_a.py": "", "tests/data/make.py": "", "pyproject.toml": "[project]\nrequires-python = '>=3.12'", "uv.lock": ""},
			project.Python{Sources: []string{"src"}, Tests: []string{"tests"}, Requirements: []string{"pyproject.toml", "uv.lock"}, Version: "3.12"},
			[]string{"src", "tests"}},
		"tests beside the code": {
			map[string]string{"shop/a.py": "", "shop/a_test.py": "", "shop/b/b.py": ""},
			project.Python{Sources: []string{"shop"}, Tests: []string{"shop"}, Version: "3.11"},
			[]string{"shop"}},
		"no tests": {
			map[string]string{"shop/a.py": "", "shop/tests/helper.py": ""},
			project.Python{Sources: []string{"shop"}, Version: "3.11"}, []string{"shop"}},
		"pyproject only for a tool": {
			map[string]string{"main.go": "", "pyproject.toml": "[tool.x]"},
			project.Python{Version: "3.11"}, nil},
		"included requirements of any name": {
			map[string]string{"a.py": "", "requirements.txt": "-r deps/prod.in\n--constraint=deps/pins\n-r missing.txt\nx # -r no\n", "deps/prod.in": "-r ../more.txt", "deps/pins": "", "more.txt": "-r requirements.txt"},
			project.Python{Sources: []string{"a.py"}, Requirements: []string{"deps/pins", "deps/prod.in", "more.txt", "requirements.txt"}, Version: "3.11"}, []string{"a.py"}},
		"two packages": {
			map[string]string{"a/x.py": "", "b/y.py": "", "a.b/z.py": ""},
			project.Python{Sources: []string{"a", "a.b", "b"}, Version: "3.11"}, []string{"a", "a.b", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := detect(t, test.files).Python
			require.Equal(t, test.want.Version, got.Version)
			require.Equal(t, test.paths, got.Paths())
			require.ElementsMatch(t, test.want.Sources, got.Sources)
			require.ElementsMatch(t, test.want.Tests, got.Tests)
			require.ElementsMatch(t, test.want.Requirements, got.Requirements)
		})
	}
}

func TestPythonVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ file, text, want, warning string }{
		{".python-version", "3.12.4\n", "3.12", ""},
		{".python-version", "# pyenv\n\ncpython-3.13.1\n3.12\n", "3.13", ""},
		{".python-version", "pypy3.10\n", "3.11", `.python-version asks for "pypy3.10", which is no version of Python 3: 3.11 is used`},
		{"pyproject.toml", "[project]\nrequires-python = '>=3.9'", "3.11", ""},
		{"pyproject.toml", "[project]\nrequires-python = '>=3.8, !=3.9.*, <3.11'", "3.8", ""},
		{"pyproject.toml", "[project]\nrequires-python = '>3.11.2'", "3.11", ""},
		{"pyproject.toml", "[project]\nrequires-python = '==3.12.*'", "3.12", ""},
		{"pyproject.toml", "[project]\nrequires-python = '~=3.12'", "3.12", ""},
		{"pyproject.toml", "[project]\nrequires-python = '~=3.10.2'", "3.10", ""},
		{"pyproject.toml", "[project]\nrequires-python = '<3.11'", "3.8", ""},
		{"pyproject.toml", "[project]\nrequires-python = '!=3.11.*'", "3.8", ""},
		{"pyproject.toml", "[project]\nrequires-python = '!=3.11.1,>=3.11'", "3.11", ""},
		{"pyproject.toml", "[project]\nrequires-python = '>=3'", "3.11", ""},
		{"pyproject.toml", "[tool.poetry.dependencies]\npython = '^3.12'", "3.12", ""},
		{"pyproject.toml", "[project]\nrequires-python = '>=3.99'", "3.11", `pyproject.toml asks for Python ">=3.99", which none of 3.8 to 3.14 meets: 3.11 is used`},
		{"pyproject.toml", "[project]\nrequires-python = 'three'", "3.11", `pyproject.toml asks for Python "three", which none of 3.8 to 3.14 meets: 3.11 is used`},
		{"pyproject.toml", "[project]\nname = \n", "3.11", "pyproject.toml:2:"},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			p := detect(t, map[string]string{"a.py": "", test.file: test.text})
			require.Equal(t, test.want, p.Python.Version)
			if test.warning == "" {
				require.Empty(t, p.Warnings)
				return
			}
			require.Len(t, p.Warnings, 1)
			require.Contains(t, p.Warnings[0], test.warning)
			require.NotContains(t, p.Warnings[0], "\n")
		})
	}
}

func TestDetectGo(t *testing.T) {
	t.Parallel()
	p := detect(t, map[string]string{"go.mod": "module x", "main.go": "", "tools/go.mod": "", "testdata/go.mod": "", "vendor/y/go.mod": "", "chart/Chart.yaml": "", "deploy/kustomization.yml": "", "x.k6.ts": ""})
	require.Equal(t, []string{".", "tools"}, p.Go.Modules)
	require.True(t, p.Go.Found())
	require.False(t, p.Python.Found())
	require.Empty(t, p.Images)
	require.Equal(t, []string{"chart", "deploy"}, p.Manifests)
	require.Equal(t, []string{"x.k6.ts"}, p.LoadTests)
}

func TestDetectImages(t *testing.T) {
	t.Parallel()
	type brief struct{ Name, Dockerfile, Context string }
	for name, test := range map[string]struct {
		files map[string]string
		want  []brief
	}{
		"root":                 {map[string]string{"Dockerfile": "FROM a"}, []brief{{"app", "Dockerfile", "."}}},
		"folder":               {map[string]string{"web/Dockerfile": "FROM a\nCOPY x .", "web/x": "", "x": ""}, []brief{{"web", "web/Dockerfile", "web"}}},
		"folder, root context": {map[string]string{"web/Dockerfile": "FROM a\nCOPY web/x lib .", "web/x": "", "lib/y": ""}, []brief{{"web", "web/Dockerfile", "."}}},
		"folder, middle":       {map[string]string{"a/b/Dockerfile": "FROM a\nCOPY b/x* .", "a/b/x1": ""}, []brief{{"b", "a/b/Dockerfile", "a"}}},
		"prefix":               {map[string]string{"Dockerfile.api": "FROM a", "Containerfile.web": "FROM a"}, []brief{{"api", "Dockerfile.api", "."}, {"web", "Containerfile.web", "."}}},
		"named, own folder":    {map[string]string{"svc/docker/api.Dockerfile": "FROM a\nCOPY run.sh .", "svc/docker/run.sh": ""}, []brief{{"api", "svc/docker/api.Dockerfile", "svc/docker"}}},
		"missing source":       {map[string]string{"d/api.Dockerfile": "FROM a\nCOPY nowhere ."}, []brief{{"api", "d/api.Dockerfile", "."}}},
		"odd name":             {map[string]string{"My API (v2).Dockerfile": "FROM a", "日本/Dockerfile": "FROM a"}, []brief{{"image", "日本/Dockerfile", "日本"}, {"my-api-v2", "My API (v2).Dockerfile", "."}}},
		"same name twice": {map[string]string{"a/svc/Dockerfile": "FROM a", "b/svc/Dockerfile": "FROM a", "docker/svc.Dockerfile": "FROM a"},
			[]brief{{"a-svc", "a/svc/Dockerfile", "a/svc"}, {"b-svc", "b/svc/Dockerfile", "b/svc"}, {"docker-svc", "docker/svc.Dockerfile", "."}}},
		"no Dockerfiles": {map[string]string{"docs/Dockerfile.md.txt/x": "", "Dockerfile.dockerignore": "", "mydockerfile": ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []brief
			for _, img := range detect(t, test.files).Images {
				require.NoError(t, img.Err)
				got = append(got, brief{img.Name, img.Dockerfile, img.Context})
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestImageWithASyntaxErrorIsTheBuildsToReport(t *testing.T) {
	t.Parallel()
	p := detect(t, map[string]string{"docker/api.Dockerfile": "FROM python:3.11\nRUNN pip install x\n", "docker/web.Dockerfile": "FROM scratch"})
	api, ok := p.Image("api")
	require.True(t, ok)
	require.EqualError(t, api.Err, "docker/api.Dockerfile:2: unknown instruction: RUNN (did you mean RUN?)\n    RUNN pip install x")
	web, ok := p.Image("web")
	require.True(t, ok)
	require.NoError(t, web.Err)
	_, ok = p.Image("none")
	require.False(t, ok)
}

func TestOddPathsSurvive(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 196)
	dir := t.TempDir()
	for _, name := range []string{"with space/mod 'x' \"y\".py", "new\nline/test_it.py", long + ".py", "d/a b.Dockerfile", "k8s/$(x).yaml", "-rf/x.py"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("FROM scratch"), 0o600))
	}
	p, err := project.Detect(project.FS(os.DirFS(dir)), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"-rf", long + ".py", "with space"}, p.Python.Sources)
	require.Equal(t, []string{"new\nline"}, p.Python.Tests)
	require.Equal(t, "a-b", p.Images[0].Name)
	require.Equal(t, "d/a b.Dockerfile", p.Images[0].Dockerfile)

	// The printed configuration gives the same project again.
	text, err := p.YAML()
	require.NoError(t, err)
	again, err := project.Detect(project.FS(os.DirFS(dir)), &project.File{Name: "x.yaml", Data: text})
	require.NoError(t, err, string(text))
	require.Equal(t, p.Images, again.Images)
	require.Equal(t, p.Python.Paths(), again.Python.Paths())
	reprinted, err := again.YAML()
	require.NoError(t, err)
	require.Equal(t, string(text), string(reprinted))
}

type brokenTree struct {
	project.Tree
	paths []string
	err   error
}

func (b brokenTree) Paths() ([]string, error)    { return b.paths, b.err }
func (b brokenTree) Read(string) ([]byte, error) { return nil, errors.New("disk on fire") }

func TestBadTrees(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bytes"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bytes", "caf\xe9.csv"), nil, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "folders", "b\xff"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "folders", "b\xff", "x"), nil, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "hidden", ".git"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hidden", ".git", "config"), nil, 0o600))
	for name, test := range map[string]struct {
		tree project.Tree
		want string
	}{
		"empty":                 {project.FS(fstest.MapFS{}), "source tree: it has no files that a pipeline could work on: is the folder right?"},
		"only git":              {project.FS(os.DirFS(filepath.Join(dir, "hidden"))), "source tree: it has no files that a pipeline could work on: is the folder right?"},
		"missing":               {project.FS(os.DirFS(filepath.Join(dir, "nowhere"))), "source tree: the folder does not exist"},
		"a file":                {project.FS(os.DirFS(file)), "source tree: it is a file, not a folder"},
		"not UTF-8":             {project.FS(os.DirFS(filepath.Join(dir, "bytes"))), `source tree: "caf\xe9.csv": the name is not valid UTF-8, which the engine can't take: rename it`},
		"folder not UTF-8":      {project.FS(os.DirFS(filepath.Join(dir, "folders"))), `source tree: "b\xff": the name is not valid UTF-8, which the engine can't take: rename it`},
		"listed not UTF-8":      {brokenTree{paths: []string{"a\xff"}}, `source tree: "a\xff": the name is not valid UTF-8, which the engine can't take: rename it`},
		"two configs":           {project.FS(tree(map[string]string{"millrace.yaml": "", ".millrace.yaml": ""})), "source tree: .millrace.yaml: there is a millrace.yaml too: keep one of them"},
		"config folder":         {project.FS(tree(map[string]string{"millrace.yaml/x": ""})), "source tree: millrace.yaml: it is a folder, not a file"},
		"Dockerfile unreadable": {brokenTree{paths: []string{"d\n/Dockerfile"}}, `source tree: "d\n/Dockerfile": can't be read: disk on fire`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := project.Detect(test.tree, nil)
			require.EqualError(t, err, test.want)
			var bad *project.TreeError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, 2, bad.ExitCode())
			require.NotContains(t, err.Error(), "\n")
		})
	}
	t.Run("listing fails", func(t *testing.T) {
		t.Parallel()
		_, err := project.Detect(brokenTree{err: fs.ErrClosed}, nil)
		require.ErrorIs(t, err, fs.ErrClosed)
		require.False(t, errors.As(err, new(*project.TreeError)), "the machinery is at fault")
	})
}

// countingTree counts what is asked of it.
type countingTree struct {
	project.Tree
	lists int
	reads []string
}

func (c *countingTree) Paths() ([]string, error) {
	c.lists++
	return c.Tree.Paths()
}

func (c *countingTree) Read(p string) ([]byte, error) {
	c.reads = append(c.reads, p)
	return c.Tree.Read(p)
}

func TestDetectIsCheap(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a/Dockerfile": "FROM a", "pyproject.toml": "", "millrace.yaml": "test: {coverage: 90}"}
	for i := range 5000 {
		files[fmt.Sprintf("pkg%d/mod%d.py", i%50, i)] = ""
	}
	c := &countingTree{Tree: project.FS(tree(files))}
	_, err := project.Detect(c, nil)
	require.NoError(t, err)
	require.Equal(t, 1, c.lists)
	require.ElementsMatch(t, []string{"a/Dockerfile", "pyproject.toml", "millrace.yaml"}, c.reads)
}

func TestIgnored(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]bool{
		"a.py": false, ".python-version": false, "a/.hidden": false, ".git/config": true, "x/node_modules/y/z.js": true, "x/.venv/y": true,
		"builder/x": false, "x.egg-info/y": true, "testdata/x": true, "build/api.Dockerfile": false, "build/lib/shop/a.py": true, "a/b/__pycache__/c.pyc": true,
	} {
		require.Equal(t, want, project.Ignored(p), p)
	}
}

func TestSeveritiesAreTheReports(t *testing.T) {
	t.Parallel()
	var names []string
	for _, s := range report.Severities {
		names = append(names, string(s))
	}
	require.Equal(t, names, project.Severities)
}

func TestDate(t *testing.T) {
	t.Parallel()
	d, err := project.ParseDate("2026-12-31")
	require.NoError(t, err)
	require.Equal(t, "2026-12-31", d.String())
	require.False(t, d.Over(time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC)))
	require.True(t, d.Over(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)))
	_, err = project.ParseDate("31.12.2026")
	require.EqualError(t, err, `"31.12.2026" is no date: write it as 2026-12-31`)
}

func BenchmarkDetect(b *testing.B) {
	files := map[string]string{}
	for k, v := range platform {
		files[k] = v
	}
	for i := range 10_000 {
		files[fmt.Sprintf("backend/pkg%d/mod%d.py", i%100, i)] = ""
	}
	t := project.FS(tree(files))
	for b.Loop() {
		if _, err := project.Detect(t, nil); err != nil {
			b.Fatal(err)
		}
	}
}
