package pipelines

import (
	"cmp"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// NewRun makes the record of a run out of the graph's result and of what the run was for.
func NewRun(result *graph.Result, ref host.Ref, engine report.Engine) report.Run {
	return report.NewRun(result, report.Ref{
		Event: string(ref.Event), Branch: ref.Branch, Tag: ref.Tag, PullRequest: ref.PullRequest, SHA: ref.SHA,
		Repository: ref.Repository, Author: ref.Author, URL: cmp.Or(ref.RunURL, ref.RepositoryURL),
	}, engine)
}

// Reports returns the folders of files that the steps left, by where they belong: see [report.ReportsPath].
func Reports(result *graph.Result) map[string]*dagger.Directory {
	all := map[string]*dagger.Directory{}
	for _, node := range result.Nodes {
		if held, ok := node.Value.(interface{ Of() step.Result }); ok && held.Of().Reports != nil {
			all[report.ReportsPath(node.Name)] = held.Of().Reports
		}
	}
	return all
}
