package python

import (
	"path"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/step"
)

// Where things lie in the containers.
const (
	sourceDir  = "/src"
	reportsDir = "/reports"
	toolsDir   = "/tools"
	venvDir    = "/venv"
	venvPython = venvDir + "/bin/python"
	caBundle   = "/etc/ssl/certs/ca-certificates.crt"
	// systemPath is PATH as the Python images have it.
	systemPath = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// generated are folders that tools and editors leave in a working tree; nobody wants them linted or uploaded.
var generated = []string{
	"**/.git", "**/.hg", "**/.svn", "**/.venv", "**/venv", "**/node_modules", "**/__pycache__", "**/.mypy_cache",
	"**/.pytest_cache", "**/.ruff_cache", "**/.tox", "**/.nox", "**/.eggs", "**/*.egg-info", "**/.ipynb_checkpoints",
}

// settingsFiles are the files, at the root of a source tree, in which Python tools keep their settings.
var settingsFiles = []string{
	"pyproject.toml", "setup.cfg", "tox.ini", ".editorconfig",
	".flake8", ".isort.cfg", "mypy.ini", ".mypy.ini",
	"pylintrc", ".pylintrc", "pylintrc.toml", ".pylintrc.toml",
	"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", ".coveragerc", ".bandit",
}

// code is the part of src that tools read which look at Python code alone: modules, stubs and settings.
// Files of settings are taken only by the names given, so that an edit to another tool's settings re-runs nothing.
func code(src step.Source, settings ...string) *dagger.Directory {
	include := []string{"**/*.py", "**/*.pyi", "**/py.typed"}
	return src.Part(append(include, settings...), generated)
}

// untested are files that no test reads, by what they are for.
var untested = []string{
	"**/*.md", "**/*.rst", "**/LICENSE*", "**/.gitignore",
	".github", ".gitlab-ci.yml", ".circleci", ".buildkite", "Jenkinsfile", "azure-pipelines.yml", "bitbucket-pipelines.yml",
	".woodpecker*", ".pre-commit-config.yaml", ".editorconfig", ".vscode", ".idea", "millrace.yaml",
	".flake8", ".isort.cfg", "mypy.ini", ".mypy.ini", "pylintrc", ".pylintrc", "pylintrc.toml", ".pylintrc.toml", ".bandit",
}

// testable is src without what no test reads; exclude adds patterns to that.
func testable(src step.Source, exclude []string) *dagger.Directory {
	return src.Part(nil, slices.Concat(generated, untested, exclude))
}

// relative spells a path that a tool printed as seen from the source's root, with slashes.
func relative(p string) string {
	if rest, ok := strings.CutPrefix(p, sourceDir+"/"); ok {
		p = rest
	}
	if p == "" {
		return ""
	}
	return path.Clean(p)
}
