package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// likeCICD is a graph of the shape of ci-cd in which nothing happens.
func likeCICD(publishes bool) *graph.Graph {
	g := graph.New("ci-cd")
	nothing := func(context.Context) (int, error) { return 0, nil }
	lint := graph.Add(g, "lint", nothing)
	test := graph.Add(g, "test", nothing, graph.After(lint))
	security := graph.Add(g, "security", nothing, graph.After(lint))
	build := graph.Add(g, "build", nothing, graph.After(lint))
	graph.Add(g, "coverage", nothing, graph.Needs(test), graph.When(false, "no Codecov token"))
	graph.Add(g, "publish", nothing, graph.Needs(build), graph.After(test, security), graph.When(publishes, "only a push publishes"))
	return g
}

// The letters of a record, a node each in the order of likeCICD.
var letters = map[rune]report.Node{
	'p': {Verdict: graph.Passed},
	'f': {Verdict: graph.Failed},
	'e': {Verdict: graph.Errored},
	'i': {Verdict: graph.Inconclusive},
	'c': {Verdict: graph.Cancelled},
	's': {Verdict: graph.Skipped, Reason: "test failed"},
	'n': {Verdict: graph.Skipped, Reason: graph.NotSelected},
	'r': {Verdict: graph.Skipped, Reason: graph.OnRequest},
	'd': {Verdict: graph.Skipped, Reason: "needs build, which was skipped on request"},
	'u': {Verdict: graph.Skipped, Reason: "no Codecov token"},
	'b': {Verdict: graph.Skipped, Reason: passedBefore},
	'o': {Verdict: graph.Skipped, Reason: passedOnOld},
}

func recorded(verdicts string) report.Run {
	run := report.Run{Schema: report.RunSchema, Graph: "ci-cd", Verdict: graph.Failed, Started: time.Now()}
	for i, letter := range verdicts {
		n := letters[letter]
		n.Name = []string{"lint", "test", "security", "build", "coverage", "publish"}[i]
		run.Nodes = append(run.Nodes, n)
	}
	return run
}

// order is that of the letters: lint, test, security, build, coverage, publish.
func TestFromFailed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		last      string
		changed   bool
		publishes bool
		want      []string // what runs
	}{
		"lint failed, all follows":                        {last: "fsssss", publishes: true, want: []string{"lint", "test", "security", "build", "publish"}},
		"tests failed, others were cancelled":             {last: "pfccus", publishes: true, want: []string{"test", "security", "build", "publish"}},
		"tests failed, the others went on":                {last: "pfppus", publishes: true, want: []string{"test", "build", "publish"}},
		"the same, and nothing is published":              {last: "pfppuu", want: []string{"test"}},
		"the same, and the tests were changed":            {last: "pfppuu", changed: true, want: []string{"lint", "test"}},
		"publish errored: what it needs is made again":    {last: "ppppue", publishes: true, want: []string{"build", "publish"}},
		"the same, on another source: nothing untested":   {last: "ppppue", changed: true, publishes: true, want: []string{"lint", "test", "security", "build", "publish"}},
		"inconclusive counts":                             {last: "ppippu", want: []string{"security"}},
		"interrupted":                                     {last: "pccccc", publishes: true, want: []string{"test", "security", "build", "publish"}},
		"skipped on request stays out":                    {last: "pfprud", publishes: true, want: []string{"test"}},
		"so it does on another source":                    {last: "pfprud", changed: true, publishes: true, want: []string{"lint", "test"}},
		"a single step stays one":                         {last: "nfnnnn", publishes: true, want: []string{"test"}},
		"so it does on another source, too":               {last: "nfnnnn", changed: true, publishes: true, want: []string{"test"}},
		"publish alone, by its own name":                  {last: "nnnpne", changed: true, publishes: true, want: []string{"build", "publish"}},
		"taken up twice":                                  {last: "bfbpus", publishes: true, want: []string{"test", "build", "publish"}},
		"twice, and the source changed the second time":   {last: "bbbpue", changed: true, publishes: true, want: []string{"lint", "test", "security", "build", "publish"}},
		"twice, and the source changed the first time":    {last: "pfoouu", publishes: true, want: []string{"test", "security", "build", "publish"}},
		"what the change does not come before stays left": {last: "pfoouu", want: []string{"test"}},
		"a node that the record does not know is new":     {last: "pfppu", publishes: true, want: []string{"test", "build", "publish"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := likeCICD(test.publishes)
			l := &lastRun{record: recorded(test.last)}
			require.NoError(t, l.fits(g.Plan()))
			options, err := l.takeUp(g, !test.changed, nil)
			require.NoError(t, err)
			require.NoError(t, g.Check(options...))
			var runs []string
			for _, n := range g.Run(t.Context(), options...).Nodes {
				if n.Verdict == graph.Passed {
					runs = append(runs, n.Name)
				} else {
					require.NotEmpty(t, n.Reason, n.Name)
				}
			}
			require.Equal(t, test.want, runs)
		})
	}
}

func TestFromFailedSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	other := recorded("pfppus")
	other.Graph = "training"
	renamed := recorded("pfppus")
	renamed.Nodes[0].Name = "check"
	broken := recorded("ppppup")
	broken.Error = "an observer panicked"
	for name, test := range map[string]struct {
		last report.Run
		want string
	}{
		"another graph":   {other, "record of a run of training, and this is ci-cd"},
		"another version": {renamed, "another version of ci-cd, with a node check"},
		"all passed":      {recorded("ppppup"), "nothing failed in the last run"},
		"only skipped":    {recorded("nbnnuu"), "nothing failed in the last run"},
		"the run itself":  {broken, "but the run itself: an observer panicked"},
	} {
		err := (&lastRun{record: test.last}).fits(likeCICD(true).Plan())
		require.ErrorContains(t, err, test.want, name)
		require.ErrorAs(t, err, new(usageError), name)
	}
	_, err := (&lastRun{record: recorded("ppppue")}).takeUp(likeCICD(false), true, nil)
	require.ErrorContains(t, err, "can run now: publish: only a push publishes")
	require.ErrorAs(t, err, new(usageError))
}

func TestFromFailedWithoutAUsableRecord(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	out := t.TempDir()
	passed := recorded("ppppup")
	for name, test := range map[string]struct {
		content string
		args    []string
		want    []string
	}{
		"none in the folder":   {"", []string{"--out", out}, []string{"no record of a run in " + out, "ci-cd --out " + out}},
		"none on this source":  {"", nil, []string{"no record of a run on " + example, "ci-cd --source " + example}},
		"not a record":         {"{}", []string{"--out", out}, []string{"run.json", "its schema"}},
		"cut off":              {`{"schema"`, []string{"--out", out}, []string{"run.json", "ends in the middle"}},
		"all passed":           {string(must(json.Marshal(passed))), []string{"--out", out}, []string{"nothing failed in the last run"}},
		"nodes beside it":      {"", []string{"lint"}, []string{"leave out lint"}},
		"neither nodes nor it": {"", []string{"--no-from-failed"}, []string{"unknown flag"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.RemoveAll(filepath.Join(out, "run.json")))
			if test.content != "" {
				require.NoError(t, os.WriteFile(filepath.Join(out, "run.json"), []byte(test.content), 0o644))
			}
			status, stdout, stderr := call(append([]string{"run", "--from-failed", "--source", example}, test.args...)...)
			require.Equal(t, exitUsage, status, stderr)
			require.Empty(t, stdout)
			for _, want := range test.want {
				require.Contains(t, stderr, want)
			}
		})
	}
}

// A plan of what would run needs no engine: it takes the source for the same.
func TestFromFailedAsAPlan(t *testing.T) {
	out := t.TempDir()
	last := recorded("pfppuu")
	last.Ref = report.Ref{Event: "push", Branch: "main", SHA: "0123456789abcdef0123456789abcdef01234567"}
	data := must(json.Marshal(last))
	require.NoError(t, os.WriteFile(filepath.Join(out, "run.json"), data, 0o644))
	again := []string{"run", "--from-failed", "--dry-run", "--engine", "embedded", "--source", example, "--out", out}
	status, stdout, stderr := call(append(again, "--event", "push", "--ref", "main")...)
	require.Zero(t, status, stderr)
	require.Contains(t, stdout, passedBefore)
	require.Contains(t, stderr, "if the source has changed")
	require.NotContains(t, stderr, "the last run was for")
	status, _, stderr = call(append(again, "--event", "manual")...)
	require.Zero(t, status, stderr)
	require.Contains(t, stderr, `the last run was for "push to main", and this one is for "manual run`)
}

// On a laptop nothing but the record knows what the last run was for; what is typed, and what a CI host says, goes before.
func TestFromFailedIsForWhatTheLastRunWas(t *testing.T) {
	for _, variable := range []string{"GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "BITBUCKET_BUILD_NUMBER", "TF_BUILD", "CI", "CI_SYSTEM_NAME", "JENKINS_URL", "JENKINS_HOME"} {
		t.Setenv(variable, "")
	}
	const held = "only a push to main or develop, or a tag, publishes"
	for name, test := range map[string]struct {
		ref     report.Ref
		args    []string
		env     map[string]string
		publish string // why publish does not run; empty if it does
		note    string
	}{
		"a push": {
			ref:  report.Ref{Event: "push", Branch: "main", SHA: "0123456789abcdef0123456789abcdef01234567", Author: "Ada"},
			note: `this run is for "push to main", as the last one was: --event and --ref set it otherwise`,
		},
		"a tag":          {ref: report.Ref{Event: "tag", Tag: "v1.2.3"}, note: `this run is for "tag v1.2.3"`},
		"a pull request": {ref: report.Ref{Event: "pull_request", PullRequest: 12}, publish: "pull requests build and don't publish", note: `this run is for "pull request 12"`},
		"by hand":        {ref: report.Ref{Event: "manual", Branch: "main"}, publish: held, note: `this run is for "manual run on main"`},
		"another event":  {ref: report.Ref{Event: "push", Branch: "main"}, args: []string{"--event", "manual", "--ref", "main"}, publish: held, note: `the last run was for "push to main", and this one is for "manual run on main"`},
		"another ref":    {ref: report.Ref{Event: "push", Branch: "main"}, args: []string{"--ref", "develop"}, publish: held, note: `the last run was for "push to main", and this one is for "manual run on develop"`},
		"a CI host": {
			ref: report.Ref{Event: "push", Branch: "main"}, publish: held, note: `the last run was for "push to main", and this one is for "push to feature"`,
			env: map[string]string{"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "feature", "CI_COMMIT_REF_NAME": "feature", "CI_PIPELINE_SOURCE": "push"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.env {
				t.Setenv(variable, value)
			}
			out := t.TempDir()
			last := recorded("ppppue")
			last.Ref = test.ref
			last.Nodes[3].Verdict = graph.Failed // so that there is something to run, whatever becomes of publish
			require.NoError(t, os.WriteFile(filepath.Join(out, "run.json"), must(json.Marshal(last)), 0o644))
			status, stdout, stderr := call(append([]string{"run", "--from-failed", "--dry-run", "--engine", "embedded", "--source", example, "--out", out}, test.args...)...)
			require.Zero(t, status, stderr)
			require.Contains(t, stderr, test.note)
			if test.publish == "" {
				require.Regexp(t, `(?m)^.* publish +yes `, stdout)
			} else {
				require.Contains(t, stdout, test.publish)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
