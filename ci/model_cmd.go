package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
)

// modelCmd looks at models that are kept, and says which one is in use.
type modelCmd struct {
	List     modelListCmd     `cmd:"" help:"List the models, or a model's versions."`
	Show     modelShowCmd     `cmd:"" help:"Show what a version is made of."`
	Promote  modelPromoteCmd  `cmd:"" help:"Make a version the champion, whatever its gates said."`
	Rollback modelRollbackCmd `cmd:"" help:"Make the version the champion that was it before."`
}

// modelFlags are those of all commands on models.
type modelFlags struct {
	sourceFlags
	storeFlags
	Engine engine.Kind `enum:"auto,session,runner,runtime,embedded" default:"auto" help:"Engine, for a bucket or registry: auto, session, runner, runtime or embedded (default: auto)."`
}

// registry opens the store, and hands it to do.
func (f modelFlags) registry(ctx context.Context, s *streams, do func(model.Registry) error) error {
	return f.open(ctx, s, nil, func(r model.Registry, _ announcing) error { return do(r) })
}

// announcing tells MLflow of a model's champion, if there is a server to tell.
type announcing func(name, version string) error

// open opens the store, and hands it to do with what tells MLflow, if that may be asked for.
func (f modelFlags) open(ctx context.Context, s *streams, told *mlflowFlag, do func(model.Registry, announcing) error) error {
	p := &project.Project{}
	if source, err := f.sourceDir(); err == nil {
		if found, err := f.detect(source); err == nil {
			p = found
		} else if f.Store == "" {
			return err
		}
	}
	in := pipelines.Inputs{Project: p}
	var mlflow model.MLflow
	if told != nil {
		var err error
		if mlflow, err = told.mlflow(in); err != nil {
			return err
		}
	}
	if address := cmp.Or(f.Store, p.Artifacts.Store); remote(address) || mlflow.URL != "" {
		// A container talks to what is remote; a folder is looked at without an engine.
		chosen, err := engine.Choose(ctx, f.Engine, os.Getenv, s.progress())
		if err != nil {
			return usageError{err}
		}
		c, err := chosen.Connect(ctx, io.Discard)
		if err != nil {
			return err
		}
		defer engine.HangUp(c)
		in.Client = c
	}
	kept, err := f.store(in, f.Source)
	if err != nil {
		return err
	}
	if kept == nil {
		return usagef("no store given: name one with --store, or in millrace.yaml under artifacts")
	}
	r := model.Registry{Store: kept}
	return do(r, func(name, version string) error {
		if mlflow.URL == "" {
			return nil
		}
		// With its credentials, now that there is an engine to keep them.
		server, err := told.mlflow(in)
		if err != nil {
			return err
		}
		_, err = model.Announce{MLflow: server, Registry: r, Model: name}.Run(ctx, in.Client, version)
		return err
	})
}

type modelListCmd struct {
	modelFlags
	Name string `arg:"" optional:"" help:"Model whose versions are listed."`
}

func (c *modelListCmd) Run(ctx context.Context, s *streams) error {
	return c.registry(ctx, s, func(r model.Registry) error {
		table := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
		defer table.Flush()
		if c.Name != "" {
			return listVersions(ctx, table, r, c.Name)
		}
		names, err := r.Models(ctx)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			fmt.Fprintln(s.stderr, "no models in", r.Store)
			return nil
		}
		fmt.Fprintln(table, "MODEL\tCHAMPION\tSINCE\tVERSIONS")
		for _, name := range names {
			champion, _, err := r.Champion(ctx, name)
			if err != nil {
				return err
			}
			versions, err := r.Versions(ctx, name)
			if err != nil {
				return err
			}
			since := "-"
			if n := len(champion.History); n > 0 {
				since = champion.History[n-1].Time.Format(time.RFC3339)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\n", name, orDash(model.Short(champion.Version)), since, len(versions))
		}
		return nil
	})
}

func listVersions(ctx context.Context, table *tabwriter.Writer, r model.Registry, name string) error {
	versions, err := r.Versions(ctx, name)
	if err != nil {
		return err
	}
	if len(versions) == 0 {
		return usagef("%s has no model %q", r.Store, name)
	}
	champion, _, err := r.Champion(ctx, name)
	if err != nil {
		return err
	}
	fmt.Fprintln(table, "VERSION\tCHAMPION\tCOMMIT\tDATA")
	for _, v := range versions {
		m, err := r.Manifest(ctx, name, v)
		if err != nil {
			return err
		}
		mark := ""
		if v == champion.Version {
			mark = "yes"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", model.Short(v), mark, orDash(m.Commit[:min(7, len(m.Commit))]), model.Short(m.Data))
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type modelShowCmd struct {
	modelFlags
	Name    string `arg:"" help:"Model."`
	Version string `arg:"" optional:"" help:"Version, or its first digits (default: the champion)."`
	JSON    bool   `help:"Print the manifest, as JSON."`
}

func (c *modelShowCmd) Run(ctx context.Context, s *streams) error {
	return c.registry(ctx, s, func(r model.Registry) error {
		champion, _, err := r.Champion(ctx, c.Name)
		if err != nil {
			return err
		}
		version := champion.Version
		if c.Version != "" {
			if version, err = r.Find(ctx, c.Name, c.Version); err != nil {
				return usageError{err}
			}
		}
		if version == "" {
			return usagef("%s has no champion of %q: give a version", r.Store, c.Name)
		}
		m, err := r.Manifest(ctx, c.Name, version)
		if err != nil {
			return err
		}
		if c.JSON {
			out := json.NewEncoder(s.stdout)
			out.SetIndent("", " ")
			return out.Encode(m)
		}
		table := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
		defer table.Flush()
		for _, row := range [][2]string{
			{"model", m.Name}, {"version", version}, {"champion", map[bool]string{true: "yes", false: "no"}[version == champion.Version]},
			{"data", m.Data}, {"source", orDash(m.Source)}, {"commit", orDash(m.Commit)}, {"image", m.Image}, {"command", strings.Join(m.Command, " ")},
		} {
			fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
		}
		for _, name := range slices.Sorted(maps.Keys(m.Metrics)) {
			if !strings.Contains(name, ".") {
				fmt.Fprintf(table, "  %s\t%.6g\n", name, m.Metrics[name])
			}
		}
		return nil
	})
}

type modelPromoteCmd struct {
	modelFlags
	mlflowFlag
	Name    string `arg:"" help:"Model."`
	Version string `arg:"" help:"Version, or its first digits."`
}

func (c *modelPromoteCmd) Run(ctx context.Context, s *streams) error {
	return c.open(ctx, s, &c.mlflowFlag, func(r model.Registry, announce announcing) error {
		version, err := r.Find(ctx, c.Name, c.Version)
		if err != nil {
			return usageError{err}
		}
		if err := r.Promote(ctx, c.Name, version, "promoted", time.Now()); err != nil {
			return err
		}
		fmt.Fprintf(s.stdout, "%s: the champion is %s\n", c.Name, model.Short(version))
		return announce(c.Name, version)
	})
}

type modelRollbackCmd struct {
	modelFlags
	mlflowFlag
	Name string `arg:"" help:"Model."`
}

func (c *modelRollbackCmd) Run(ctx context.Context, s *streams) error {
	return c.open(ctx, s, &c.mlflowFlag, func(r model.Registry, announce announcing) error {
		version, err := r.Rollback(ctx, c.Name, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(s.stdout, "%s: the champion is %s again\n", c.Name, model.Short(version))
		return announce(c.Name, version)
	})
}
