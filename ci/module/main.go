// CI/CD pipelines for ML platforms: lint, test, scan, build and publish, as one graph or step by step.
//
// A run that does not pass is an error, whose text is the run's summary and whose exit code tells why: 1 failed (the
// code is at fault), 2 usage or configuration, 3 errored (the machinery is at fault), 4 inconclusive.
//
// Every function takes the source tree as an argument, or else that of the module. A millrace.yaml in it overrules what
// is detected.
package main

import (
	"context"

	"dagger/millrace/internal/dagger"

	"github.com/millrace-ci/millrace/pipelines"
)

// Millrace runs CI/CD pipelines on a source tree.
type Millrace struct {
	// Source tree that functions work on which are given none.
	//
	// +private
	Source *dagger.Directory
}

// New returns the pipelines of a source tree.
func New(
	// Source tree; by default the repository that the module is called in or installed into.
	// +optional
	// +defaultPath="/"
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
) *Millrace {
	return &Millrace{Source: source}
}

// Lint, test, scan, build, publish and deploy: the whole ci-cd graph.
//
// Prints the summary. Images are published on a push to main or develop (or the branches that millrace.yaml names)
// and for a tag, if there is a registry. A push to a branch of an environment is deployed to that, if its kubeconfig is given. It is never cached as a whole, and its steps are wherever they can be.
//
// +cache="never"
func (m *Millrace) CiCd(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
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
	// Web address of the repository, for the images' labels and for Codecov.
	// +optional
	repository string,
	// Where images are published, as host/path; millrace.yaml's if left out.
	// +optional
	registry string,
	// User name for the registry.
	// +optional
	registryUser string,
	// Password or token for the registry, for example env:REGISTRY_PASSWORD.
	// +optional
	registryPassword *dagger.Secret,
	// Token of the repository at Codecov; without one no coverage is uploaded.
	// +optional
	codecovToken *dagger.Secret,
	// API key of safety's vendor; its free database is used without one.
	// +optional
	safetyKey *dagger.Secret,
	// Address of the Slack webhook that messages go to, for example env:SLACK_WEBHOOK_URL.
	// +optional
	slackWebhook *dagger.Secret,
	// Address of the webhook that messages go to, where millrace.yaml asks for one.
	// +optional
	notifyWebhook *dagger.Secret,
	// Key that the requests to that webhook are signed with.
	// +optional
	notifyKey *dagger.Secret,
	// Password of the mail account that messages are sent from, where millrace.yaml asks for one.
	// +optional
	smtpPassword *dagger.Secret,
	// Environments that kubeconfigs are given for, as millrace.yaml names them.
	// +optional
	environments []string,
	// Kubeconfigs of these environments, in the same order, for example env:KUBE_CONFIG_STAGING.
	// +optional
	kubeconfigs []*dagger.Secret,
	// Deploy to a throw-away cluster that this run starts, instead of the environments' own.
	// +optional
	ephemeral bool,
	// Registry that the throw-away cluster pulls from where it is on the caller's loopback, for example tcp://127.0.0.1:5000.
	// +optional
	registryService *dagger.Service,
	// Run only these nodes, and those that hand them something.
	// +optional
	only []string,
	// Leave these nodes out.
	// +optional
	skip []string,
	// Go on with what a failure does not block, instead of ending the run.
	// +optional
	keepGoing bool,
) (string, error) {
	return m.summary(ctx, pipelines.CICD, request{
		source: source, config: config, event: event, ref: ref, sha: sha, git: git,
		repository: repository, registry: registry, registryUser: registryUser,
		registryPassword: registryPassword, codecovToken: codecovToken, safetyKey: safetyKey,
		slackWebhook: slackWebhook, notifyWebhook: notifyWebhook, notifyKey: notifyKey, smtpPassword: smtpPassword,
		environments: environments, kubeconfigs: kubeconfigs, ephemeral: ephemeral, registryService: registryService,
		only: only, skip: skip, keepGoing: keepGoing,
	})
}

// Run some nodes of the ci-cd graph.
//
// Prints the summary.
//
// +cache="never"
func (m *Millrace) Run(
	ctx context.Context,
	// Nodes to run, and those that hand them something.
	nodes []string,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
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
	// Web address of the repository, for the images' labels and for Codecov.
	// +optional
	repository string,
	// Where images are published, as host/path; millrace.yaml's if left out.
	// +optional
	registry string,
	// User name for the registry.
	// +optional
	registryUser string,
	// Password or token for the registry, for example env:REGISTRY_PASSWORD.
	// +optional
	registryPassword *dagger.Secret,
	// Token of the repository at Codecov; without one no coverage is uploaded.
	// +optional
	codecovToken *dagger.Secret,
	// API key of safety's vendor; its free database is used without one.
	// +optional
	safetyKey *dagger.Secret,
	// Address of the Slack webhook that messages go to, for example env:SLACK_WEBHOOK_URL.
	// +optional
	slackWebhook *dagger.Secret,
	// Address of the webhook that messages go to, where millrace.yaml asks for one.
	// +optional
	notifyWebhook *dagger.Secret,
	// Key that the requests to that webhook are signed with.
	// +optional
	notifyKey *dagger.Secret,
	// Password of the mail account that messages are sent from, where millrace.yaml asks for one.
	// +optional
	smtpPassword *dagger.Secret,
	// Leave these nodes out.
	// +optional
	skip []string,
	// Go on with what a failure does not block, instead of ending the run.
	// +optional
	keepGoing bool,
) (string, error) {
	return m.summary(ctx, pipelines.CICD, request{
		only: nodes, source: source, config: config, event: event, ref: ref, sha: sha, git: git,
		repository: repository, registry: registry, registryUser: registryUser,
		registryPassword: registryPassword, codecovToken: codecovToken, safetyKey: safetyKey,
		slackWebhook: slackWebhook, notifyWebhook: notifyWebhook, notifyKey: notifyKey, smtpPassword: smtpPassword,
		skip: skip, keepGoing: keepGoing,
	})
}

// Check style and types.
//
// A tool runs again when a file that it reads changes: code, its own settings, and for types and pylint the requirements.
//
// +check
func (m *Millrace) Lint(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
) (string, error) {
	return m.summary(ctx, pipelines.CICD, request{source: source, config: config, only: []string{"lint"}})
}

// Run the tests and measure coverage.
//
// They run again when a file that a test may read changes, or a requirement.
//
// +check
func (m *Millrace) Test(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
) (string, error) {
	return m.summary(ctx, pipelines.CICD, request{source: source, config: config, only: []string{"test"}})
}

// Scan the code and its dependencies.
//
// Its result is kept for an hour only: exceptions expire, and databases change, without the source.
//
// +check
// +cache="1h"
func (m *Millrace) Security(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
	// API key of safety's vendor; its free database is used without one.
	// +optional
	safetyKey *dagger.Secret,
) (string, error) {
	return m.summary(ctx, pipelines.CICD, request{
		source: source, config: config, safetyKey: safetyKey, only: []string{"security"},
	})
}

// Rewrite Python code with isort and black, again when a Python file or their settings change.
//
// Returns the changes: "export --path DIR" writes them over the source in DIR, "as-patch contents" prints them.
func (m *Millrace) Format(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
) (*dagger.Changeset, error) {
	return m.format(ctx, request{source: source, config: config})
}

// Build the images, again when a file that the Dockerfile reads changes.
//
// Add "names" to list them, or "container --name NAME" to run, export or open a terminal in one.
//
// +cache="session"
func (m *Millrace) Build(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
) (*Images, error) {
	return m.build(ctx, request{source: source, config: config})
}

// Build the images and push them to a registry, whatever the branch.
//
// Prints the summary, with the digests. A pull request is not published.
//
// +cache="never"
func (m *Millrace) Publish(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
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
	// Web address of the repository, for the images' labels and for Codecov.
	// +optional
	repository string,
	// Where images are published, as host/path; millrace.yaml's if left out.
	// +optional
	registry string,
	// User name for the registry.
	// +optional
	registryUser string,
	// Password or token for the registry, for example env:REGISTRY_PASSWORD.
	// +optional
	registryPassword *dagger.Secret,
) (string, error) {
	return m.summary(ctx, publishAnyway, request{
		source: source, config: config, event: event, ref: ref, sha: sha, git: git,
		repository: repository, registry: registry, registryUser: registryUser,
		registryPassword: registryPassword, only: []string{"publish"},
	})
}

// Compare a table with the one that a model was trained on.
//
// Prints the summary. Critical drift, and a table that breaks its contract or can't be used, fail; a warning passes.
// Without a state there is no history of earlier runs, so only severe drift alerts. A function leaves nothing on the
// caller's disk, so a state is a bucket or a registry.
//
// +cache="never"
func (m *Millrace) Drift(
	ctx context.Context,
	// Folder with the table that the model was trained on, in one or more files; the one that millrace.yaml names if left out.
	// +optional
	reference *dagger.Directory,
	// Folder with the table of today, in one or more files; the one that millrace.yaml names if left out.
	// +optional
	current *dagger.Directory,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
	// On critical drift: no, inline (train in this run) or dispatch (ask another system to); millrace.yaml's if left out.
	// +optional
	retrain string,
	// Token that a retraining is dispatched with, for example env:RETRAIN_TOKEN.
	// +optional
	retrainToken *dagger.Secret,
	// Where the history and the reports of all runs are kept: s3://, gs:// or az:// with bucket and path, or oci:// with host and repository; where models are kept if left out.
	// +optional
	state string,
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
	// For retraining inline: folder with the tables to train on; give this or dataURL.
	// +optional
	data *dagger.Directory,
	// For retraining inline: address of those tables.
	// +optional
	dataURL string,
	// For retraining inline: where models are kept, in the forms of state; millrace.yaml's if left out.
	// +optional
	store string,
	// For retraining inline: tracking server of MLflow whose model registry is told of every champion; millrace.yaml's if left out.
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
	// For retraining inline: kubeconfig of the cluster that trains models whose runner is kubernetes, for example env:KUBE_CONFIG_TRAINING.
	// +optional
	kubeconfig *dagger.Secret,
	// API server that an address of the loopback in the kubeconfig stands for, for example tcp://127.0.0.1:6443.
	// +optional
	server *dagger.Service,
	// Registry that this cluster pulls images from, as host[:port]/path; millrace.yaml's if left out.
	// +optional
	registry string,
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
) (string, error) {
	t := tables{
		reference: reference, current: current, retrain: retrain, token: retrainToken, state: state,
		access: access{endpoint: endpoint, region: region, azureEndpoint: azureStorageEndpoint, registryUser: registryUser, secrets: map[string]*dagger.Secret{
			"AWS_ACCESS_KEY_ID": awsAccessKeyID, "AWS_SECRET_ACCESS_KEY": awsSecretAccessKey, "AWS_SESSION_TOKEN": awsSessionToken,
			"GOOGLE_SERVICE_ACCOUNT_KEY": googleServiceAccountKey,
			"AZURE_STORAGE_ACCOUNT_NAME": azureStorageAccountName, "AZURE_STORAGE_ACCOUNT_KEY": azureStorageAccountKey, "AZURE_STORAGE_SAS_TOKEN": azureStorageSasToken,
			"REGISTRY_PASSWORD": registryPassword, "MLFLOW_TRACKING_TOKEN": mlflowTrackingToken, "MLFLOW_TRACKING_PASSWORD": mlflowTrackingPassword,
		}},
	}
	t.training = trainingRequest{
		data: data, dataURL: dataURL, store: store, mlflow: mlflow, mlflowUser: mlflowTrackingUsername, access: t.access,
		cluster: target{environment: "training", kubeconfig: kubeconfig, server: server},
	}
	return m.drift(ctx, t, request{
		source: source, config: config, event: event, ref: ref, sha: sha, git: git, slackWebhook: slackWebhook,
		registry: registry, registryUser: registryUser, registryPassword: registryPassword,
	})
}

// Show what the ci-cd graph would run, and why not.
func (m *Millrace) Plan(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
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
	// Web address of the repository, for the images' labels and for Codecov.
	// +optional
	repository string,
	// Where images are published, as host/path; millrace.yaml's if left out.
	// +optional
	registry string,
	// Run only these nodes, and those that hand them something.
	// +optional
	only []string,
	// Leave these nodes out.
	// +optional
	skip []string,
	// Form of the plan: text, json, mermaid or svg.
	// +default="text"
	format string,
) (string, error) {
	return m.plan(ctx, format, request{
		source: source, config: config, event: event, ref: ref, sha: sha, git: git,
		repository: repository, registry: registry, only: only, skip: skip,
	})
}

// Run the ci-cd graph and return its reports, whether it passes or not.
//
// In the folder are run.json, index.html, junit.xml, findings.sarif and summary.md, and below reports/ what the steps left.
//
// +cache="never"
func (m *Millrace) Report(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
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
	// Web address of the repository, for the images' labels and for Codecov.
	// +optional
	repository string,
	// Where images are published, as host/path; millrace.yaml's if left out.
	// +optional
	registry string,
	// User name for the registry.
	// +optional
	registryUser string,
	// Password or token for the registry, for example env:REGISTRY_PASSWORD.
	// +optional
	registryPassword *dagger.Secret,
	// Token of the repository at Codecov; without one no coverage is uploaded.
	// +optional
	codecovToken *dagger.Secret,
	// API key of safety's vendor; its free database is used without one.
	// +optional
	safetyKey *dagger.Secret,
	// Address of the Slack webhook that messages go to, for example env:SLACK_WEBHOOK_URL.
	// +optional
	slackWebhook *dagger.Secret,
	// Address of the webhook that messages go to, where millrace.yaml asks for one.
	// +optional
	notifyWebhook *dagger.Secret,
	// Key that the requests to that webhook are signed with.
	// +optional
	notifyKey *dagger.Secret,
	// Password of the mail account that messages are sent from, where millrace.yaml asks for one.
	// +optional
	smtpPassword *dagger.Secret,
	// Run only these nodes, and those that hand them something.
	// +optional
	only []string,
	// Leave these nodes out.
	// +optional
	skip []string,
	// Go on with what a failure does not block, instead of ending the run.
	// +optional
	keepGoing bool,
) (*dagger.Directory, error) {
	return m.report(ctx, request{
		source: source, config: config, event: event, ref: ref, sha: sha, git: git,
		repository: repository, registry: registry, registryUser: registryUser,
		registryPassword: registryPassword, codecovToken: codecovToken, safetyKey: safetyKey,
		slackWebhook: slackWebhook, notifyWebhook: notifyWebhook, notifyKey: notifyKey, smtpPassword: smtpPassword,
		only: only, skip: skip, keepGoing: keepGoing,
	})
}

// Print the effective configuration: what was detected, overruled by the configuration file.
func (m *Millrace) Config(
	ctx context.Context,
	// Source tree; the one given to the module if left out.
	// +optional
	// +ignore=[".git", "**/.git", "**/node_modules", "**/.venv", "**/venv", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache"]
	source *dagger.Directory,
	// Configuration; millrace.yaml or .millrace.yaml in the source if left out.
	// +optional
	config *dagger.File,
) (string, error) {
	return m.effective(ctx, request{source: source, config: config})
}
