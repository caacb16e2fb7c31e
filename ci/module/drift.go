package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	sdk "dagger.io/dagger"
	"dagger/millrace/internal/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// tables are what the drift graph takes besides what the other graphs do.
type tables struct {
	reference, current *dagger.Directory
	retrain            string
	token              *dagger.Secret
	// state is the address of a store; none if it is empty.
	state  string
	access access
	// training is for retraining in the same run.
	training trainingRequest
}

// drift runs the drift graph and says how that went.
func (m *Millrace) drift(ctx context.Context, t tables, r request) (string, error) {
	c, err := connect(ctx)
	if err != nil {
		return "", failure(err)
	}
	base, err := m.inputs(ctx, c, r)
	if err != nil {
		return "", failure(err)
	}
	if t.retrain != "" && !slices.Contains(drift.Modes, drift.Mode(t.retrain)) {
		return "", failure(usageError{fmt.Errorf("there is no retraining %q: use no, inline or dispatch", t.retrain)})
	}
	in := pipelines.DriftInputs{Inputs: base, Mode: drift.Mode(t.retrain)}
	if in.Inline() {
		if base.Training, err = t.training.inputs(ctx, c, base); err != nil {
			return "", failure(err)
		}
		if base.Training.Store == nil {
			return "", failure(usageError{errors.New("retraining inline registers a model, and there is nowhere to: name a place with --store, or in millrace.yaml under artifacts")})
		}
		base = pipelines.Retrained(base)
		if base.Training.Clusters, err = t.training.cluster.clusters(ctx, c, base, "give the drift the name of the model that it watches, or use --retrain=dispatch"); err != nil {
			return "", failure(err)
		}
		if err := pipelines.CheckTraining(base); err != nil {
			return "", failure(usageError{err})
		}
		in.Inputs, in.Train = base, pipelines.TrainOnDrift(base)
	}
	configured := base.Project.Drift
	t.state = cmp.Or(t.state, t.training.store)
	if t.state == "" && strings.Contains(base.Project.Artifacts.Store, "://") {
		t.state = base.Project.Artifacts.Store
	}
	if t.state != "" {
		if in.Store, err = t.access.open(ctx, c, base, t.state); err != nil {
			return "", failure(err)
		}
	}
	if in.Reference, err = t.table(ctx, c, base, "reference", t.reference, configured.Reference); err != nil {
		return "", failure(err)
	}
	if in.Current, err = t.table(ctx, c, base, "current", t.current, configured.Current); err != nil {
		return "", failure(err)
	}
	if t.token != nil {
		id, err := t.token.ID(ctx)
		if err != nil {
			return "", failure(fmt.Errorf("read the token: %w", err))
		}
		in.Token = c.LoadSecretFromID(sdk.SecretID(id))
	}
	if err := pipelines.CheckDrift(in); err != nil {
		return "", failure(usageError{err})
	}
	g := pipelines.Drift(in)
	if err := g.Check(); err != nil {
		return "", failure(usageError{err})
	}
	result := g.Run(ctx)
	return judge(pipelines.NewRun(result, base.Ref, report.Engine{Kind: "session"}), r)
}

// table returns a table that was given, or else the one that the configuration names.
func (t tables) table(ctx context.Context, c *sdk.Client, in pipelines.Inputs, which string, given *dagger.Directory, configured string) (drift.Source, error) {
	switch {
	case given != nil:
		id, err := given.ID(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the %s table: %w", which, err)
		}
		return drift.FromFolder(c.LoadDirectoryFromID(sdk.DirectoryID(id)), "the "+which+" table"), nil
	case configured == "":
		return nil, usageError{errors.New("there is no " + which + " table: name a folder with --" + which + ", or a table in millrace.yaml under drift." + which)}
	case strings.HasPrefix(configured, "http://") || strings.HasPrefix(configured, "https://"):
		return drift.FromWeb(configured), nil
	case strings.Contains(configured, "://"):
		base, object, err := store.SplitObject(configured)
		if err != nil {
			return nil, usageError{fmt.Errorf("the %s table: %w", which, err)}
		}
		source, err := t.access.source(ctx, c, in, base)
		if err != nil {
			return nil, err
		}
		return drift.FromStore(source, object), nil
	}
	src := in.Source
	name := path.Clean(configured)
	folder, err := src.Exists(ctx, name, sdk.DirectoryExistsOpts{ExpectedType: sdk.ExistsTypeDirectoryType})
	if err != nil {
		return nil, fmt.Errorf("look for the %s table %s: %w", which, configured, step.Explain(err))
	}
	if folder {
		return drift.FromFolder(src.Directory(name), configured), nil
	}
	return drift.FromFile(src.File(name), configured), nil
}
