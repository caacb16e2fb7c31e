package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// program talks to a store, in a container.
type program struct {
	client *dagger.Client
	// name, text and lock are the program's file, its content, and what pins its libraries.
	name, text, lock string
	// where names the store for people.
	where string
	// credentials are secrets by the names of environment variables, and plain are variables that are none.
	credentials map[string]*dagger.Secret
	plain       map[string]string
}

// answer is what a program says.
type answer struct {
	Error, Text, Name, Want, Got string

	Data    *string
	Version string
	Names   []string
	Objects []Object
}

// Object is a file in a store, and what tells its present content from any other.
type Object struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	Version string `json:"version"`
	// Folder says that it is an archive of the folder of that name.
	Folder bool `json:"folder,omitempty"`
}

const (
	settingsFile = "/millrace/settings.json"
	answerFolder = "/answer"
	answerFile   = answerFolder + "/answer.json"
)

// do runs the program. What it does is not answered from the cache, unless cached is true.
func (p program) do(ctx context.Context, operation string, settings map[string]any, cached bool, prepare func(*dagger.Container) *dagger.Container) (answer, *dagger.Container, error) {
	var a answer
	ctr, err := image.Toolbox(ctx, p.client, "", p.lock)
	if err != nil {
		return a, nil, err
	}
	settings["answer"], settings["strict"] = answerFile, cached
	text, err := json.Marshal(settings)
	if err != nil {
		return a, nil, err
	}
	file := "/millrace/" + p.name
	ctr = ctr.WithNewFile(file, p.text).WithNewFile(settingsFile, string(text))
	for _, name := range slices.Sorted(maps.Keys(p.credentials)) {
		ctr = ctr.WithSecretVariable(name, p.credentials[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.plain)) {
		ctr = ctr.WithEnvVariable(name, p.plain[name])
	}
	if !cached {
		ctr = ctr.WithEnvVariable("MILLRACE_NOW", time.Now().UTC().Format(time.RFC3339Nano))
	}
	if prepare != nil {
		ctr = prepare(ctr)
	}
	argv := []string{image.ToolboxPython, file, operation, settingsFile}
	if cached {
		// The engine keeps what ends well only: a failure that was let pass would be the answer of every later run.
		ctr, err := ctr.WithDirectory(answerFolder, p.client.Directory()).WithExec(argv).Sync(ctx)
		if err != nil {
			return a, nil, step.Explain(err)
		}
		return a, ctr, nil
	}
	done, err := step.Exec(ctx, ctr, answerFolder, operation, argv)
	if err != nil {
		return a, nil, err
	}
	if done.ExitCode != 0 {
		said, _ := done.Tail(ctx)
		return a, nil, fmt.Errorf("the program that talks to %s broke:\n%s", p.where, said)
	}
	// Not from its output: the engine blots out secrets there, and a short one is part of many a name and digest.
	out, err := done.File(ctx, answerFile)
	if err != nil {
		return a, nil, err
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		return a, nil, fmt.Errorf("read the answer about %s: %w", p.where, err)
	}
	if a.Error != "" {
		// What people are told, though, from there.
		if a.Text, err = done.Stdout(ctx); err != nil {
			return a, nil, err
		}
		a.Text = strings.TrimSpace(a.Text)
	}
	return a, done.Container, nil
}

// operations are what every store's program knows, by the function that runs it.
type operations func(ctx context.Context, operation string, settings map[string]any, cached bool, prepare func(*dagger.Container) *dagger.Container) (answer, *dagger.Container, error)

func (do operations) read(ctx context.Context, name string) ([]byte, string, error) {
	a, _, err := do(ctx, "read", map[string]any{"name": name}, false, nil)
	if err != nil || a.Data == nil {
		return nil, "", err
	}
	return []byte(*a.Data), a.Version, nil
}

func (do operations) write(ctx context.Context, name string, data []byte, version string) error {
	_, _, err := do(ctx, "write", map[string]any{"name": name, "data": string(data), "version": version}, false, nil)
	return err
}

func (do operations) put(ctx context.Context, prefix string, dir *dagger.Directory, digests map[string]string) error {
	const folder = "/upload"
	_, _, err := do(ctx, "put", map[string]any{"prefix": prefix, "folder": folder, "digests": digests}, false,
		func(ctr *dagger.Container) *dagger.Container { return ctr.WithMountedDirectory(folder, dir) })
	return err
}

func (do operations) list(ctx context.Context, prefix string) ([]string, error) {
	a, _, err := do(ctx, "list", map[string]any{"prefix": prefix}, false, nil)
	return a.Names, err
}

func (do operations) stat(ctx context.Context, settings map[string]any) (answer, error) {
	a, _, err := do(ctx, "stat", settings, false, nil)
	return a, err
}

// fetch downloads objects into a folder, whose paths begin behind strip. What tells their content is among the settings, so
// it is not downloaded twice.
func (do operations) fetch(ctx context.Context, c *dagger.Client, objects []Object, strip string) (*dagger.Directory, error) {
	if len(objects) == 0 {
		return c.Directory(), nil
	}
	const folder = "/out"
	settings := map[string]any{"objects": objects, "out": folder}
	if strip != "" {
		settings["strip"] = strip
	}
	_, ctr, err := do(ctx, "fetch", settings, true, nil)
	if err != nil {
		// Once more, to learn why.
		_, ctr, err = do(ctx, "fetch", settings, false, nil)
	}
	if err != nil {
		return nil, err
	}
	return ctr.Directory(folder), nil
}
