package embedded

import "dagger.io/dagger"

func python(match []string) Recipe {
	version, slim := match[1], match[2] != ""
	suite := map[string]string{"3.11": "bookworm", "3.13": "trixie"}[version]
	packages := []string{"python3", "python3-venv", "python3-pip", "python3-setuptools", "python3-wheel"}
	if !slim {
		packages = append(packages, "build-essential", "python3-dev", "git", "curl")
	}
	return Recipe{
		file:   "python.go",
		MadeOf: "Python " + version + " and pip of Debian " + suite,
		Base:   "library/debian:" + suite + "-slim",
		Build: func(base *dagger.Container, _ Inputs) *dagger.Container {
			c := withPackages(base, packages...)
			for _, name := range []string{"python", "python3", "python" + version} {
				c = c.WithSymlink("/usr/bin/python"+version, "/usr/local/bin/"+name)
			}
			return c.
				// The image that this stands in for lets pip install beside what it has.
				WithExec([]string{"rm", "-f", "/usr/lib/python" + version + "/EXTERNALLY-MANAGED"}).
				WithEnvVariable("LANG", "C.UTF-8").
				WithEnvVariable("PYTHON_VERSION", version).
				WithDefaultArgs([]string{"python3"})
		},
	}
}
