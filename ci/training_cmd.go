package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/ci/folder"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// storeFlags say where models and reports are kept.
type storeFlags struct {
	Store string `placeholder:"DIR|URL" help:"Where models are kept: a folder, s3://, gs://, az:// with bucket and path, or oci:// with host and repository (default: millrace.yaml's, under artifacts)."`
}

// mlflowFlag says whom to tell of champions.
type mlflowFlag struct {
	MLflow string `name:"mlflow" placeholder:"URL" help:"Tracking server of MLflow whose model registry is told of every champion too (default: millrace.yaml's, under artifacts, else none)."`
}

// tablesFlag says where the tables are that models are trained on.
type tablesFlag struct {
	Data string `placeholder:"DIR|URL" help:"Where the tables that models are trained on are: a folder, http(s)://, s3://, gs://, az://, or an artifact, oci://HOST/REPOSITORY:TAG (default: the folder data of the source)."`
}

type trainingCmd struct {
	storeFlags
	mlflowFlag
	tablesFlag
	Model         []string `placeholder:"NAME" help:"Train only these models."`
	Only          []string `placeholder:"NODE" help:"Run only these nodes and those whose output they need, such as validate, train-MODEL, gate-MODEL or register-MODEL; --dry-run lists all of them."`
	Skip          []string `placeholder:"NODE" help:"Leave these nodes out."`
	sourceFlags   `group:"Source:"`
	refFlags      `group:"What the run is for:"`
	registryFlags `group:"Where images go:"`
	stepFlags     `group:"How it runs:"`
	shellFlag     `group:"How it runs:"`
	parallelFlag  `group:"How it runs:"`
}

func (c *trainingCmd) Run(ctx context.Context, s *streams) error {
	if err := c.checkData(c.Source); err != nil {
		return err
	}
	var wrong error
	build := func(in pipelines.Inputs) *graph.Graph {
		in.Training = pipelines.TrainingInputs{Data: c.sourceOfData(in, c.Source), Models: c.Model}
		wrong = pipelines.CheckModels(in.Project, c.Model)
		if wrong == nil {
			in.Training.Store, wrong = c.store(in, c.Source)
		}
		if wrong == nil {
			in.Training.MLflow, wrong = c.mlflow(in)
		}
		in.Training.Clusters = trainingClusters(in)
		if wrong == nil {
			wrong = pipelines.CheckTraining(in)
		}
		return pipelines.Training(in).Graph
	}
	p := &pipeline{
		sourceFlags: c.sourceFlags, refFlags: c.refFlags, registryFlags: c.registryFlags,
		// One model's failure must not stop the others.
		runFlags: runFlags{stepFlags: c.stepFlags, shellFlag: c.shellFlag, parallelFlag: c.parallelFlag, KeepGoing: true},
	}
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	// Whether the engine has a registry of its own, is not known yet; where it has none, the image says so.
	if build(ready.inputs(nil, engine.DefaultRegistry)); wrong != nil {
		return usageError{wrong}
	}
	if err := checkTrainingClusters(ready.project, c.Model); err != nil {
		return err
	}
	p.wanted, p.tables = c.Only, c.tablesFlag
	return p.execute(ctx, s, build, selection{Only: c.Only, Skip: c.Skip}.options()...)
}

// checkTrainingClusters checks the kubeconfigs of models that are trained on a cluster; of those that are named, if any are.
func checkTrainingClusters(p *project.Project, named []string) error {
	for _, m := range p.Models {
		if !m.OnKubernetes() || len(named) > 0 && !slices.Contains(named, m.Name) {
			continue
		}
		if err := checkKubeconfig(m.Kubernetes.Variable()); err != nil {
			return err
		}
	}
	return nil
}

// trainingClusters returns the clusters of models that are trained on one, as the environment's kubeconfigs say.
func trainingClusters(in pipelines.Inputs) map[string]kube.Cluster {
	clusters := map[string]kube.Cluster{}
	for _, m := range in.Project.Models {
		if !m.OnKubernetes() {
			continue
		}
		variable := m.Kubernetes.Variable()
		if cluster, given := clusterIn(in.Client, "kubeconfig-"+strings.ToLower(variable), variable); given {
			clusters[variable] = cluster
		}
	}
	return clusters
}

// folder is where the tables are, if that is on this machine.
func (f tablesFlag) folder(source string) string {
	if f.Data == "" {
		return filepath.Join(source, "data")
	}
	return f.Data
}

// remote reports whether an address is none of this machine.
func remote(address string) bool { return strings.Contains(address, "://") }

// checkData reports an address that tables can't come from.
func (f tablesFlag) checkData(source string) error {
	if remote(f.Data) {
		if err := store.CheckSource(f.Data); err != nil {
			return usageError{err}
		}
		return nil
	}
	info, err := os.Stat(f.folder(source))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usagef("the folder %q of the tables does not exist: name it with --data", f.folder(source))
	case err != nil:
		return usageError{err}
	case !info.IsDir():
		return usagef("the data %q is a file: name the folder that it is in with --data", f.folder(source))
	}
	return nil
}

// sourceOfData returns where the tables come from.
func (f tablesFlag) sourceOfData(in pipelines.Inputs, source string) model.Source {
	if remote(f.Data) {
		return sourceAt(in, f.Data)
	}
	absolute, err := filepath.Abs(f.folder(source))
	if err != nil {
		absolute = f.folder(source)
	}
	return hostFolder{path: absolute, name: f.folder(source)}
}

// sourceAt returns the bucket or the artifact at an address.
func sourceAt(in pipelines.Inputs, address string) store.Source {
	if store.IsRegistry(address) {
		return registry(in, address)
	}
	return bucket(in, address)
}

// registry returns the repository of an address, with the credentials of the environment.
func registry(in pipelines.Inputs, address string) store.Registry {
	return store.Registry{
		Client: in.Client, Address: strings.TrimSuffix(address, "/"),
		User: os.Getenv("REGISTRY_USER"), Password: secret(in.Client, "store-registry-password", "REGISTRY_PASSWORD"),
	}
}

// secrets returns those that environment variables hold, by the variables' names.
func secrets(c *dagger.Client, variables []string) map[string]*dagger.Secret {
	all := map[string]*dagger.Secret{}
	for _, variable := range variables {
		if s := secret(c, "store-"+strings.ToLower(variable), variable); s != nil {
			all[variable] = s
		}
	}
	return all
}

// bucket returns the bucket of an address, with the credentials of the environment.
func bucket(in pipelines.Inputs, address string) store.Bucket {
	b := store.Bucket{
		Client: in.Client, URL: address, Credentials: secrets(in.Client, store.BucketVariables),
		Endpoint: in.Project.Artifacts.EndpointOf(address),
	}
	switch kind, _, _ := strings.Cut(address, "://"); kind {
	case "s3":
		b.Endpoint = cmp.Or(b.Endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
		b.Region = cmp.Or(in.Project.Artifacts.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	case "az":
		b.Endpoint = cmp.Or(b.Endpoint, os.Getenv("AZURE_STORAGE_ENDPOINT"))
	}
	return b
}

// hostFolder is a folder of this machine with tables. Only those that are wanted go to the engine.
type hostFolder struct{ path, name string }

func (f hostFolder) String() string { return f.name }

func (f hostFolder) Fetch(_ context.Context, c *dagger.Client, paths []string) (*dagger.Directory, error) {
	return c.Host().Directory(f.path, dagger.HostDirectoryOpts{Include: paths}), nil
}

// store returns where models are kept; nil where nobody said.
func (f storeFlags) store(in pipelines.Inputs, source string) (store.Store, error) {
	address := f.Store
	if address == "" {
		address = in.Project.Artifacts.Store
		if address != "" && !remote(address) && !filepath.IsAbs(address) {
			address = filepath.Join(source, address)
		}
	}
	if address == "" {
		return nil, nil
	}
	return open(in, address)
}

// mlflow returns the server that is told of champions; without an address where nobody said.
func (f mlflowFlag) mlflow(in pipelines.Inputs) (model.MLflow, error) {
	m := model.MLflow{URL: cmp.Or(f.MLflow, in.Project.Artifacts.MLflow), User: os.Getenv("MLFLOW_TRACKING_USERNAME"), Credentials: secrets(in.Client, model.MLflowVariables)}
	if err := m.Check(); err != nil {
		return m, usageError{err}
	}
	return m, nil
}

// open returns the store at an address, or in a folder of this machine.
func open(in pipelines.Inputs, address string) (store.Store, error) {
	if remote(address) {
		if err := store.CheckAddress(strings.TrimSuffix(address, "/")); err != nil {
			return nil, usageError{err}
		}
		if store.IsRegistry(address) {
			return registry(in, address), nil
		}
		return bucket(in, address), nil
	}
	absolute, err := filepath.Abs(address)
	if err != nil {
		return nil, err
	}
	return folder.Store{Client: in.Client, Path: absolute}, nil
}
