package pipelines_test

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

func detected(t *testing.T, files ...string) *project.Project {
	t.Helper()
	tree := fstest.MapFS{"README.md": {}}
	for _, name := range files {
		tree[name] = &fstest.MapFile{Data: []byte(map[string]string{
			"a.py": "\n", "go.mod": "module a\n", "main.go": "package main\n",
		}[name])}
		if len(tree[name].Data) == 0 {
			tree[name].Data = []byte("FROM scratch\n")
		}
	}
	p, err := project.Detect(project.FS(tree), nil)
	require.NoError(t, err)
	return p
}

func TestWorkplaces(t *testing.T) {
	t.Parallel()
	both := []string{"a.py", "go.mod", "main.go", "api.Dockerfile", "batch.Dockerfile"}
	for name, test := range map[string]struct {
		files []string
		at    pipelines.Workplace
		want  string
	}{
		"python":            {[]string{"a.py"}, pipelines.Workplace{Node: "test"}, ""},
		"go":                {[]string{"go.mod", "main.go"}, pipelines.Workplace{Node: "lint"}, ""},
		"one of two":        {both, pipelines.Workplace{Node: "lint", Language: pipelines.Go}, ""},
		"the only image":    {[]string{"api.Dockerfile"}, pipelines.Workplace{Node: "build"}, ""},
		"an image":          {both, pipelines.Workplace{Node: "build", Image: "batch"}, ""},
		"no such node":      {both, pipelines.Workplace{Node: "biuld"}, `no node "biuld" has a container: did you mean "build"?`},
		"nothing like it":   {both, pipelines.Workplace{Node: "xyz"}, `no node "xyz" has a container: use lint, test, security or build`},
		"publish":           {both, pipelines.Workplace{Node: "publish"}, "publish runs in no container"},
		"coverage":          {both, pipelines.Workplace{Node: "coverage"}, "coverage runs in no container"},
		"which image":       {both, pipelines.Workplace{Node: "build"}, "name one of them, api or batch"},
		"no such image":     {both, pipelines.Workplace{Node: "build", Image: "bacth"}, `did you mean "batch"?`},
		"no image like it":  {both, pipelines.Workplace{Node: "build", Image: "xyzzy"}, "use api or batch"},
		"no image":          {[]string{"a.py"}, pipelines.Workplace{Node: "build"}, "no Dockerfile"},
		"an image for test": {both, pipelines.Workplace{Node: "test", Image: "api"}, "test has no images"},
		"a line for test":   {both, pipelines.Workplace{Node: "test", Before: 3}, "test has no Dockerfile"},
		"another language":  {[]string{"a.py"}, pipelines.Workplace{Node: "test", Language: pipelines.Go}, "no code of the language go"},
		"no code":           {[]string{"api.Dockerfile"}, pipelines.Workplace{Node: "lint"}, "no Python and no Go code"},
		"security of go":    {[]string{"go.mod", "main.go"}, pipelines.Workplace{Node: "security"}, "security scans no Go code"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.at.Check(detected(t, test.files...))
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
		})
	}
}

func TestWorkplacesOfTrainings(t *testing.T) {
	t.Parallel()
	p := &project.Project{Models: []project.Model{
		{Name: "churn"},
		{Name: "clv", Grid: map[string][]string{"depth": {"2", "4"}}},
		{Name: "large", Runner: "kubernetes"},
	}}
	for _, test := range []struct {
		at   pipelines.Workplace
		want string
	}{
		{pipelines.Workplace{Node: "train-churn"}, ""},
		{pipelines.Workplace{Node: "train-clv-2"}, ""},
		{pipelines.Workplace{Node: "train-clv-3"}, `did you mean "train-clv-1"?`},
		{pipelines.Workplace{Node: "train-clv"}, `no node "train-clv" has a container: did you mean "train-clv-1"?`},
		{pipelines.Workplace{Node: "train-large"}, "train-large trains in a pod of your cluster"},
		{pipelines.Workplace{Node: "train-churn", Before: 3}, "no language, image or line"},
		{pipelines.Workplace{Node: "xyz"}, "use lint, test, security, build or train-MODEL"},
	} {
		err := test.at.Check(p)
		if test.want == "" {
			require.NoError(t, err)
			require.True(t, test.at.Trains(p))
		} else {
			require.ErrorContains(t, err, test.want)
		}
	}
}

// failing is a graph of which some nodes end badly.
func failing(ends map[string]func(context.Context) (any, error), order ...string) *graph.Result {
	g := graph.New("ci-cd")
	var before []graph.Handle
	for _, name := range order {
		before = append(before, graph.Add(g, name, ends[name], graph.After(before...), graph.Always()))
	}
	return g.Run(context.Background())
}

func TestFailedAt(t *testing.T) {
	t.Parallel()
	ends := func(value any, err error) func(context.Context) (any, error) {
		return func(context.Context) (any, error) { return value, err }
	}
	failed := step.Result{Verdict: graph.Failed, Reason: "it is wrong"}
	inGo := failed
	inGo.Parts = map[string]graph.Verdict{pipelines.Python: graph.Passed, pipelines.Go: graph.Failed}
	built := image.BuildResult{Result: failed, Images: []image.Built{{Name: "api"}}}
	stopped := built
	stopped.Stopped = []image.Stopped{{Name: "batch", Line: 7}}
	both := detected(t, "a.py", "go.mod", "main.go", "api.Dockerfile", "batch.Dockerfile")
	for name, test := range map[string]struct {
		first, second func(context.Context) (any, error)
		project       *project.Project
		want          pipelines.Workplace
		none          bool
	}{
		"the first":               {first: ends(failed, nil), second: ends(failed, nil), project: both, want: pipelines.Workplace{Node: "first"}},
		"the only":                {first: ends(nil, nil), second: ends(failed, nil), project: both, want: pipelines.Workplace{Node: "second"}},
		"an error":                {first: ends(nil, errors.New("broke")), second: ends(nil, nil), project: both, want: pipelines.Workplace{Node: "first"}},
		"inconclusive comes last": {first: ends(step.Result{Verdict: graph.Inconclusive}, nil), second: ends(failed, nil), project: both, want: pipelines.Workplace{Node: "second"}},
		"inconclusive":            {first: ends(step.Result{Verdict: graph.Inconclusive}, nil), second: ends(nil, nil), project: both, want: pipelines.Workplace{Node: "first"}},
		"the language":            {first: ends(inGo, nil), second: ends(nil, nil), project: both, want: pipelines.Workplace{Node: "first", Language: pipelines.Go}},
		"the only language":       {first: ends(inGo, nil), second: ends(nil, nil), project: detected(t, "go.mod", "main.go"), want: pipelines.Workplace{Node: "first"}},
		"the image":               {first: ends(built, nil), second: ends(nil, nil), project: both, want: pipelines.Workplace{Node: "first", Image: "batch"}},
		"and its line":            {first: ends(stopped, nil), second: ends(nil, nil), project: both, want: pipelines.Workplace{Node: "first", Image: "batch", Before: 7}},
		"nothing":                 {first: ends(nil, nil), second: ends(step.Skip("no need"), nil), project: both, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := failing(map[string]func(context.Context) (any, error){"first": test.first, "second": test.second}, "first", "second")
			at, found := pipelines.FailedAt(result, test.project)
			require.Equal(t, !test.none, found)
			require.Equal(t, test.want, at)
		})
	}
}
