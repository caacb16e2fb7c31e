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
	uvVersion = "0.13.9"
	caBundle  = "/etc/ssl/certs/ca-certificates.crt"
	// Where things lie in the containers.
	toolsFolder   = "/millrace"
	settingsFile  = "/millrace/settings.json"
	dataFolder    = "/data"
	reportsFolder = "/reports"
	pythonProgram = "/opt/venv/bin/python"
)

// container has the tools and what they need, as the lock pins it.
func container(ctx context.Context, c *dagger.Client, lock string, programs ...string) (*dagger.Container, error) {
	base := c.Container().From(image.Python(""))
	trusted, err := base.Exists(ctx, caBundle)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", image.Python(""), step.Explain(err))
	}
	if trusted {
		// uv comes with a bundle of its own and would not know the host's authorities.
		base = base.WithEnvVariable("UV_SYSTEM_CERTS", "1").WithEnvVariable("SSL_CERT_FILE", caBundle)
	}
	ctr := base.
		WithExec([]string{"pip", "install", "--no-cache-dir", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "uv==" + uvVersion}).
		WithEnvVariable("UV_CACHE_DIR", "/cache/uv").
		WithEnvVariable("UV_LINK_MODE", "copy").
		WithEnvVariable("UV_COMPILE_BYTECODE", "1").
		WithEnvVariable("UV_PYTHON_DOWNLOADS", "never").
		WithEnvVariable("UV_NO_PROGRESS", "1").
		WithMountedCache("/cache/uv", c.CacheVolume("millrace-uv")).
		WithNewFile("/opt/requirements.txt", lock).
		WithExec([]string{"uv", "venv", "/opt/venv"}).
		WithExec([]string{"uv", "pip", "install", "--python", "/opt/venv", "--require-hashes", "-r", "/opt/requirements.txt"}).
		WithoutMount("/cache/uv").
		WithEnvVariable("PYTHONUTF8", "1").
		WithEnvVariable("OMP_NUM_THREADS", "1").
		WithEnvVariable("OPENBLAS_NUM_THREADS", "1")
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
	done, err := step.Exec(ctx, ctr, reportsFolder, name, append([]string{pythonProgram, toolsFolder + "/" + name + ".py"}, args...))
	if err != nil {
		return done, err
	}
	if done.ExitCode != 0 {
		said, _ := done.Tail(ctx)
		return done, fmt.Errorf("the tool %s broke with exit code %d:\n%s", name, done.ExitCode, said)
	}
	return done, nil
}
