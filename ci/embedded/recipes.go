package embedded

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"

	"dagger.io/dagger"
)

// A file of recipes is part of the digest of those images alone that are made by it.
//
//go:embed debian.go python.go golang.go registry.go kubernetes.go k6.go
var recipeFiles embed.FS

// Recipe tells how an image that stands in for one of Docker Hub is made.
type Recipe struct {
	// MadeOf says in a line what the image is made of.
	MadeOf string
	// Suite is the Debian whose root file system is the whole image; the fields below are empty then.
	Suite string
	// Base is the image that this one is made on, of which there is a recipe too.
	Base string
	// NeedsGo says that Build reads the Go distribution.
	NeedsGo bool
	// Programs are those that Build reads.
	Programs []Module
	// Build makes the image on its base.
	Build func(base *dagger.Container, in Inputs) *dagger.Container

	// file is the file of this package that has the recipe.
	file string
}

// Inputs are what recipes are given.
type Inputs struct {
	Client *dagger.Client
	// Go is a Go distribution, as it stands at /usr/local/go.
	Go *dagger.Directory
	// Programs are folders with the programs of modules.
	Programs map[Module]*dagger.Directory
}

// Digest identifies all that the image is made of and how, as 12 hexadecimal digits: when it changes, the image is made again.
func (r Recipe) Digest() (string, error) {
	h := sha256.New()
	if err := r.hash(h); err != nil {
		return "", fmt.Errorf("identify the recipe of %s: %w", r.MadeOf, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

func (r Recipe) hash(h io.Writer) error {
	text, err := recipeFiles.ReadFile(r.file)
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%q %q %x\n", r.MadeOf, r.Suite, sha256.Sum256(text))
	if r.NeedsGo {
		fmt.Fprintln(h, "go", GoVersion)
	}
	for _, m := range r.Programs {
		digest, err := m.Digest()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, m, digest)
	}
	if r.Suite != "" {
		return nil
	}
	base, ok := FindRecipe(r.Base)
	if !ok {
		return fmt.Errorf("there is no recipe for its base, %s", r.Base)
	}
	return base.hash(h)
}

// RecipesDigest identifies all recipes, as 12 hexadecimal digits.
func RecipesDigest() (string, error) {
	h := sha256.New()
	for _, r := range rules {
		recipe, _ := FindRecipe(r.sample)
		fmt.Fprintln(h, r.pattern)
		if err := recipe.hash(h); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// Labels returns the labels that tell a stand-in from the image that it stands in for.
func (r Recipe) Labels(reference string) map[string]string {
	return map[string]string{
		"io.millrace.stand-in.for":     strings.TrimPrefix(reference, "library/"),
		"io.millrace.stand-in.made-of": r.MadeOf,
	}
}

// rule maps the references that match a pattern to a recipe; match holds the pattern's groups.
type rule struct {
	// names shows people what the pattern matches; sample is one such reference.
	names, sample string
	pattern       *regexp.Regexp
	recipe        func(match []string) Recipe
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

// rules are filled in when the program starts, because a recipe finds that of its base by them.
var rules []rule

func init() {
	rules = []rule{
		{"debian:bookworm-slim, debian:12-slim, debian:bookworm, debian:12", "library/debian:12", regexp.MustCompile(`^library/debian:(?:bookworm|12)(?:-slim)?$`), func([]string) Recipe { return debian("bookworm") }},
		{"debian:trixie-slim, debian:13-slim, debian:trixie, debian:13", "library/debian:13", regexp.MustCompile(`^library/debian:(?:trixie|13)(?:-slim)?$`), func([]string) Recipe { return debian("trixie") }},
		{"python:3.11-slim, python:3.11, python:3.13-slim, python:3.13", "library/python:3.11-slim", regexp.MustCompile(`^library/python:(3\.11|3\.13)(-slim)?$`), python},
		{"golang:1.26", "library/golang:1.26", regexp.MustCompile(`^library/golang:1\.26$`), func([]string) Recipe { return golang() }},
		{"golangci/golangci-lint:v2.X.Y", "golangci/golangci-lint:v2.0.0", regexp.MustCompile(`^golangci/golangci-lint:(v2\.\d+\.\d+)$`), golangciLint},
		{"registry:3", "library/registry:3", regexp.MustCompile(`^library/registry:3$`), func([]string) Recipe { return registry() }},
		{"alpine/k8s:" + KubernetesVersion, "alpine/k8s:" + KubernetesVersion, regexp.MustCompile(`^alpine/k8s:` + regexp.QuoteMeta(KubernetesVersion) + `$`), func([]string) Recipe { return kubeTools() }},
		{"rancher/k3s:v" + KubernetesVersion + "-k3s1", "rancher/k3s:v" + KubernetesVersion + "-k3s1", regexp.MustCompile(`^rancher/k3s:v` + regexp.QuoteMeta(KubernetesVersion) + `-k3s1$`), func([]string) Recipe { return k3s() }},
		{"grafana/k6:" + k6Version, "grafana/k6:" + k6Version, regexp.MustCompile(`^grafana/k6:` + regexp.QuoteMeta(k6Version) + `$`), func([]string) Recipe { return k6() }},
	}
}

// StandIns lists the images that there are recipes for, and what each is made of, for people.
func StandIns() [][2]string {
	all := make([][2]string, len(rules))
	for i, r := range rules {
		recipe, _ := FindRecipe(r.sample)
		all[i] = [2]string{r.names, recipe.MadeOf}
	}
	return all
}
