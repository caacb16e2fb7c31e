package model

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

//go:embed locks/mlflow.txt
var mlflowLock string

// MLflowVariables are the environment variables that hold the secret of a login for MLflow: a token, or a user's password.
var MLflowVariables = []string{"MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"}

const mlflowUser = "MLFLOW_TRACKING_USERNAME"

// MLflow is a model registry that is told of what the store keeps. The store stays what counts: MLflow has no conditional
// write.
type MLflow struct {
	// URL of the tracking server, such as https://mlflow.example.com; nobody is told where it is empty.
	URL string
	// User whose password is among the credentials; empty for a token.
	User string
	// Credentials by the names of [MLflowVariables].
	Credentials map[string]*dagger.Secret
}

var mlflowAddress = regexp.MustCompile(`^https?://[^/?#@]+(/[^?#]*)?$`)

// Check reports an address that is none of a server.
func (m MLflow) Check() error {
	if m.URL == "" || mlflowAddress.MatchString(m.URL) {
		return nil
	}
	return fmt.Errorf("%q is no address of an MLflow server: use https://HOST, without user and query", m.URL)
}

// Announce registers a version of the store in MLflow too: a run of the model's experiment with parameters, metrics and all
// files, and a version of the registered model of its name. The alias champion moves after all of it was read back.
type Announce struct {
	MLflow   MLflow
	Registry Registry
	// Model is the name.
	Model string
}

// Run announces a version. One that is there already is not uploaded again. The alias moves only if the version is the
// champion in the store.
func (a Announce) Run(ctx context.Context, c *dagger.Client, version string) (step.Result, error) {
	champion, _, err := a.Registry.Champion(ctx, a.Model)
	if err != nil {
		return step.Result{}, err
	}
	files, err := a.Registry.Store.Get(ctx, a.Registry.folder(a.Model, version))
	if err != nil {
		return step.Result{}, fmt.Errorf("get %s of %s: %w", Short(version), a.Model, err)
	}
	ctr, err := image.Toolbox(ctx, c, "", mlflowLock)
	if err != nil {
		return step.Result{}, err
	}
	const program = "mlflow_register"
	if ctr, err = withPrograms(ctr, program+".py"); err != nil {
		return step.Result{}, err
	}
	if ctr, err = withSettings(ctr, map[string]any{"url": a.MLflow.URL, "name": a.Model, "version": version, "champion": champion.Version == version}); err != nil {
		return step.Result{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(a.MLflow.Credentials)) {
		ctr = ctr.WithSecretVariable(name, a.MLflow.Credentials[name])
	}
	if a.MLflow.User != "" {
		ctr = ctr.WithEnvVariable(mlflowUser, a.MLflow.User)
	}
	ctr = ctr.
		WithEnvVariable("MLFLOW_DISABLE_TELEMETRY", "true").
		WithEnvVariable("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3").
		WithEnvVariable("MLFLOW_HTTP_REQUEST_TIMEOUT", "60").
		WithEnvVariable("MILLRACE_NOW", time.Now().UTC().Format(time.RFC3339Nano)).
		WithMountedDirectory("/version", files)
	done, err := run(ctx, ctr, program, settingsFile, "/version")
	if err != nil {
		return step.Result{}, err
	}
	text, err := done.Stdout(ctx)
	if err != nil {
		return step.Result{}, err
	}
	var said struct {
		Error, Text, Version string
		Created              bool
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		return step.Result{}, fmt.Errorf("read the answer about %s: %w", a.MLflow.URL, err)
	}
	switch said.Error {
	case "":
	case "denied":
		return step.Result{}, fmt.Errorf("%s refuses this login: see %s, or %s: %s", a.MLflow.URL, MLflowVariables[0], mlflowUser+" and "+MLflowVariables[1], said.Text)
	default:
		return step.Result{}, graph.Transient(fmt.Errorf("register %s of %s in %s, whose alias champion stays as it was: %s", Short(version), a.Model, a.MLflow.URL, said.Text))
	}
	out := step.Result{
		Verdict: graph.Passed, Tools: image.Pinned(mlflowLock, "mlflow-skinny"),
		Artifacts: []report.Artifact{{Name: a.Model, Reference: fmt.Sprintf("models:/%s/%s", a.Model, said.Version), Digest: version}},
	}
	switch {
	case champion.Version != version:
		out.Reason = fmt.Sprintf("%s: version %s in MLflow; it is not the champion", a.Model, said.Version)
	case !said.Created:
		out.Reason = fmt.Sprintf("%s: it is version %s in MLflow already, and the champion", a.Model, said.Version)
	}
	return out, nil
}
