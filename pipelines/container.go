package pipelines

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/python"
	"github.com/millrace-ci/millrace/pipelines/spelling"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Workplace names a container that a node of the ci-cd or the training graph works in.
type Workplace struct {
	// Node is lint, test, security or build, or one that trains, such as train-MODEL.
	Node string
	// Language is [Python] or [Go]; empty means the one that the project holds, and Python when it holds both.
	Language string
	// Image is the image, for the node build; empty means the only one that there is.
	Image string
	// Before is a line of that image's Dockerfile: the image is built up to the instruction that stands there, without it.
	// 0 means all of it.
	Before int
}

// workplaces are the nodes of the ci-cd graph that have one.
var workplaces = []string{"lint", "test", "security", "build"}

// Check says why the graphs of a project have no such workplace; whether its container can be made only shows when it is.
func (at Workplace) Check(p *project.Project) error {
	training, trains := at.training(p)
	switch {
	case trains && training.Model.OnKubernetes():
		return fmt.Errorf("%s trains in a pod of your cluster: what it printed is in the run's output", at.Node)
	case trains && (at.Language != "" || at.Image != "" || at.Before != 0):
		return fmt.Errorf("the node %s has one container only, and no language, image or line tells it from others", at.Node)
	case trains:
		return nil
	case at.Node == "publish":
		return errors.New("publish runs in no container: the engine itself sends the images; for the inside of one, use build with the image's name")
	case at.Node == "coverage":
		return errors.New("coverage runs in no container of its own: it hands what test measured to Codecov; for the inside of that, use test")
	case !slices.Contains(workplaces, at.Node):
		known := workplaces
		if len(p.Models) > 0 {
			known = append(slices.Clone(workplaces), "train-MODEL")
		}
		hint := "use " + or(known)
		all := slices.Concat([]string{"publish", "coverage"}, workplaces)
		for _, m := range p.Models {
			points := model.Points(m)
			for i := range points {
				all = append(all, trainNode(m, points, i))
			}
		}
		if near := spelling.Nearest(at.Node, all); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return fmt.Errorf("no node %q has a container: %s", at.Node, hint)
	case at.Node == "build":
		_, err := at.image(p)
		return err
	case at.Image != "":
		return fmt.Errorf("the node %s has no images: an image is for build", at.Node)
	case at.Before != 0:
		return fmt.Errorf("the node %s has no Dockerfile: a line of one is for build", at.Node)
	}
	found := map[string]bool{Python: p.Python.Found(), Go: p.Go.Found()}
	language := at.language(p)
	switch {
	case language == Go && at.Node == "security":
		return errors.New("security scans no Go code yet, only Python")
	case !found[Python] && !found[Go]:
		return errors.New("the source has no Python and no Go code")
	case !found[language]:
		return fmt.Errorf("the source has no code of the language %s", language)
	}
	return nil
}

// Trains reports whether the node is one that trains a model of the project.
func (at Workplace) Trains(p *project.Project) bool {
	_, trains := at.training(p)
	return trains
}

// training returns what the node trains, if it is one that does.
func (at Workplace) training(p *project.Project) (model.Train, bool) {
	for _, m := range p.Models {
		points := model.Points(m)
		for i, point := range points {
			if trainNode(m, points, i) == at.Node {
				return model.Train{Model: m, Parameters: point}, true
			}
		}
	}
	return model.Train{}, false
}

func (at Workplace) language(p *project.Project) string {
	switch {
	case at.Language != "":
		return at.Language
	case p.Go.Found() && !p.Python.Found():
		return Go
	default:
		return Python
	}
}

// image returns the spec of the image that is meant.
func (at Workplace) image(p *project.Project) (image.Spec, error) {
	all := Images(p)
	names := make([]string, len(all))
	for i, spec := range all {
		names[i] = spec.Name
	}
	i := slices.Index(names, at.Image)
	switch {
	case len(all) == 0:
		return image.Spec{}, errors.New("the source has no Dockerfile")
	case at.Image == "" && len(all) == 1:
		return all[0], nil
	case at.Image == "":
		return image.Spec{}, fmt.Errorf("the source has several images: name one of them, %s", or(names))
	case i < 0:
		if near := spelling.Nearest(at.Image, names); near != "" {
			return image.Spec{}, fmt.Errorf("the source has no image %q: did you mean %q?", at.Image, near)
		}
		return image.Spec{}, fmt.Errorf("the source has no image %q: use %s", at.Image, or(names))
	}
	return all[i], nil
}

// Inside is a container that a node works in.
type Inside struct {
	*dagger.Container
	// What names it for a person: "the container of test", "the image api".
	What string
	// Command is what the node runs there, where that is one command.
	Command []string
}

// Container returns the container that a node works in, with the source, dependencies, tools and caches that it has there;
// for build, the image; for a training, that and the tables, which [TrainingInputs.Data] has.
func Container(ctx context.Context, in Inputs, at Workplace) (Inside, error) {
	p, c, src := in.Project, in.Client, in.Source
	if err := at.Check(p); err != nil {
		return Inside{}, err
	}
	if training, trains := at.training(p); trains {
		return trainingPlace(ctx, in, at, training)
	}
	inside := Inside{What: "the container of " + at.Node}
	if p.Python.Found() && p.Go.Found() {
		inside.What += " for " + at.language(p)
	}
	var err error
	switch at.Node + " " + at.language(p) {
	case "lint python":
		inside.Container, err = Lint{Project: p}.python().Container(ctx, c, src)
	case "lint go":
		inside.Container, err = Lint{Project: p}.golang().Container(ctx, c, src)
	case "test python":
		inside.Container, err = Test{Project: p}.python().Container(ctx, c, src)
	case "test go":
		inside.Container, err = Test{Project: p}.golang().Container(ctx, c, src)
	case "security python":
		var scan python.Security
		if scan, err = (Security{Project: p, SafetyKey: in.SafetyKey, Now: in.Now}).python(); err == nil {
			inside.Container, err = scan.Container(ctx, c, src)
		}
	default:
		return builtImage(ctx, in, at)
	}
	return inside, err
}

func builtImage(ctx context.Context, in Inputs, at Workplace) (Inside, error) {
	spec, err := at.image(in.Project)
	if err != nil {
		return Inside{}, err
	}
	if at.Before != 0 {
		ctr, err := spec.Before(ctx, in.Client, in.Source, at.Before)
		return Inside{Container: ctr, What: fmt.Sprintf("the image %s before line %d of its Dockerfile", spec.Name, at.Before)}, err
	}
	built, err := image.Build{Images: []image.Spec{spec}}.Run(ctx, in.Client, in.Source)
	switch {
	case err != nil:
		return Inside{}, step.Explain(err)
	case len(built.Stopped) > 0:
		return Inside{}, fmt.Errorf("%s; to look at what that instruction finds, add --before %d", built.Reason, built.Stopped[0].Line)
	case built.Verdict != graph.Passed:
		return Inside{}, errors.New(built.Reason)
	}
	return Inside{Container: built.Images[0].Container, What: "the image " + spec.Name}, nil
}

// trainingPlace returns the container of a training, and the command that trains there.
func trainingPlace(ctx context.Context, in Inputs, at Workplace, t model.Train) (Inside, error) {
	m := t.Model
	if in.Training.Data == nil {
		return Inside{}, fmt.Errorf("%s needs tables: say where they are with --data", at.Node)
	}
	data, err := model.Download{Tables: tablesOf(in.Project, []project.Model{m}), Source: in.Training.Data}.Run(ctx, in.Client)
	if err != nil {
		return Inside{}, err
	}
	img, err := trainingImage(ctx, in, m, false)
	if err != nil {
		return Inside{}, err
	}
	for _, made := range []step.Result{data.Result, img.Result} {
		if made.Verdict != graph.Passed {
			return Inside{}, errors.New(made.Reason)
		}
	}
	ctr, err := t.Container(ctx, in.Client, img, data)
	return Inside{Container: ctr, What: "the container of " + at.Node, Command: t.Argv(data)}, err
}

// FailedAt returns where the node worked that kept a run from passing, the first of them to end; of a node that works for
// several languages or images, the one that failed. The workplace may be one that has no container: see [Workplace.Check].
// It reports false when no node did.
func FailedAt(result *graph.Result, p *project.Project) (Workplace, bool) {
	causes := result.Cause()
	for _, n := range result.Nodes {
		if n.Verdict == graph.Inconclusive {
			causes = append(causes, n)
		}
	}
	if len(causes) == 0 || result.Err != nil {
		return Workplace{}, false
	}
	at := Workplace{Node: causes[0].Name}
	if built, ok := causes[0].Value.(image.BuildResult); ok {
		for _, spec := range Images(p) {
			if !slices.ContainsFunc(built.Images, func(b image.Built) bool { return b.Name == spec.Name }) {
				at.Image = spec.Name
				break
			}
		}
		for _, stopped := range built.Stopped {
			if stopped.Name == at.Image {
				at.Before = stopped.Line
			}
		}
	}
	if held, ok := causes[0].Value.(interface{ Of() step.Result }); ok && p.Python.Found() && p.Go.Found() {
		for _, language := range []string{Python, Go} {
			if verdict, ran := held.Of().Parts[language]; ran && verdict == causes[0].Verdict {
				at.Language = language
				break
			}
		}
	}
	return at, true
}
