package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

type driftCmd struct {
	Reference string `placeholder:"TABLE" help:"Table that the model was trained on: a file, a folder of files, a web address, an object s3://, gs:// or az://, or an artifact oci:// (default: millrace.yaml's)."`
	Current   string `placeholder:"TABLE" help:"Table of today, in the same forms (default: millrace.yaml's)."`
	Retrain   string `enum:",no,inline,dispatch" default:"" placeholder:"MODE" help:"On critical drift: no, inline (train in this run) or dispatch (ask another system to) (default: millrace.yaml's, else no)."`
	State     string `placeholder:"DIR|URL" env:"MILLRACE_STATE" help:"Where the history and the reports of all runs are kept: a folder, s3://, gs://, az:// with bucket and path, or oci:// with host and repository (default: where models are kept, else nowhere, and only severe drift alerts)."`
	storeFlags
	mlflowFlag
	tablesFlag
	Token         string `name:"retrain-token-env" placeholder:"VARIABLE" default:"RETRAIN_TOKEN" help:"Environment variable that holds the token for dispatch, never the token itself (default: RETRAIN_TOKEN)."`
	sourceFlags   `group:"Source:"`
	refFlags      `group:"What the run is for:"`
	registryFlags `group:"Where images go:"`
	stepFlags     `group:"How it runs:"`
	KeepGoing     bool `group:"How it runs:" help:"Go on with what a failure does not block, instead of ending the run."`
	parallelFlag  `group:"How it runs:"`
}

// Run compares the tables. Paths of the command line are relative to the current folder, those of millrace.yaml to the source.
func (c *driftCmd) Run(ctx context.Context, s *streams) error {
	p := &pipeline{
		sourceFlags: c.sourceFlags, refFlags: c.refFlags, registryFlags: c.registryFlags,
		runFlags: runFlags{stepFlags: c.stepFlags, KeepGoing: c.KeepGoing, parallelFlag: c.parallelFlag},
	}
	ready, err := p.prepare(ctx)
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
	var wrong error
	inputs := func(in pipelines.Inputs) pipelines.DriftInputs {
		in.Training.Data = c.sourceOfData(in, c.Source)
		in.Training.Store, wrong = c.store(in, c.Source)
		mlflow, err := c.mlflow(in)
		in.Training.MLflow, wrong = mlflow, cmp.Or(wrong, err)
		in.Training.Clusters = trainingClusters(in)
		out := pipelines.DriftInputs{
			Inputs: in, Reference: reference(in), Current: current(in), Mode: drift.Mode(c.Retrain),
			Token: secret(in.Client, "retrain-token", c.Token), Train: pipelines.TrainOnDrift(in),
		}
		switch {
		case c.State != "":
			kept, err := open(in, c.State)
			out.Store, wrong = kept, cmp.Or(wrong, err)
		case in.Training.Store != nil:
			out.Store = in.Training.Store
		}
		return out
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
		if err := checkTrainingClusters(ready.project, nil); err != nil {
			return err
		}
	}
	return p.execute(ctx, s, func(in pipelines.Inputs) *graph.Graph { return pipelines.Drift(inputs(in)).Graph })
}

// table returns where a table comes from, once there is a client.
func (c *driftCmd) table(source, which, given, configured string) (func(pipelines.Inputs) drift.Source, error) {
	where := given
	if where == "" {
		where = configured
	}
	switch {
	case where == "":
		return nil, usagef("there is no %s table: name it with --%s, or in millrace.yaml under drift.%s", which, which, which)
	case strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://"):
		return func(pipelines.Inputs) drift.Source { return drift.FromWeb(where) }, nil
	case remote(where):
		base, name, err := store.SplitObject(where)
		if err != nil {
			return nil, usagef("the %s table: %w", which, err)
		}
		return func(in pipelines.Inputs) drift.Source { return drift.FromStore(sourceAt(in, base), name) }, nil
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
	return func(in pipelines.Inputs) drift.Source {
		client := in.Client
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
