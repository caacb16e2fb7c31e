// Package project tells what a source tree holds: Python and Go code, tests, Dockerfiles, manifests, load tests.
//
// [Detect] finds it from the list of paths and a handful of files, and lets millrace.yaml overrule what it found. It
// touches neither disk nor network: the caller hands in a [Tree].
package project

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	_ "embed"

	"github.com/goccy/go-yaml"
)

// Schema is the JSON Schema of millrace.yaml, for editors.
//
//go:embed millrace.schema.json
var Schema []byte

// Project is what a source tree holds and how it is to be checked, built and published.
//
// Every field with a YAML name is a section of millrace.yaml; what the file leaves out is detected or has its default.
// All paths are slash-separated and relative to the tree's root, which is ".".
//
// To add a section: add its type and field with a yaml tag here, its default in defaults, what types can't check in
// config.validate, and write the schema anew with "go test -run TestSchemaIsTheTypes -update". Unknown keys, wrong
// types and the printing come by themselves.
type Project struct {
	// Python code; detected from *.py files.
	Python Python `yaml:"python"`
	// Go code; detected from go.mod files.
	Go Go `yaml:"go"`
	// Lint says which linters run, and how.
	Lint Lint `yaml:"lint,omitempty"`
	// Test says when tests count as passed.
	Test Test `yaml:"test"`
	// Security says which findings of the scanners count.
	Security Security `yaml:"security"`
	// Images to build; detected from Dockerfiles. An entry changes the detected image of its name, or adds one; an empty list means none.
	Images []Image `yaml:"images"`
	// Manifests are the folders with Kubernetes manifests, Kustomize overlays or Helm charts.
	Manifests []string `yaml:"manifests"`
	// LoadTests are the k6 scripts.
	LoadTests []string `yaml:"load_tests"`
	// Publish says where images go.
	Publish Publish `yaml:"publish"`
	// Environments are the places that the project is deployed to.
	Environments []Environment `yaml:"environments,omitempty"`
	// Codecov says how coverage is uploaded.
	Codecov Codecov `yaml:"codecov"`
	// Notify lists who is told how runs went; Slack, where the variable SLACK_WEBHOOK_URL is set, if left out. An empty list means nobody.
	Notify []Notification `yaml:"notify"`
	// Drift says how a table is compared with its reference, and what is done about drift.
	Drift Drift `yaml:"drift,omitempty"`
	// Data are the tables that models are trained on.
	Data []Table `yaml:"data,omitempty"`
	// Models to train.
	Models []Model `yaml:"models,omitempty"`
	// Training says where models are trained that don't say it themselves.
	Training Training `yaml:"training,omitempty"`
	// Artifacts says where models and reports are kept.
	Artifacts Artifacts `yaml:"artifacts,omitempty"`

	// Skipped are the images that the configuration leaves out; they are not among Images.
	Skipped []Image `yaml:"-"`
	// ConfigFile is the name of the configuration file that was read; empty if there is none.
	ConfigFile string `yaml:"-"`
	// Warnings are what a person should know of the detection, a line each.
	Warnings []string `yaml:"-"`
}

// Python is the Python code of a tree.
type Python struct {
	// Sources are the folders and files with code, without tests that lie apart from it.
	Sources []string `yaml:"sources"`
	// Requirements are the files that dependencies are installed from: requirements*.txt, pyproject.toml, uv.lock.
	Requirements []string `yaml:"requirements"`
	// Tests are the folders with tests.
	Tests []string `yaml:"tests"`
	// Version of Python, such as "3.11". Detected from .python-version and requires-python; 3.11 where both allow it.
	Version string `yaml:"version,omitempty" jsonschema:"pattern=^3\\.[0-9]+(\\.[0-9]+)?$"`
}

// Found reports whether there is any Python code.
func (p Python) Found() bool { return len(p.Sources)+len(p.Tests) > 0 }

// Paths returns what a linter is to look at: the sources, and the tests that don't lie within them.
func (p Python) Paths() []string {
	paths := slices.Clone(p.Sources)
	for _, t := range p.Tests {
		if !slices.ContainsFunc(p.Sources, func(s string) bool { return within(t, s) }) {
			paths = append(paths, t)
		}
	}
	return paths
}

// Go is the Go code of a tree.
type Go struct {
	// Modules are the folders that have a go.mod.
	Modules []string `yaml:"modules"`
}

// Found reports whether there is any Go module.
func (g Go) Found() bool { return len(g.Modules) > 0 }

// Lint says which linters run, and how.
type Lint struct {
	// Tools to run, of black, isort, flake8, mypy, pylint and golangci-lint; all that fit the code if left out.
	Tools []string `yaml:"tools,omitempty" jsonschema:"enum=black,enum=isort,enum=flake8,enum=mypy,enum=pylint,enum=golangci-lint"`
	// Args are further arguments by tool, after the ones that the pipeline gives.
	Args map[string][]string `yaml:"args,omitempty"`
}

// Test says when tests count as passed.
type Test struct {
	// Coverage is the percentage of lines below which the tests count as failed; 0 for no threshold. If left out, Python's tests go by
	// the project's own coverage settings (fail_under), else by 80, and Go's by none.
	Coverage *float64 `yaml:"coverage,omitempty" jsonschema:"minimum=0,maximum=100"`
	// Shards is how many containers the tests are split over; 1 by default.
	Shards int `yaml:"shards" jsonschema:"minimum=1,maximum=64,default=1"`
	// Timeout ends tests that hang, such as 10m or 1h30m; 30m by default.
	Timeout time.Duration `yaml:"timeout"`
	// Args are further arguments for pytest.
	Args []string `yaml:"args,omitempty"`
	// Short leaves out what Go's tests themselves hold to be long (go test -short).
	Short bool `yaml:"short,omitempty"`
}

// Security says which findings of the scanners count.
type Security struct {
	// Severity is the least severe finding that counts; medium by default.
	Severity string `yaml:"severity" jsonschema:"enum=info,enum=low,enum=medium,enum=high,enum=critical,default=medium"`
	// Allow lists findings that are known and accepted for a while.
	Allow []Allowance `yaml:"allow,omitempty"`
}

// Allowance accepts one finding until a date.
type Allowance struct {
	// ID is the rule or advisory, such as B101, CVE-2024-12345 or a safety id.
	ID string `yaml:"id" jsonschema:"required,minLength=1"`
	// Reason says why it is accepted.
	Reason string `yaml:"reason" jsonschema:"required,minLength=1"`
	// Expires is the last day on which it is accepted, such as 2026-12-31.
	Expires Date `yaml:"expires" jsonschema:"required"`
}

// Image is an image to build.
type Image struct {
	// Name of the image, without registry and tag: api for api.Dockerfile and Dockerfile.api, the folder's name for Dockerfile.
	Name string `yaml:"name" jsonschema:"required,pattern=^[a-z0-9]+([._-][a-z0-9]+)*$"`
	// Dockerfile is the Dockerfile's path.
	Dockerfile string `yaml:"dockerfile,omitempty"`
	// Context is the folder that COPY and ADD take files from.
	Context string `yaml:"context,omitempty"`
	// Target is the stage to build; the last one if left out.
	Target string `yaml:"target,omitempty"`
	// Args are build arguments. They show in the image's history: no place for secrets.
	Args map[string]string `yaml:"args,omitempty"`
	// Platforms to build for, such as linux/amd64; the engine's own if left out.
	Platforms []string `yaml:"platforms,omitempty"`
	// Skip leaves the image out.
	Skip bool `yaml:"skip,omitempty"`

	// Parsed is what the Dockerfile needs; the zero value when Err is set.
	Parsed Dockerfile `yaml:"-"`
	// Err is why the Dockerfile can't be built, a [*SyntaxError]. It is the build's to report, not the detection's.
	Err error `yaml:"-"`
}

// Publish says where images go.
type Publish struct {
	// Registry is the host, with a port if need be, such as ghcr.io.
	Registry string `yaml:"registry,omitempty"`
	// Repository is the path on the registry below which each image gets its name, such as owner/project.
	Repository string `yaml:"repository,omitempty"`
	// Branches whose pushes are published; main and develop by default. Tags always are.
	Branches []string `yaml:"branches"`
}

// Address returns where images go as registry/repository; empty without a registry.
func (p Publish) Address() string {
	if p.Registry == "" {
		return ""
	}
	return strings.TrimSuffix(p.Registry+"/"+p.Repository, "/")
}

// Codecov says how coverage is uploaded.
type Codecov struct {
	// URL of the service; Codecov's own if left out.
	URL string `yaml:"url,omitempty" jsonschema:"format=uri"`
	// Flags that the report is filed under.
	Flags []string `yaml:"flags,omitempty"`
	// Required makes a failed upload fail the run; otherwise it is only reported.
	Required bool `yaml:"required"`
}

// DefaultPython is the version of Python where the tree does not ask for another.
const DefaultPython = "3.11"

// defaults is a project in which nothing was found.
func defaults() *Project {
	return &Project{
		Python:   Python{Version: DefaultPython},
		Test:     Test{Shards: 1, Timeout: 30 * time.Minute},
		Security: Security{Severity: "medium"},
		Publish:  Publish{Branches: []string{"main", "develop"}},
		Notify:   notifications(),
	}
}

// YAML returns the effective configuration: a millrace.yaml that leaves nothing to detection.
func (p *Project) YAML() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b, yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	effective := *p
	effective.Images = slices.Concat(p.Images, p.Skipped)
	if err := enc.Encode(effective); err != nil {
		return nil, fmt.Errorf("print the configuration: %w", err)
	}
	return b.Bytes(), nil
}

// Image returns the image of that name.
func (p *Project) Image(name string) (Image, bool) {
	i := slices.IndexFunc(p.Images, func(img Image) bool { return img.Name == name })
	if i < 0 {
		return Image{}, false
	}
	return p.Images[i], true
}

// Date is a day, in UTC.
type Date struct{ time.Time }

// ParseDate reads a day such as 2026-12-31.
func ParseDate(text string) (Date, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return Date{}, fmt.Errorf("%q is no date: write it as 2026-12-31", text)
	}
	return Date{t}, nil
}

func (d Date) String() string { return d.Format(time.DateOnly) }

// Over reports whether the day has ended at the time now.
func (d Date) Over(now time.Time) bool { return !now.Before(d.AddDate(0, 0, 1)) }

// MarshalYAML writes d as its day alone.
func (d Date) MarshalYAML() (any, error) { return d.String(), nil }

// UnmarshalYAML reads what [ParseDate] does.
func (d *Date) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	date, err := ParseDate(text)
	if err != nil {
		return err
	}
	*d = date
	return nil
}

// within reports whether p is dir or lies below it.
func within(p, dir string) bool {
	return dir == "." || p == dir || strings.HasPrefix(p, dir+"/")
}

// clean brings a path from the configuration into the form that a tree's paths have.
func clean(p string) string { return path.Clean(strings.TrimPrefix(p, "./")) }
