// Package model trains models: it checks the tables, trains in containers with limits, judges what came of it on rows
// that training has not seen, and registers what is good enough.
package model

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

//go:embed tools/*.py
var tools embed.FS

// The lock is written by
//
//	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate model.in -o model.txt
//
// in the folder locks.
//
//go:embed locks/model.txt
var lock string

const (
	// Where things lie in the containers.
	toolsFolder   = "/millrace"
	settingsFile  = "/millrace/settings.json"
	dataFolder    = "/data"
	reportsFolder = "/reports"
)

// container has the tools and what they need, as the lock pins it.
func container(ctx context.Context, c *dagger.Client, programs ...string) (*dagger.Container, error) {
	ctr, err := image.Toolbox(ctx, c, "", lock)
	if err != nil {
		return nil, err
	}
	// One thread: a sum's last bits depend on how many share it.
	ctr = ctr.WithEnvVariable("OMP_NUM_THREADS", "1").WithEnvVariable("OPENBLAS_NUM_THREADS", "1")
	return withPrograms(ctr, programs...)
}

// withPrograms adds tools by name. Only those that are used: an edit to another one changes nothing then.
func withPrograms(ctr *dagger.Container, programs ...string) (*dagger.Container, error) {
	for _, name := range programs {
		text, err := tools.ReadFile("tools/" + name)
		if err != nil {
			return nil, err
		}
		ctr = ctr.WithNewFile(toolsFolder+"/"+name, string(text))
	}
	return ctr, nil
}

// withSettings hands a tool what it is to do.
func withSettings(ctr *dagger.Container, settings any) (*dagger.Container, error) {
	text, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("write the settings of a tool: %w", err)
	}
	return ctr.WithNewFile(settingsFile, string(text)), nil
}

// run runs a tool, which must not fail.
func run(ctx context.Context, ctr *dagger.Container, name string, args ...string) (step.Executed, error) {
	done, err := step.Exec(ctx, ctr, reportsFolder, name, append([]string{image.ToolboxPython, toolsFolder + "/" + name + ".py"}, args...))
	if err != nil {
		return done, err
	}
	if done.ExitCode != 0 {
		said, _ := done.Tail(ctx)
		return done, fmt.Errorf("the tool %s broke with exit code %d:\n%s", name, done.ExitCode, said)
	}
	return done, nil
}
