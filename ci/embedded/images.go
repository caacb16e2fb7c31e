package embedded

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"regexp"
	"strings"

	"dagger.io/dagger"
)

const (
	// DebianSuite is the Debian that the engine's own containers are made of.
	DebianSuite = "bookworm"
	// GoVersion is the Go that Dagger modules are built with, and that stands in for golang:1.26.
	GoVersion = "1.26.8"
)

//go:embed images.go
var recipes []byte

// ImagesDigest identifies the recipes, as 12 hexadecimal digits: when they change, images are made again.
func ImagesDigest() string {
	sum := sha256.Sum256(recipes)
	return hex.EncodeToString(sum[:])[:12]
}

// Recipe tells how an image that stands in for one of Docker Hub is made.
type Recipe struct {
	// MadeOf says in a line what the image is made of.
	MadeOf string
	// Suite is the Debian whose root file system is the whole image; the other fields are empty then.
	Suite string
	// NeedsGo and NeedsRegistry say which inputs Build reads.
	NeedsGo, NeedsRegistry bool
	// Build makes the image.
	Build func(Inputs) *dagger.Container
}

// Inputs are what recipes are given.
type Inputs struct {
	Client *dagger.Client
	// Go is a Go distribution, as it stands at /usr/local/go.
	Go *dagger.Directory
	// Registry is the program of the registry.
	Registry *dagger.File
}

// Labels returns the labels that tell a stand-in from the image that it stands in for.
func (r Recipe) Labels(reference string) map[string]string {
	return map[string]string{
		"io.millrace.stand-in.for":     strings.TrimPrefix(reference, "library/"),
		"io.millrace.stand-in.made-of": r.MadeOf,
		"io.millrace.stand-in.recipes": ImagesDigest(),
	}
}

// rule maps the references that match a pattern to a recipe; match holds the pattern's groups.
type rule struct {
	// For shows people what the pattern matches.
	For     string
	pattern *regexp.Regexp
	recipe  func(match []string) Recipe
}

var rules = []rule{
	{"debian:bookworm-slim, debian:12-slim, debian:bookworm, debian:12", regexp.MustCompile(`^library/debian:(?:bookworm|12)(?:-slim)?$`), func([]string) Recipe { return debian("bookworm") }},
	{"debian:trixie-slim, debian:13-slim, debian:trixie, debian:13", regexp.MustCompile(`^library/debian:(?:trixie|13)(?:-slim)?$`), func([]string) Recipe { return debian("trixie") }},
	{"python:3.11-slim, python:3.11, python:3.13-slim, python:3.13", regexp.MustCompile(`^library/python:(3\.11|3\.13)(-slim)?$`), python},
	{"golang:1.26", regexp.MustCompile(`^library/golang:1\.26$`), func([]string) Recipe { return golang() }},
	{"golangci/golangci-lint:v2.X.Y", regexp.MustCompile(`^golangci/golangci-lint:(v2\.\d+\.\d+)$`), golangciLint},
	{"registry:3", regexp.MustCompile(`^library/registry:3$`), func([]string) Recipe { return registry() }},
}

// FindRecipe returns the recipe for a reference of Docker Hub, such as "library/python:3.11-slim".
func FindRecipe(reference string) (Recipe, bool) {
	for _, r := range rules {
		if match := r.pattern.FindStringSubmatch(reference); match != nil {
			return r.recipe(match), true
		}
	}
	return Recipe{}, false
}

// StandIns lists the images that there are recipes for, and what each is made of, for people.
func StandIns() [][2]string {
	samples := []string{"library/debian:12", "library/debian:13", "library/python:3.11-slim", "library/golang:1.26", "golangci/golangci-lint:v2.0.0", "library/registry:3"}
	all := make([][2]string, len(rules))
	for i, r := range rules {
		recipe, _ := FindRecipe(samples[i])
		all[i] = [2]string{r.For, recipe.MadeOf}
	}
	return all
}

func debian(suite string) Recipe {
	return Recipe{MadeOf: "Debian " + suite + " by mmdebstrap, with ca-certificates", Suite: suite}
}

// install is one command, because the engine looks after certificates before and after each.
const install = `export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb`

// withPackages installs Debian packages in one layer, and leaves no lists behind.
func withPackages(c *dagger.Container, packages ...string) *dagger.Container {
	return c.WithExec(append([]string{"sh", "-euc", install, "install"}, packages...))
}

func python(match []string) Recipe {
	version, slim := match[1], match[2] != ""
	suite := map[string]string{"3.11": "bookworm", "3.13": "trixie"}[version]
	packages := []string{"python3", "python3-venv", "python3-pip", "python3-setuptools", "python3-wheel"}
	if !slim {
		packages = append(packages, "build-essential", "python3-dev", "git", "curl")
	}
	return Recipe{
		MadeOf: "Python " + version + " and pip of Debian " + suite,
		Build: func(in Inputs) *dagger.Container {
			c := withPackages(in.Client.Container().From("debian:"+suite+"-slim"), packages...)
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

func golang() Recipe {
	return Recipe{
		MadeOf:  "Go " + GoVersion + " from the Go module proxy, and gcc, git, make of Debian " + DebianSuite,
		NeedsGo: true,
		Build: func(in Inputs) *dagger.Container {
			return withPackages(in.Client.Container().From("debian:"+DebianSuite+"-slim"), "gcc", "g++", "libc6-dev", "make", "pkg-config", "git", "openssh-client", "curl").
				WithDirectory("/usr/local/go", in.Go).
				// A module's zip, which is what Go comes in here, keeps no modes.
				WithExec([]string{"chmod", "-R", "a+x", "/usr/local/go/bin", "/usr/local/go/pkg/tool"}).
				WithEnvVariable("GOLANG_VERSION", GoVersion).
				WithEnvVariable("GOTOOLCHAIN", "local").
				WithEnvVariable("GOPATH", "/go").
				WithEnvVariable("PATH", "/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").
				WithExec([]string{"mkdir", "-p", "/go/src", "/go/bin"}).
				WithWorkdir("/go").
				WithDefaultArgs([]string{"bash"})
		},
	}
}

func golangciLint(match []string) Recipe {
	version := match[1]
	return Recipe{
		MadeOf: "golangci-lint " + version + " from the Go module proxy, on golang:1.26",
		Build: func(in Inputs) *dagger.Container {
			base := in.Client.Container().From("golang:1.26")
			bin := base.
				WithMountedCache("/go/pkg/mod", in.Client.CacheVolume("millrace-go-mod")).
				WithMountedCache("/root/.cache/go-build", in.Client.CacheVolume("millrace-go-build")).
				WithEnvVariable("CGO_ENABLED", "0").
				WithExec([]string{"go", "install", "-trimpath", "-ldflags", "-s -w -X main.version=" + strings.TrimPrefix(version, "v"), "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@" + version}).
				File("/go/bin/golangci-lint")
			return base.WithFile("/usr/bin/golangci-lint", bin).WithDefaultArgs([]string{"golangci-lint"})
		},
	}
}

func registry() Recipe {
	return Recipe{
		MadeOf:        "the CNCF distribution registry from the Go module proxy, with the file system driver only",
		NeedsRegistry: true,
		Build: func(in Inputs) *dagger.Container {
			return in.Client.Container().From("debian:"+DebianSuite+"-slim").
				WithFile("/bin/registry", in.Registry).
				WithNewFile("/etc/distribution/config.yml", registryConfig).
				WithExposedPort(5000).
				WithEntrypoint([]string{"registry"}).
				WithDefaultArgs([]string{"serve", "/etc/distribution/config.yml"})
		},
	}
}

const registryConfig = `version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :5000
`
