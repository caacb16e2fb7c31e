package main

import (
	"cmp"
	"context"
	"errors"

	sdk "dagger.io/dagger"
	"dagger/millrace/internal/dagger"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// Train models, hold them against their gates and the champion, and register them.
//
// Prints the summary. Models are registered in the store; without one they are only judged. It is never cached
// as a whole, and its steps are by the content of data, code and image.
//
// +cache="never"
func (m *Millrace) Training(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
	// Folder with the tables; give this or dataURL.
	// +optional
	data *dagger.Directory,
	// Address of the tables: http(s)://, s3://, gs://, az:// or oci://.
	// +optional
	dataURL string,
	// Where models are kept: s3://, gs:// or az:// with bucket and path, or oci:// with host and repository; millrace.yaml's if left out.
	// +optional
	store string,
	// Endpoint of an S3-compatible server; millrace.yaml's if left out.
	// +optional
	endpoint string,
	// Region of the bucket; millrace.yaml's if left out.
	// +optional
	region string,
	// Key of the account for S3, for example env:AWS_ACCESS_KEY_ID.
	// +optional
	awsAccessKeyID *dagger.Secret,
	// Secret of that key.
	// +optional
	awsSecretAccessKey *dagger.Secret,
	// Session token, where the key is a temporary one.
	// +optional
	awsSessionToken *dagger.Secret,
	// Key of the service account for Google Cloud Storage, as JSON.
	// +optional
	googleServiceAccountKey *dagger.Secret,
	// Name of the account for Azure Blob Storage.
	// +optional
	azureStorageAccountName *dagger.Secret,
	// Key of that account; give this or the SAS token.
	// +optional
	azureStorageAccountKey *dagger.Secret,
	// SAS token for that account, which allows only what it says.
	// +optional
	azureStorageSasToken *dagger.Secret,
	// Endpoint of that account, such as https://ACCOUNT.blob.core.usgovcloudapi.net; millrace.yaml's, else Azure's public cloud if left out.
	// +optional
	azureStorageEndpoint string,
	// User name for the registry of oci://, and of that which the cluster pulls from.
	// +optional
	registryUser string,
	// Password or token for that registry, for example env:REGISTRY_PASSWORD.
	// +optional
	registryPassword *dagger.Secret,
	// Tracking server of MLflow whose model registry is told of every champion; millrace.yaml's if left out.
	// +optional
	mlflow string,
	// Token for MLflow, for example env:MLFLOW_TRACKING_TOKEN.
	// +optional
	mlflowTrackingToken *dagger.Secret,
	// User name for MLflow, where it wants one with a password.
	// +optional
	mlflowTrackingUsername string,
	// Password of that user, for example env:MLFLOW_TRACKING_PASSWORD.
	// +optional
	mlflowTrackingPassword *dagger.Secret,
	// Train only these models.
	// +optional
	models []string,
	// What started the run: push, pull_request, tag, schedule or manual; manual if left out.
	// +optional
	event string,
	// Branch, tag or pull request, as a name, a number or refs/…; what --git says if left out.
	// +optional
	ref string,
	// Commit; what --git says if left out.
	// +optional
	sha string,
	// Git reference that the source is of, for what ref and sha leave out; for example ".#HEAD".
	// +optional
	git *dagger.GitRef,
	// Address of the Slack webhook that messages go to, for example env:SLACK_WEBHOOK_URL.
	// +optional
	slackWebhook *dagger.Secret,
	// Kubeconfig of the cluster that trains models whose runner is kubernetes, for example env:KUBE_CONFIG_TRAINING.
	// +optional
	kubeconfig *dagger.Secret,
	// API server that an address of the loopback in the kubeconfig stands for, for example tcp://127.0.0.1:6443.
	// +optional
	server *dagger.Service,
	// Registry that this cluster pulls images from, as host[:port]/path; millrace.yaml's if left out.
	// +optional
	registry string,
) (string, error) {
	t := trainingRequest{
		data: data, dataURL: dataURL, store: store, mlflow: mlflow, mlflowUser: mlflowTrackingUsername, models: models,
		access: access{endpoint: endpoint, region: region, azureEndpoint: azureStorageEndpoint, registryUser: registryUser, secrets: map[string]*dagger.Secret{
			"AWS_ACCESS_KEY_ID": awsAccessKeyID, "AWS_SECRET_ACCESS_KEY": awsSecretAccessKey, "AWS_SESSION_TOKEN": awsSessionToken,
			"GOOGLE_SERVICE_ACCOUNT_KEY": googleServiceAccountKey,
			"AZURE_STORAGE_ACCOUNT_NAME": azureStorageAccountName, "AZURE_STORAGE_ACCOUNT_KEY": azureStorageAccountKey, "AZURE_STORAGE_SAS_TOKEN": azureStorageSasToken,
			"REGISTRY_PASSWORD": registryPassword, "MLFLOW_TRACKING_TOKEN": mlflowTrackingToken, "MLFLOW_TRACKING_PASSWORD": mlflowTrackingPassword,
		}},
	}
	t.cluster = target{environment: "training", kubeconfig: kubeconfig, server: server}
	return m.training(ctx, t, request{
		source: source, config: config, event: event, ref: ref, sha: sha, git: git, slackWebhook: slackWebhook,
		registry: registry, registryUser: registryUser, registryPassword: registryPassword,
	})
}

// trainingRequest is what the training function takes besides.
type trainingRequest struct {
	data                               *dagger.Directory
	dataURL, store, mlflow, mlflowUser string
	access                             access
	models                             []string
	cluster                            target
}

// training runs the training graph and says how that went.
func (m *Millrace) training(ctx context.Context, t trainingRequest, r request) (string, error) {
	c, err := connect(ctx)
	if err != nil {
		return "", failure(err)
	}
	in, err := m.inputs(ctx, c, r)
	if err != nil {
		return "", failure(err)
	}
	if in.Training, err = t.inputs(ctx, c, in); err != nil {
		return "", failure(err)
	}
	if in.Training.Clusters, err = t.cluster.clusters(ctx, c, in, "train them one by one, by --models"); err != nil {
		return "", failure(err)
	}
	if err := pipelines.CheckTraining(in); err != nil {
		return "", failure(usageError{err})
	}
	result := pipelines.Training(in).Run(ctx, graph.KeepGoing())
	return judge(pipelines.NewRun(result, in.Ref, report.Engine{Kind: "session"}), r)
}

func (t trainingRequest) inputs(ctx context.Context, c *sdk.Client, in pipelines.Inputs) (pipelines.TrainingInputs, error) {
	out := pipelines.TrainingInputs{Models: t.models}
	if err := pipelines.CheckModels(in.Project, t.models); err != nil {
		return out, usageError{err}
	}
	switch {
	case (t.data == nil) == (t.dataURL == ""):
		return out, usageError{errors.New("give either data, a folder with the tables, or data-url, their address")}
	case t.data != nil:
		id, err := t.data.ID(ctx)
		if err != nil {
			return out, err
		}
		out.Data = model.Folder{Directory: c.LoadDirectoryFromID(sdk.DirectoryID(id)), Name: "data"}
	default:
		source, err := t.access.source(ctx, c, in, t.dataURL)
		if err != nil {
			return out, err
		}
		out.Data = source
	}
	out.MLflow.URL, out.MLflow.User = cmp.Or(t.mlflow, in.Project.Artifacts.MLflow), t.mlflowUser
	if err := out.MLflow.Check(); err != nil {
		return out, usageError{err}
	}
	var err error
	if out.MLflow.Credentials, err = t.access.credentials(ctx, c, model.MLflowVariables); err != nil {
		return out, err
	}
	address := cmp.Or(t.store, in.Project.Artifacts.Store)
	if address == "" {
		return out, nil
	}
	kept, err := t.access.open(ctx, c, in, address)
	if err != nil {
		return out, err
	}
	out.Store = kept
	return out, nil
}
