package kube

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// pytestVersion is the version of pytest that checks run with, unless their requirements name another.
const pytestVersion = "9.2.0"

//go:embed receive.py
var receiveScript string

//go:embed await.py
var awaitScript string

// pytest is the task of a check with pytest. The engine installs what it needs and sends it along, so that the pod asks no
// package index: many clusters reach none.
func (s Smoke) pytest(ctx context.Context, c *dagger.Client, check project.Smoke) (Task, error) {
	if s.Source == nil {
		return Task{}, errors.New("a check with pytest needs the source tree")
	}
	base := image.Python(cmp.Or(check.Pytest.Python, s.Python))
	// The folder, for a conftest.py or data beside the file.
	folder := check.Pytest.Path
	if path.Ext(folder) == ".py" {
		folder = path.Dir(folder)
	}
	argv := []string{"python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location",
		"--root-user-action=ignore", "--target", "/bundle/packages", "pytest==" + pytestVersion}
	if len(check.Pytest.Requirements) > 0 {
		argv[len(argv)-1] = "pytest"
		argv = append(argv, check.Pytest.Requirements...)
	}
	bundle, err := c.Container().From(base).
		WithMountedCache("/root/.cache/pip", c.CacheVolume("millrace-pip")).
		WithExec(argv).
		WithDirectory("/bundle/source/"+folder, step.Folder(c, s.Source, folder)).
		WithExec([]string{"tar", "--create", "--gzip", "--file", "/bundle.tgz", "--directory", "/bundle", "."}).
		File("/bundle.tgz").Sync(ctx)
	if err != nil {
		return Task{}, fmt.Errorf("install pytest and %v for %s: %w", check.Pytest.Requirements, check.Pytest.Path, step.Explain(err))
	}
	return Task{
		Name: smokeTask, Namespace: s.Namespace, Image: base, Argv: []string{"python", "-u", "/millrace/await.py", check.Pytest.Path},
		Files:  map[string]string{"receive.py": receiveScript, "await.py": awaitScript},
		Bundle: bundle, Env: s.environment(check), Secrets: check.Secrets, Timeout: cmp.Or(check.Timeout, 5*time.Minute),
	}, nil
}
