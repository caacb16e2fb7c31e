package pipelines

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
	"github.com/millrace-ci/millrace/pipelines/store"
)

// TrainingInputs are what the training graph needs besides the source tree and the project.
type TrainingInputs struct {
	// Data is where the tables come from.
	Data model.Source
	// Models are the names of those to train; all if it is empty.
	Models []string
	// Store is where models go; without one, nothing is registered, and there is no champion to hold a model against.
	Store store.Store
	// MLflow is told of every champion too, if it has an address.
	MLflow model.MLflow
	// Clusters are those that train models which don't train on the engine, by the variables that hold their kubeconfigs.
	Clusters map[string]kube.Cluster
}

// TrainingGraph is the training graph with its nodes.
type TrainingGraph struct {
	*graph.Graph

	Download *graph.Node[model.Data]
	Validate *graph.Node[model.Data]
	Models   map[string]ModelNodes
	Notify   *graph.Node[step.Result]
}

// ModelNodes are the nodes of one model.
type ModelNodes struct {
	// Jobs has the cluster train the points of the grid; nil where there is one point, or the engine trains.
	Jobs *graph.Node[model.Grid]
	// Train has a node for each point of the grid.
	Train    []*graph.Node[model.Trained]
	Evaluate *graph.Node[model.Evaluated]
	Gate     *graph.Node[step.Result]
	Register *graph.Node[model.Registered]
	// MLflow is nil where no server is given.
	MLflow *graph.Node[step.Result]
}

// Training returns the training graph: download, validate, then for each model side by side train, evaluate, gate and
// register, also in MLflow if there is one; at the end, whatever happened, notify. Run it with [graph.KeepGoing]: a model's failure is not the others'.
func Training(in Inputs) TrainingGraph {
	p, c := in.Project, in.Client
	g := graph.New("training")
	models := trained(in)
	tables := tablesOf(p, models)
	missing := ""
	switch {
	case len(p.Models) == 0:
		missing = "no models: describe them in millrace.yaml under models"
	case len(models) == 0:
		missing = "none of the models was asked for"
	case in.Training.Data == nil:
		missing = "no data: say where the tables are with --data"
	}

	t := TrainingGraph{Graph: g, Models: map[string]ModelNodes{}}
	t.Download = graph.Add(g, "download", func(ctx context.Context) (model.Data, error) {
		return model.Download{Tables: tables, Source: in.Training.Data}.Run(ctx, c)
	}, graph.When(missing == "", missing), graph.Doc("fetch "+count(len(tables), "table")), graph.Retry(3, time.Second))
	t.Validate = graph.Add(g, "validate", func(ctx context.Context) (model.Data, error) {
		return model.Validate{Tables: tables, Now: in.Now}.Run(ctx, c, t.Download.Value())
	}, graph.Needs(t.Download), graph.Doc("check the tables against their contracts"), graph.Retry(3, time.Second))
	images := map[string]*graph.Node[model.Image]{}
	for _, m := range models {
		name := imageName(m)
		if images[name] == nil {
			published := slices.ContainsFunc(models, func(o project.Model) bool {
				clusterTrains, _ := onCluster(in, o)
				return imageName(o) == name && o.OnKubernetes() && clusterTrains
			})
			images[name] = graph.Add(g, imageNode(m), func(ctx context.Context) (model.Image, error) {
				return trainingImage(ctx, in, m, published)
			}, graph.When(missing == "", missing), graph.Doc("get the image that models are trained in"), graph.Retry(3, time.Second))
		}
	}
	for _, m := range models {
		t.Models[m.Name] = addModel(g, in, m, images[imageName(m)], t.Validate)
	}
	t.Notify = Notify(g, in)
	return t
}

// addModel adds the nodes of one model.
func addModel(g *graph.Graph, in Inputs, m project.Model, img *graph.Node[model.Image], data *graph.Node[model.Data]) ModelNodes {
	c := in.Client
	registry := model.Registry{Store: in.Training.Store}
	var n ModelNodes
	points := model.Points(m)
	var all []graph.Handle
	trains, why := onCluster(in, m)
	if m.OnKubernetes() && len(points) > 1 {
		name := "jobs-" + m.Name
		job := trainingJob(in, m, points, name)
		n.Jobs = graph.Add(g, name, func(ctx context.Context) (model.Grid, error) {
			return job.Run(ctx, c, img.Value(), data.Value())
		}, graph.Needs(img, data), graph.When(trains, why), graph.Doc(fmt.Sprintf("train %s in %d pods", m.Name, len(points))),
			graph.Retry(3, 10*time.Second), graph.Timeout(jobTimeout(m, len(points))))
	}
	for i, point := range points {
		name, doc := trainNode(m, points, i), "train "+m.Name
		if len(points) > 1 {
			doc += " with " + parameters(point)
		}
		var node *graph.Node[model.Trained]
		switch {
		case n.Jobs != nil:
			node = graph.Add(g, name, func(context.Context) (model.Trained, error) { return n.Jobs.Value().Trained[i], nil }, graph.Needs(n.Jobs), graph.Doc(doc))
		case m.OnKubernetes():
			job := trainingJob(in, m, points, name)
			node = graph.Add(g, name, func(ctx context.Context) (model.Trained, error) {
				grid, err := job.Run(ctx, c, img.Value(), data.Value())
				if err != nil {
					return model.Trained{}, err
				}
				return grid.Trained[0], nil
			}, graph.Needs(img, data), graph.When(trains, why), graph.Doc(doc+" in a pod"), graph.Retry(3, 10*time.Second), graph.Timeout(jobTimeout(m, 1)))
		default:
			node = graph.Add(g, name, func(ctx context.Context) (model.Trained, error) {
				return model.Train{Model: m, Parameters: point}.Run(ctx, c, img.Value(), data.Value())
			}, graph.Needs(img, data), graph.Doc(doc), graph.Retry(3, time.Second), graph.Timeout(m.Timeout+10*time.Minute))
		}
		n.Train, all = append(n.Train, node), append(all, node)
	}
	n.Evaluate = graph.Add(g, "evaluate-"+m.Name, func(ctx context.Context) (model.Evaluated, error) {
		results := make([]model.Trained, 0, len(n.Train))
		for _, node := range n.Train {
			results = append(results, node.Value())
		}
		return model.Evaluate{Model: m, Registry: registry, Commit: in.Ref.SHA}.Run(ctx, c, results)
	}, graph.Needs(all...), graph.Doc("measure it on rows that it has not seen"), graph.Retry(3, time.Second))
	n.Gate = graph.Add(g, "gate-"+m.Name, func(context.Context) (step.Result, error) {
		return n.Evaluate.Value().Judge(m.Name), nil
	}, graph.Needs(n.Evaluate), graph.Doc(fmt.Sprintf("hold it against %s and the champion", count(len(m.Gates), "gate"))))
	can, why := registering(in)
	n.Register = graph.Add(g, "register-"+m.Name, func(ctx context.Context) (model.Registered, error) {
		return model.Register{Registry: registry, Model: m, Commit: in.Ref.SHA, Now: in.Now}.Run(ctx, c, n.Evaluate.Value())
	}, graph.Needs(n.Evaluate), graph.After(n.Gate), graph.When(can, why),
		graph.Doc("keep it, and make it champion"), graph.Retry(3, 2*time.Second), graph.Timeout(30*time.Minute))
	if in.Training.MLflow.URL != "" {
		n.MLflow = graph.Add(g, "mlflow-"+m.Name, func(ctx context.Context) (step.Result, error) {
			return model.Announce{MLflow: in.Training.MLflow, Registry: registry, Model: m.Name}.Run(ctx, c, n.Register.Value().Version)
		}, graph.Needs(n.Register), graph.Doc("register it in MLflow too"), graph.Retry(3, 2*time.Second), graph.Timeout(30*time.Minute))
	}
	return n
}

// trainingJob is the step that trains the points of a model on its cluster.
func trainingJob(in Inputs, m project.Model, points []map[string]string, node string) model.Job {
	carrier, _ := in.Training.Store.(model.Carrier) // CheckTraining has seen to it
	return model.Job{Model: m, Points: points, Cluster: in.Training.Clusters[m.Kubernetes.Variable()], Store: carrier, Progress: progress(in, node)}
}

// jobTimeout leaves time to bring the data there, and the outputs back.
func jobTimeout(m project.Model, points int) time.Duration {
	return kube.Job{Where: *m.Kubernetes, Count: points, Timeout: m.Timeout}.Deadline() + 20*time.Minute
}

// onCluster says whether a run has a cluster train what is to be trained there, and why not.
func onCluster(in Inputs, m project.Model) (bool, string) {
	switch {
	case !m.OnKubernetes():
		return true, ""
	case in.Ref.Fork:
		return false, "a fork gets no kubeconfig: " + m.Name + " is trained on a cluster"
	case in.Ref.IsPullRequest():
		return false, "a pull request gets no kubeconfig: " + m.Name + " is trained on a cluster"
	}
	return true, ""
}

// OneCluster has a cluster train all models that are trained on one, for [TrainingInputs.Clusters]. Models that are trained on
// different ones are an error.
func OneCluster(in Inputs, cluster kube.Cluster) (map[string]kube.Cluster, error) {
	clusters := map[string]kube.Cluster{}
	var first project.Model
	for _, m := range trained(in) {
		if trains, _ := onCluster(in, m); !m.OnKubernetes() || !trains {
			continue
		}
		if len(clusters) == 0 {
			first = m
		}
		clusters[m.Kubernetes.Variable()] = cluster
		if len(clusters) > 1 {
			return nil, fmt.Errorf("%s is trained on the cluster of %s and %s on that of %s, and one kubeconfig is given",
				first.Name, first.Kubernetes.Variable(), m.Name, m.Kubernetes.Variable())
		}
	}
	return clusters, nil
}

// CheckTraining reports what is missing for models that are trained on a cluster.
func CheckTraining(in Inputs) error {
	for _, m := range trained(in) {
		if trains, _ := onCluster(in, m); !m.OnKubernetes() || !trains {
			continue
		}
		if _, given := in.Training.Clusters[m.Kubernetes.Variable()]; !given {
			return fmt.Errorf("%s is trained on a cluster, and there is no kubeconfig for it: set %[2]s, or with dagger call give --kubeconfig=env:%[2]s", m.Name, m.Kubernetes.Variable())
		}
		if _, carries := in.Training.Store.(model.Carrier); !carries {
			return fmt.Errorf("%s is trained on a cluster, and its data goes there through a bucket: name one with --store, or in millrace.yaml under artifacts, as s3://, gs:// or az://", m.Name)
		}
		if in.Registry.Address == "" {
			return noRegistry(m)
		}
	}
	return nil
}

func noRegistry(m project.Model) error {
	return fmt.Errorf("%s is trained on a cluster, and its image goes there through a registry: name one with --registry, or in millrace.yaml under publish", m.Name)
}

// registering says whether models are registered, and why not.
func registering(in Inputs) (bool, string) {
	switch {
	case in.Training.Store == nil:
		return false, "no store given: name one with --store, or in millrace.yaml under artifacts"
	case in.Ref.IsPullRequest():
		return false, "a pull request makes no champion"
	}
	return true, ""
}

// trained returns the models that were asked for.
func trained(in Inputs) []project.Model {
	if len(in.Training.Models) == 0 {
		return in.Project.Models
	}
	return slices.DeleteFunc(slices.Clone(in.Project.Models), func(m project.Model) bool { return !slices.Contains(in.Training.Models, m.Name) })
}

// CheckModels reports a name that no model has.
func CheckModels(p *project.Project, names []string) error {
	all := make([]string, 0, len(p.Models))
	for _, m := range p.Models {
		all = append(all, m.Name)
	}
	for _, name := range names {
		if slices.Contains(all, name) {
			continue
		}
		if len(all) == 0 {
			return errors.New("there are no models: describe them in millrace.yaml under models")
		}
		return fmt.Errorf("there is no model %q: there are %s", name, strings.Join(all, ", "))
	}
	return nil
}

// tablesOf returns the tables that the models read, in the order of the configuration.
func tablesOf(p *project.Project, models []project.Model) []project.Table {
	return slices.DeleteFunc(slices.Clone(p.Data), func(t project.Table) bool {
		return !slices.ContainsFunc(models, func(m project.Model) bool { return slices.Contains(m.Inputs, t.Name) })
	})
}

// trainNode is the node that trains a model with one of the grid's points.
func trainNode(m project.Model, points []map[string]string, i int) string {
	if len(points) == 1 {
		return "train-" + m.Name
	}
	return fmt.Sprintf("train-%s-%d", m.Name, i+1)
}

func parameters(point map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(point)) {
		words = append(words, name+"="+point[name])
	}
	return strings.Join(words, ", ")
}

// imageNode is the node that gets the image that a model is trained in.
func imageNode(m project.Model) string { return "image-" + imageName(m) }

// imageName is what the node of a model's image is called by.
func imageName(m project.Model) string {
	if m.Dockerfile != "" {
		return strings.ReplaceAll(m.Dockerfile, "/", "-")
	}
	name, _, _ := strings.Cut(m.Image[strings.LastIndex(m.Image, "/")+1:], "@")
	return strings.ReplaceAll(name, ":", "-")
}

// TrainingImage builds or pulls what the model of that name is trained in.
func TrainingImage(ctx context.Context, in Inputs, name string) (model.Image, project.Model, error) {
	if err := CheckModels(in.Project, []string{name}); err != nil {
		return model.Image{}, project.Model{}, err
	}
	m := in.Project.Models[slices.IndexFunc(in.Project.Models, func(m project.Model) bool { return m.Name == name })]
	img, err := trainingImage(ctx, in, m, false)
	return img, m, err
}

// trainingImage builds or pulls what a model is trained in. Where a cluster is to pull it, what was built is published.
func trainingImage(ctx context.Context, in Inputs, m project.Model, published bool) (model.Image, error) {
	spec, own := image.Spec{Name: "training", Dockerfile: m.Dockerfile}, m.Dockerfile != ""
	for _, s := range Images(in.Project) {
		if s.Name == m.Image || own && s.Dockerfile == m.Dockerfile {
			spec, own = s, true
		}
	}
	switch {
	case !own:
		return pulledImage(ctx, in.Client, m.Image)
	case published && in.Registry.Address == "":
		return model.Image{}, noRegistry(m)
	}
	built, err := image.Build{Images: []image.Spec{spec}}.Run(ctx, in.Client, in.Source)
	out := model.Image{Result: built.Result}
	if err != nil || built.Verdict != graph.Passed {
		return out, err
	}
	out.Container = built.Images[0].Container
	if out.Digest, err = model.Content(ctx, in.Client, out.Container); err != nil {
		return out, fmt.Errorf("name the content of the image %s: %w", spec.Name, err)
	}
	if !published {
		return out, nil
	}
	_, digits, _ := strings.Cut(out.Digest, ":")
	done, err := image.Publish{
		Registry: in.Registry.Address, Username: in.Registry.Username, Password: in.Registry.Password,
		// Not the branch's tag: what is trained need not be what the branch has.
		Tags: []string{"training-" + digits[:min(16, len(digits))]},
	}.Run(ctx, in.Client, built.Images)
	if err != nil || done.Verdict != graph.Passed {
		out.Verdict, out.Reason = done.Verdict, done.Reason
		return out, err
	}
	out.Reference, out.Artifacts = done.Images[spec.Name].Reference, done.Artifacts
	return out, nil
}

func pulledImage(ctx context.Context, c *dagger.Client, reference string) (model.Image, error) {
	ctr := c.Container().From(reference)
	pinned, err := ctr.ImageRef(ctx)
	if err != nil {
		return model.Image{}, fmt.Errorf("pull %s: %w", reference, step.Explain(err))
	}
	_, digest, _ := strings.Cut(pinned, "@")
	return model.Image{Result: step.Result{Verdict: graph.Passed}, Container: ctr, Digest: digest, Reference: pinned}, nil
}
