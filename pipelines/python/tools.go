package python

import (
	_ "embed"
	"regexp"
	"strings"

	"dagger.io/dagger"
)

// uvVersion pins the installer; every other tool is pinned, with all that it needs, by the lock files below.
const uvVersion = "0.13.9"

// The locks are written by
//
//	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate NAME.in -o NAME.txt
//
// in the folder locks. To update a tool, edit its .in file and run that again.
var (
	//go:embed locks/lint.txt
	lintLock string

	//go:embed locks/test.txt
	testLock string
	// testNames is what the test tools are asked for by: names without versions, so that a project's own pin wins.
	//go:embed locks/test.in
	testNames string

	// securityLock has Bandit, and the last Safety that checks against a local database without calling home.
	//go:embed locks/security.txt
	securityLock string

	// accountLock has the current Safety, which does nothing before it has reached its vendor.
	//go:embed locks/account.txt
	accountLock string
)

var pinLine = regexp.MustCompile(`(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)`)

// pins returns the versions that a lock file, or the output of pip freeze, states by name.
func pins(lock string) map[string]string {
	versions := map[string]string{}
	for _, m := range pinLine.FindAllStringSubmatch(lock, -1) {
		versions[normalize(m[1])] = m[2]
	}
	return versions
}

var separators = regexp.MustCompile(`[-_.]+`)

// normalize spells a distribution's name as PEP 503 has it.
func normalize(name string) string {
	return strings.ToLower(separators.ReplaceAllString(name, "-"))
}

// toolbox installs a lock into a virtual environment of its own at /tools, so that a tool's dependencies
// and the project's can't disturb one another. Its key is the lock and the base image.
func toolbox(base *dagger.Container, lock string) *dagger.Directory {
	return base.
		WithNewFile("/locks/tools.txt", lock).
		WithExec([]string{"uv", "venv", toolsDir}).
		WithExec([]string{"uv", "pip", "install", "--python", toolsDir, "--require-hashes", "-r", "/locks/tools.txt"}).
		Directory(toolsDir)
}

// databaseScript makes of the installed safety-db a folder that safety reads.
//
//go:embed database.py
var databaseScript string
