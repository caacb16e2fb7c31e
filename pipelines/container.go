package pipelines

import (
	"context"
	"errors"
	"fmt"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Workplace names a container that a node of the ci-cd graph works in.
type Workplace struct {
	// Node is lint, test, security or build.
	Node string
	// Language is [Python] or [Go]; empty means the one that the project holds, and Python when it holds both.
	Language string
	// Image is the image, for the node build; empty means the only one that there is.
	Image string
}

// Container returns the container that a node works in, with the source, dependencies, tools and caches that it has there;
// for build, the image that was built.
func Container(ctx context.Context, in Inputs, at Workplace) (*dagger.Container, error) {
	p, c, src := in.Project, in.Client, in.Source
	if at.Node == "build" {
		return builtImage(ctx, in, at.Image)
	}
	if at.Image != "" {
		return nil, fmt.Errorf("the node %s has no images: an image is for build", at.Node)
	}
	found := map[string]bool{Python: p.Python.Found(), Go: p.Go.Found()}
	language := at.Language
	switch {
	case language == "" && (found[Python] || !found[Go]):
		language = Python
	case language == "":
		language = Go
	}
	if !found[language] {
		return nil, fmt.Errorf("the source has no code of the language %s", language)
	}
	switch at.Node + " " + language {
	case "lint python":
		return Lint{Project: p}.python().Container(ctx, c, src)
	case "lint go":
		return Lint{Project: p}.golang().Container(ctx, c, src)
	case "test python":
		return Test{Project: p}.python().Container(ctx, c, src)
	case "test go":
		return Test{Project: p}.golang().Container(ctx, c, src)
	case "security python":
		scan, err := Security{Project: p, SafetyKey: in.SafetyKey, Now: in.Now}.python()
		if err != nil {
			return nil, err
		}
		return scan.Container(ctx, c, src)
	default:
		return nil, fmt.Errorf("the node %s runs in no container for %s: there are lint, test, security and build", at.Node, language)
	}
}

func builtImage(ctx context.Context, in Inputs, name string) (*dagger.Container, error) {
	var chosen []image.Spec
	var names []string
	for _, spec := range Images(in.Project) {
		names = append(names, spec.Name)
		if name == "" || spec.Name == name {
			chosen = append(chosen, spec)
		}
	}
	switch {
	case len(names) == 0:
		return nil, errors.New("the source has no Dockerfile")
	case len(chosen) == 0:
		return nil, fmt.Errorf("the source has no image %q: use %s", name, or(names))
	case len(chosen) > 1:
		return nil, fmt.Errorf("the source has several images: name one of them, %s", or(names))
	}
	built, err := image.Build{Images: chosen}.Run(ctx, in.Client, in.Source)
	if err != nil {
		return nil, step.Explain(err)
	}
	if built.Verdict != graph.Passed {
		return nil, errors.New(built.Reason)
	}
	return built.Images[0].Container, nil
}
