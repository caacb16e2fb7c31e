package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/ci/state"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
)

type driftCmd struct {
	pipeline
	Reference string `placeholder:"TABLE" help:"Table that the model was trained on: a file, a folder of files, or a web address (default: millrace.yaml's)."`
	Current   string `placeholder:"TABLE" help:"Table of today, in the same forms (default: millrace.yaml's)."`
	Retrain   string `enum:",no,inline,dispatch" default:"" placeholder:"MODE" help:"On critical drift: no, inline (train in this run) or dispatch (ask another system to) (default: millrace.yaml's, else no)."`
	State     string `placeholder:"DIR" env:"MILLRACE_STATE" help:"Folder that keeps the history and the reports of all runs (default: none, and only severe drift alerts)."`
	storeFlags
	tablesFlag
	Token string `name:"retrain-token-env" placeholder:"VARIABLE" default:"RETRAIN_TOKEN" help:"Environment variable that holds the token for dispatch, never the token itself (default: RETRAIN_TOKEN)."`
}

// Run compares the tables. Paths of the command line are relative to the current folder, those of millrace.yaml to the source.
func (c *driftCmd) Run(ctx context.Context, s *streams) error {
	ready, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	configured := ready.project.Drift
	reference, err := c.table(ready.source, "reference", c.Reference, configured.Reference)
	if err != nil {
		return err
	}
	current, err := c.table(ready.source, "current", c.Current, configured.Current)
	if err != nil {
		return err
	}
	var store drift.Store
	if c.State != "" {
		folder, err := filepath.Abs(c.State)
		if err != nil {
			return usageError{err}
		}
		store = state.Folder(folder)
	}
	var wrong error
	inputs := func(in pipelines.Inputs) pipelines.DriftInputs {
		in.Training.Data = c.sourceOfData(in, c.Source)
		in.Training.Store, wrong = c.store(in, c.Source)
		in.Training.Clusters = trainingClusters(in)
		return pipelines.DriftInputs{
			Inputs: in, Reference: reference(in.Client), Current: current(in.Client), Store: store, Mode: drift.Mode(c.Retrain),
			Token: secret(in.Client, "retrain-token", c.Token), Train: pipelines.TrainOnDrift(in),
		}
	}
	planned := inputs(ready.inputs(nil, engine.DefaultRegistry))
	if wrong != nil {
		return wrong
	}
	if err := pipelines.CheckDrift(planned); err != nil {
		return usageError{err}
	}
	if planned.Inline() {
		if err := c.checkData(c.Source); err != nil {
			return err
		}
		if planned.Training.Store == nil {
			return usagef("--retrain inline registers a model, and there is nowhere to: name a place with --store, or in millrace.yaml under artifacts")
		}
		if err := pipelines.CheckRetraining(planned.Inputs); err != nil {
			return usageError{err}
		}
	}
	return c.execute(ctx, s, func(in pipelines.Inputs) *graph.Graph { return pipelines.Drift(inputs(in)).Graph })
}

// table returns where a table comes from, once there is a client.
func (c *driftCmd) table(source, which, given, configured string) (func(*dagger.Client) drift.Source, error) {
	where := given
	if where == "" {
		where = configured
	}
	switch {
	case where == "":
		return nil, usagef("there is no %s table: name it with --%s, or in millrace.yaml under drift.%s", which, which, which)
	case strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://"):
		return func(*dagger.Client) drift.Source { return drift.FromWeb(where) }, nil
	case strings.Contains(where, "://"):
		scheme, _, _ := strings.Cut(where, "://")
		return nil, usagef("the %s table can't be taken from a %s address: use a file, a folder, or http(s)", which, scheme)
	}
	path := where
	if given == "" {
		path = filepath.Join(source, filepath.FromSlash(where))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, usageError{err}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usagef("the %s table %q does not exist: name it with --%s", which, where, which)
	case err != nil:
		return nil, usagef("the %s table %q: %w", which, where, err)
	}
	return func(client *dagger.Client) drift.Source {
		switch {
		case client == nil:
			return nil // a plan needs none
		case info.IsDir():
			return drift.FromFolder(client.Host().Directory(path), where)
		default:
			folder := client.Host().Directory(filepath.Dir(path), dagger.HostDirectoryOpts{Include: []string{filepath.Base(path)}})
			return drift.FromFile(step.File(client, folder, filepath.Base(path)), where)
		}
	}, nil
}
