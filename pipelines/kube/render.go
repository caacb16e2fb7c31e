package kube

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Manifests says where the objects of an environment are written. Paths are relative to the source's root.
type Manifests struct {
	// Path is a folder or file of manifests, a Kustomize overlay or a Helm chart: what it is can be told by what lies in it.
	Path string
	// Values are the values files of a Helm chart, the last of which wins.
	Values []string
	// Release is the name of the Helm release; the chart's folder by default.
	Release string
}

// rendered are objects with the places they were written at.
type rendered struct {
	objects []Object
	from    map[ID]string
}

func (r *rendered) add(file, text string) error {
	objects, err := parse(file, text)
	if err != nil {
		return err
	}
	for _, o := range objects {
		id := o.ID()
		if other, twice := r.from[id]; twice {
			return &ManifestError{file, fmt.Sprintf("%s is in %s already: keep one of them", id, other)}
		}
		r.from[id] = file
		r.objects = append(r.objects, o)
	}
	return nil
}

// settle moves the objects to a namespace; see [settle].
func (r *rendered) settle(from, to string) {
	places := make([]string, len(r.objects))
	for i, o := range r.objects {
		places[i] = r.from[o.ID()]
	}
	settle(r.objects, from, to)
	for i, o := range r.objects {
		r.from[o.ID()] = places[i]
	}
}

// Namespace returns the namespace that the manifests name; they must name one.
func (m Manifests) Namespace(ctx context.Context, c *dagger.Client, src *dagger.Directory) (string, error) {
	r, err := m.render(ctx, c, src, "", "")
	if err != nil {
		return "", err
	}
	if namespace := home(r.objects); namespace != "" {
		return namespace, nil
	}
	return "", &ManifestError{m.Path, "neither the manifests nor the environment name a namespace: add the key namespace to the environment"}
}

// render returns what the manifests say, made by the tool that they are for. A *[ManifestError] is a mistake in them.
func (m Manifests) render(ctx context.Context, c *dagger.Client, src *dagger.Directory, namespace, version string) (rendered, error) {
	r := rendered{from: map[ID]string{}}
	if m.Path == "" {
		return r, &ManifestError{"millrace.yaml", "the environment names no manifests: add the key manifests, with a folder of manifests, a Kustomize overlay or a Helm chart"}
	}
	at := path.Clean(m.Path)
	isFile, err := src.Exists(ctx, at, dagger.DirectoryExistsOpts{ExpectedType: dagger.ExistsTypeRegularType})
	if err != nil {
		return r, fmt.Errorf("look for the manifests %s: %w", at, step.Explain(err))
	}
	if isFile {
		text, err := src.File(at).Contents(ctx)
		if err != nil {
			return r, fmt.Errorf("read %s: %w", at, step.Explain(err))
		}
		return r, r.add(at, text)
	}
	names, err := src.Directory(at).Entries(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return r, err
		}
		return r, &ManifestError{at, "it is no folder of the source: correct the key manifests of the environment"}
	}
	has := func(names, any []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(any, n) })
	}
	switch {
	case has(names, []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}):
		err = r.overlay(ctx, c, src, at)
	case has(names, []string{"Chart.yaml"}):
		err = r.chart(ctx, c, src, at, m, namespace, version)
	default:
		err = r.folder(ctx, src, at, names)
	}
	if err == nil && len(r.objects) == 0 {
		err = &ManifestError{at, "there is no manifest in it"}
	}
	return r, err
}

// folder reads the manifests of a folder, not those of folders in it, as kubectl apply does.
func (r *rendered) folder(ctx context.Context, src *dagger.Directory, at string, names []string) error {
	var files []string
	for _, name := range names {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
			files = append(files, path.Join(at, name))
		}
	}
	return r.read(ctx, src, files, func(file string) string { return file })
}

// read adds files in the order of their names; shown turns a file's path into what people know it by.
func (r *rendered) read(ctx context.Context, dir *dagger.Directory, files []string, shown func(string) string) error {
	slices.Sort(files)
	texts := make([]string, len(files))
	g, ctx := errgroup.WithContext(ctx)
	for i, file := range files {
		g.Go(func() (err error) {
			if texts[i], err = dir.File(file).Contents(ctx); err != nil {
				err = fmt.Errorf("read %s: %w", file, step.Explain(err))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, file := range files {
		if err := r.add(shown(file), texts[i]); err != nil {
			return err
		}
	}
	return nil
}

// Where the tools that render find the source and leave what they made. What they made is written to files, never to
// their output, which ends up in logs: there may be Secrets among it.
const (
	sourcePath   = "/manifests/source"
	renderedPath = "/manifests/rendered"
)

func (r *rendered) overlay(ctx context.Context, c *dagger.Client, src *dagger.Directory, at string) error {
	tools := c.Container().From(image.KubeTools).WithMountedDirectory(sourcePath, src).WithDirectory(renderedPath, c.Directory())
	out := renderedPath + "/manifests.yaml"
	run, err := tool(ctx, tools, at, "kustomize", []string{"kustomize", "build", "--output", out, sourcePath + "/" + at})
	if err != nil {
		return err
	}
	text, err := run.File(ctx, out)
	if err != nil {
		return err
	}
	return r.add(at, text)
}

func (r *rendered) chart(ctx context.Context, c *dagger.Client, src *dagger.Directory, at string, m Manifests, namespace, version string) error {
	tools := c.Container().From(image.KubeTools).WithMountedDirectory(sourcePath, src).WithDirectory(renderedPath, c.Directory())
	name := m.Release
	if name == "" {
		name = path.Base(at)
	}
	argv := []string{"helm", "template", name, sourcePath + "/" + at, "--namespace", namespace, "--include-crds", "--skip-tests", "--output-dir", renderedPath}
	if version != "" {
		argv = append(argv, "--kube-version", version)
	}
	for _, values := range m.Values {
		argv = append(argv, "--values", sourcePath+"/"+path.Clean(values))
	}
	run, err := tool(ctx, tools, at, "helm", argv)
	if err != nil {
		return err
	}
	out := run.Container.Directory(renderedPath)
	files, err := out.Glob(ctx, "**/*.yaml")
	if err != nil {
		return fmt.Errorf("list what helm made: %w", step.Explain(err))
	}
	return r.read(ctx, out, files, func(file string) string {
		_, inner, _ := strings.Cut(file, "/") // the first folder is the chart's name
		return path.Join(at, inner)
	})
}

// tool runs a tool that renders. What it refuses is a mistake in the manifests.
func tool(ctx context.Context, tools *dagger.Container, at, name string, argv []string) (step.Executed, error) {
	run, err := step.Exec(ctx, tools, "/manifests/log", name, argv)
	if err != nil {
		return run, err
	}
	if run.ExitCode == 0 {
		return run, nil
	}
	said, err := run.Stderr(ctx)
	if err != nil {
		return run, err
	}
	said, _, _ = strings.Cut(said, "\nUse --debug flag")
	said = strings.TrimPrefix(strings.TrimSpace(strings.ReplaceAll(said, sourcePath+"/", "")), "Error: ")
	if strings.Contains(said, "missing in charts/ directory") {
		said += ": run helm dependency update, and commit the folder charts"
	}
	return run, &ManifestError{at, name + " can't render it: " + said}
}

// manifestFault returns the mistake in the manifests that an error is.
func manifestFault(err error) (*ManifestError, bool) {
	var fault *ManifestError
	ok := errors.As(err, &fault)
	return fault, ok
}
