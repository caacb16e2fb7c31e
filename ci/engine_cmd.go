package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/ci/engine"
)

type engineCmd struct {
	Up     engineUpCmd     `cmd:"" help:"Make the engine ready; the embedded one is built at the first time."`
	Down   engineDownCmd   `cmd:"" help:"Stop the embedded engine; its cache stays."`
	Status engineStatusCmd `cmd:"" help:"Say which engine is used, why, and where its state lies."`
	Env    engineEnvCmd    `cmd:"" help:"Print shell commands that make the plain dagger command use the engine."`
	Daemon engineDaemonCmd `cmd:"" hidden:""`
	Stage  engineStageCmd  `cmd:"" hidden:""`
}

type engineFlag struct {
	Engine engine.Kind `enum:"auto,session,runner,runtime,embedded" default:"auto" placeholder:"KIND" help:"Engine: auto, session, runner, runtime or embedded (default: auto)."`
}

func (f engineFlag) choose(ctx context.Context, s *streams) (*engine.Engine, error) {
	e, err := engine.Choose(ctx, f.Engine, os.Getenv, s.progress())
	if err != nil {
		return nil, usageError{err}
	}
	return e, nil
}

type engineUpCmd struct{ engineFlag }

func (c *engineUpCmd) Run(ctx context.Context, s *streams) error {
	e, err := c.choose(ctx, s)
	if err != nil {
		return err
	}
	if err := e.Ready(ctx); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s engine %s is ready: %s\n", e.Kind, e.Version, e.Why)
	return nil
}

type engineDownCmd struct{}

func (c *engineDownCmd) Run(ctx context.Context, s *streams) error {
	e, err := engine.NewEmbedded(os.Getenv, s.progress())
	if err != nil {
		return err
	}
	stopped, err := e.Down(ctx)
	if err != nil {
		return err
	}
	if stopped {
		fmt.Fprintln(s.stdout, "the embedded engine is stopped, and the host's network is as it was before")
	} else {
		fmt.Fprintln(s.stdout, "the embedded engine was not running")
	}
	return nil
}

type engineStatusCmd struct{ engineFlag }

func (c *engineStatusCmd) Run(ctx context.Context, s *streams) error {
	e, err := c.choose(ctx, s)
	if err != nil {
		return err
	}
	own := e.Embedded()
	running, err := own.Status()
	if err != nil {
		return err
	}
	print := func(key, format string, args ...any) {
		fmt.Fprintf(s.stdout, "%-10s %s\n", key, fmt.Sprintf(format, args...))
	}
	print("engine", "%s", e.Kind)
	print("why", "%s", e.Why)
	print("version", "%s", e.AskVersion(ctx))
	if running == nil {
		print("embedded", "not running")
	} else {
		print("embedded", "running since %s (pid %d)", running.Started.Local().Format(time.DateTime), running.PID)
		print("registry", "%s", running.Registry)
	}
	size, exact, err := cacheSize(ctx, own, running)
	if err != nil {
		return err
	}
	bound := fmt.Sprintf("the engine's part of it is kept below %d GiB", engine.CacheBound>>30)
	if exact {
		print("cache", "%s, %.1f GiB; %s", own.Cache, float64(size)/(1<<30), bound)
	} else {
		print("cache", "%s, more than %.1f GiB; %s", own.Cache, float64(size)/(1<<30), bound)
	}
	print("runtime", "%s", own.Runtime)
	return nil
}

// cacheSize returns what the embedded engine's cache takes, in bytes, and whether that is all of it.
// The engine's own part has so many files that it is asked for its books; one that does not run is counted for 5 s.
func cacheSize(ctx context.Context, own *engine.Embedded, running *engine.Running) (size int64, exact bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	state := ""
	if running != nil {
		if booked, err := own.Booked(ctx, *running); err == nil {
			size, state = booked, own.State()
		}
	}
	err = filepath.WalkDir(own.Cache, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fs.SkipAll
		case err != nil:
			return nil // it vanished meanwhile, or there is no cache yet
		case path == state:
			return fs.SkipDir
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size, ctx.Err() == nil, err
}

type engineEnvCmd struct{ engineFlag }

func (c *engineEnvCmd) Run(ctx context.Context, s *streams) error {
	e, err := c.choose(ctx, s)
	if err != nil {
		return err
	}
	if err := e.Ready(ctx); err != nil {
		return err
	}
	environment := e.Environment(os.Getenv("PATH"))
	if len(environment) == 0 {
		return usageError{fmt.Errorf("nothing has to be set, since the dagger command finds the %s engine by itself; but no dagger command %s is on PATH: install that version (https://docs.dagger.io/install), or take the embedded engine, which brings one along: ci engine env --engine embedded", e.Kind, e.Version)}
	}
	for _, v := range environment {
		fmt.Fprintf(s.stdout, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return nil
}

type engineDaemonCmd struct{}

func (engineDaemonCmd) Run(s *streams) error {
	e, err := engine.NewEmbedded(os.Getenv, s.progress())
	if err != nil {
		return err
	}
	return e.Daemon()
}

type engineStageCmd struct {
	Runtime string   `arg:""`
	Scratch string   `arg:""`
	Argv    []string `arg:"" passthrough:""`
}

func (c *engineStageCmd) Run() error {
	argv := c.Argv
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	return engine.Stage(c.Runtime, c.Scratch, argv)
}
