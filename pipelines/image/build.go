// Package image builds container images from Dockerfiles and publishes them to an OCI registry.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"dagger.io/dagger"
	"github.com/distribution/reference"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Spec says what one image is built from. All paths are slash-separated.
type Spec struct {
	// Name is the image's name below the registry's path, for example "api"; lower case.
	Name string
	// Dockerfile is relative to the source's root, and may lie outside the context; "Dockerfile" of the context by default.
	Dockerfile string
	// Context is the folder that COPY and ADD read from, relative to the source's root, which it is by default.
	Context string
	// Target is the stage to build; the last one by default.
	Target string
	// Args are the build arguments. They are no place for secrets: they stay in the image's history.
	Args map[string]string
	// Secrets are for RUN --mount=type=secret, under the names that they were made with.
	Secrets []*dagger.Secret
	// Platforms are such as "linux/arm64"; the engine's own by default.
	Platforms []dagger.Platform
	// Include lists what the Dockerfile reads of the context, as paths and patterns relative to the context:
	// the sources of COPY and ADD and of bind mounts. A change to anything else does not touch the image.
	// Nil means that it is not known, so that the whole context counts; empty means that nothing is read.
	Include []string
}

// Build builds images side by side, each from its Dockerfile. Its zero value has nothing to build, and is skipped.
//
// An image is built again when its Dockerfile, a file that the Dockerfile reads, a build argument or the base image
// changes; .dockerignore, or the Dockerfile's own <name>.dockerignore, counts as in Docker.
// The images carry no labels of the commit yet: see [Labels].
type Build struct {
	Images []Spec
}

// Built is an image that has been built, and is not published yet.
type Built struct {
	// Name is the spec's.
	Name string
	// Container is the image, of the spec's first platform.
	Container *dagger.Container
	// Variants are the images of the spec's other platforms.
	Variants []*dagger.Container
	// Spec is what it was built from.
	Spec Spec
}

// BuildResult is what [Build] returns.
type BuildResult struct {
	step.Result
	// Images are in the order of the specs; those that failed are missing.
	Images []Built
	// Stopped are the builds that failed at an instruction, in the order of the specs.
	Stopped []Stopped
}

// Stopped is the build of an image that failed at an instruction.
type Stopped struct {
	// Name is the spec's.
	Name string
	// Dockerfile and Line are where the instruction stands; see [Spec.Before].
	Dockerfile string
	Line       int
}

// Run builds all images; one that fails does not stop the others. The verdict is failed when an image can't be built
// from what stands in the source; reports has a text file for each of these, of the image's name.
// An error means that the engine, the network or a registry broke.
func (b Build) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (BuildResult, error) {
	if len(b.Images) == 0 {
		return BuildResult{Result: step.Skip("no Dockerfile was found or configured")}, nil
	}
	type outcome struct {
		built Built
		fault *fault
		err   error
	}
	outcomes := make([]outcome, len(b.Images))
	var wg sync.WaitGroup
	names := map[string]bool{}
	for i, spec := range b.Images {
		spec = spec.withDefaults()
		twice := names[spec.Name]
		names[spec.Name] = true
		wg.Go(func() {
			built, err := build(ctx, c, src, spec)
			if twice {
				err = &fault{image: spec.Name, file: spec.Dockerfile, reason: "another image has the same name: rename one of them in the configuration"}
			}
			var f *fault
			if errors.As(err, &f) {
				err = nil
			}
			outcomes[i] = outcome{built, f, err}
		})
	}
	wg.Wait()

	result := BuildResult{Result: step.Result{Verdict: graph.Passed, Reports: c.Directory(), Metrics: map[string]float64{"images": 0, "failures": 0}}}
	var reasons, outputs []string
	var errs []error
	for _, o := range outcomes {
		switch {
		case o.err != nil:
			errs = append(errs, o.err)
		case o.fault != nil:
			result.Verdict = graph.Failed
			result.Metrics["failures"]++
			result.Findings = append(result.Findings, o.fault.finding())
			reasons = append(reasons, o.fault.Error())
			if o.fault.output != "" {
				outputs = append(outputs, o.fault.screen())
			}
			result.Reports = result.Reports.WithNewFile(o.fault.report(), o.fault.document())
			if o.fault.line > 0 && (o.fault.command != "" || o.fault.missing != "") {
				result.Stopped = append(result.Stopped, Stopped{o.fault.image, o.fault.file, o.fault.line})
			}
		default:
			result.Metrics["images"]++
			result.Images = append(result.Images, o.built)
			result.Reports = result.Reports.WithNewFile(o.built.Name+".json", o.built.Spec.document())
		}
	}
	result.Reason = strings.Join(reasons, "; ")
	result.Output = strings.Join(outputs, "\n\n")
	report.SortFindings(result.Findings)
	err := join(errs)
	if err != nil {
		result.Verdict, result.Reason = graph.Errored, err.Error()
	}
	return result, err
}

func (s Spec) withDefaults() Spec {
	s.Context = path.Clean(strings.TrimPrefix(s.Context, "/"))
	if s.Dockerfile == "" {
		s.Dockerfile = path.Join(s.Context, "Dockerfile")
	}
	s.Dockerfile = path.Clean(strings.TrimPrefix(s.Dockerfile, "/"))
	return s
}

// document describes the spec for the reports; the secrets stay out.
func (s Spec) document() string {
	text, err := json.MarshalIndent(map[string]any{
		"name": s.Name, "dockerfile": s.Dockerfile, "context": s.Context, "target": s.Target,
		"args": s.Args, "platforms": s.Platforms, "include": s.Include,
	}, "", "  ")
	if err != nil {
		panic(err) // strings and maps of strings always have a JSON form
	}
	return string(text) + "\n"
}

// build builds one image. A *fault as error means that the source is to blame.
func build(ctx context.Context, c *dagger.Client, src *dagger.Directory, spec Spec) (Built, error) {
	if err := checkName(spec.Name); err != nil {
		return Built{}, &fault{image: spec.Name, file: spec.Dockerfile, reason: err.Error()}
	}
	dockerfile, err := readDockerfile(ctx, src, spec)
	if err != nil {
		return Built{}, err
	}
	built, err := evaluate(ctx, c, src, spec, dockerfile, true)
	if f := (*fault)(nil); spec.Include != nil && errors.As(err, &f) && f.missing != "" {
		// A source that is a symbolic link brings along what no one can read from the Dockerfile.
		return evaluate(ctx, c, src, spec, dockerfile, false)
	}
	return built, err
}

// readDockerfile returns the Dockerfile's text, and makes sure that the context exists.
func readDockerfile(ctx context.Context, src *dagger.Directory, spec Spec) (string, error) {
	for _, need := range []struct {
		path, what string
		kind       dagger.ExistsType
	}{
		{spec.Context, "the build context", dagger.ExistsTypeDirectoryType},
		{spec.Dockerfile, "the Dockerfile", dagger.ExistsTypeRegularType},
	} {
		if need.path == "." {
			continue
		}
		found, err := src.Exists(ctx, need.path, dagger.DirectoryExistsOpts{ExpectedType: need.kind})
		if err != nil {
			return "", fmt.Errorf("build %s: look for %s %s: %w", spec.Name, need.what, need.path, step.Explain(err))
		}
		if !found {
			return "", &fault{image: spec.Name, file: spec.Dockerfile,
				reason: fmt.Sprintf("%s %s does not exist in the source: correct its path in the configuration", need.what, need.path)}
		}
	}
	text, err := src.File(spec.Dockerfile).Contents(ctx)
	if err != nil {
		return "", fmt.Errorf("build %s: read %s: %w", spec.Name, spec.Dockerfile, step.Explain(err))
	}
	return text, nil
}

func evaluate(ctx context.Context, c *dagger.Client, src *dagger.Directory, spec Spec, dockerfile string, narrow bool) (Built, error) {
	dir, err := contextOf(ctx, c, src, spec, dockerfile, narrow)
	if err != nil {
		return Built{}, fmt.Errorf("build %s: prepare the context %s: %w", spec.Name, spec.Context, step.Explain(err))
	}
	platforms := spec.Platforms
	if len(platforms) == 0 {
		platforms = []dagger.Platform{""} // the engine's own
	}
	built := Built{Name: spec.Name, Spec: spec}
	for i, platform := range platforms {
		ctr, err := dir.DockerBuild(dagger.DirectoryDockerBuildOpts{
			Dockerfile: ownDockerfile, Platform: platform, Target: spec.Target, BuildArgs: buildArgs(spec.Args), Secrets: spec.Secrets,
		}).Sync(ctx)
		if err != nil {
			err = diagnose(spec, dockerfile, err)
			if f := (*fault)(nil); errors.As(err, &f) && f.command != "" {
				f.printed(replay(ctx, dir, spec, platform, dockerfile, f.command))
			}
			return Built{}, err
		}
		if err := checkPlatform(ctx, c, spec, platform, ctr); err != nil {
			return Built{}, err
		}
		if i == 0 {
			built.Container = ctr
		} else {
			built.Variants = append(built.Variants, ctr)
		}
	}
	return built, nil
}

// standInLabel marks the images that the embedded engine makes in place of those of a registry.
const standInLabel = "io.millrace.stand-in.for"

// checkPlatform refuses an image for another platform than the engine's on a base that was made for the engine's alone:
// it would claim a platform that its programs are not for.
func checkPlatform(ctx context.Context, c *dagger.Client, spec Spec, platform dagger.Platform, ctr *dagger.Container) error {
	if platform == "" {
		return nil
	}
	own, err := c.DefaultPlatform(ctx)
	if err != nil || own == platform {
		return err
	}
	base, err := ctr.Label(ctx, standInLabel)
	if err != nil || base == "" {
		return err
	}
	return fmt.Errorf("build %s for %s: the embedded engine made %s itself, for %s alone: build for other platforms on an engine with a container registry", spec.Name, platform, base, own)
}

// buildArgs sorts the arguments: their order is part of what the engine caches by.
func buildArgs(args map[string]string) []dagger.BuildArg {
	list := make([]dagger.BuildArg, 0, len(args))
	for name, value := range args {
		list = append(list, dagger.BuildArg{Name: name, Value: value})
	}
	slices.SortFunc(list, func(a, b dagger.BuildArg) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// checkName refuses what can't be the last part of an image's name.
func checkName(name string) error {
	if name == "" {
		return errors.New("an image has no name: give it one in the configuration")
	}
	if _, err := reference.WithName("host.example/" + name); err != nil {
		return fmt.Errorf("the image's name %q can't be used: it takes lower-case letters, digits and single . _ - between them", name)
	}
	return nil
}
