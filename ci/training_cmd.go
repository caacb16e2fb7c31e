package main

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/folder"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// storeFlags say where models and reports are kept.
type storeFlags struct {
	Store string `placeholder:"DIR|URL" help:"Where models are kept: a folder, or s3://, gs://, az:// with bucket and path (default: millrace.yaml's, under artifacts)."`
}

type trainingCmd struct {
	pipeline
	storeFlags
	Data  string   `placeholder:"DIR|URL" help:"Where the tables are: a folder, http(s)://, s3://, gs:// or az:// (default: the folder data of the source)."`
	Model []string `placeholder:"NAME" help:"Train only these models."`
	selection
}

func (c *trainingCmd) Run(ctx context.Context, s *streams) error {
	data, err := c.sourceOfData()
	if err != nil {
		return err
	}
	var wrong error
	build := func(in pipelines.Inputs) *graph.Graph {
		in.Training = pipelines.TrainingInputs{Data: data, Models: c.Model}
		wrong = pipelines.CheckModels(in.Project, c.Model)
		if wrong == nil {
			in.Training.Store, wrong = c.store(in, c.Source)
		}
		return pipelines.Training(in).Graph
	}
	// One model's failure must not stop the others.
	c.KeepGoing = true
	ready, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	if build(ready.inputs(nil, "")); wrong != nil {
		return usageError{wrong}
	}
	return c.execute(ctx, s, build, c.options()...)
}

// sourceOfData returns where the tables come from.
func (c *trainingCmd) sourceOfData() (model.Source, error) {
	if u, err := url.Parse(c.Data); err == nil && len(u.Scheme) > 1 {
		return nil, usagef("the address %s can't be downloaded from: use a folder", c.Data)
	}
	dir := c.Data
	if dir == "" {
		dir = filepath.Join(c.Source, "data")
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usagef("the folder %q of the tables does not exist: name it with --data", dir)
	case err != nil:
		return nil, usageError{err}
	case !info.IsDir():
		return nil, usagef("the data %q is a file: name the folder that it is in with --data", dir)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return hostFolder{path: absolute, name: dir}, nil
}

// hostFolder is a folder of this machine with tables. Only those that are wanted go to the engine.
type hostFolder struct{ path, name string }

func (f hostFolder) String() string { return f.name }

func (f hostFolder) Fetch(_ context.Context, c *dagger.Client, paths []string) (*dagger.Directory, error) {
	return c.Host().Directory(f.path, dagger.HostDirectoryOpts{Include: paths}), nil
}

// store returns where models are kept; nil where nobody said.
func (f storeFlags) store(in pipelines.Inputs, source string) (store.Store, error) {
	address := f.Store
	if address == "" {
		address = in.Project.Artifacts.Store
		if address != "" && !strings.Contains(address, "://") && !filepath.IsAbs(address) {
			address = filepath.Join(source, address)
		}
	}
	switch {
	case address == "":
		return nil, nil
	case strings.Contains(address, "://"):
		return nil, usagef("the store %s can't be used: use a folder", address)
	}
	absolute, err := filepath.Abs(address)
	if err != nil {
		return nil, err
	}
	return folder.Store{Client: in.Client, Path: absolute}, nil
}
