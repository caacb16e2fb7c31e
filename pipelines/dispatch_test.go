package pipelines

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/host"
	"github.com/millrace-ci/millrace/pipelines/project"
)

// Where nothing is said, the CI host of the run is asked to train: its server, its repository, its default branch.
func TestTheHostOfTheRunIsAskedToTrain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ref        host.Ref
		configured project.Dispatch
		want       drift.Dispatch
	}{
		{
			host.Ref{Host: host.GitHub, Repository: "acme/scores", RepositoryURL: "https://github.com/acme/scores", DefaultBranch: "trunk"}, project.Dispatch{},
			drift.Dispatch{Receiver: drift.GitHub, Repository: "acme/scores", Ref: "trunk"},
		},
		{
			host.Ref{Host: host.GitHub, Repository: "acme/scores", RepositoryURL: "https://git.example.com/acme/scores"}, project.Dispatch{},
			drift.Dispatch{Receiver: drift.GitHub, URL: "https://git.example.com/api/v3", Repository: "acme/scores"},
		},
		{
			host.Ref{Host: host.GitLab, Repository: "acme/scores", RepositoryURL: "https://gitlab.com/acme/scores"}, project.Dispatch{Ref: "next"},
			drift.Dispatch{Receiver: drift.GitLab, URL: "https://gitlab.com/api/v4", Repository: "acme/scores", Ref: "next"},
		},
		{ // another host is asked, which has its own token: the run's server is none of its business
			host.Ref{Host: host.GitLab, Repository: "acme/scores", RepositoryURL: "https://git.example.com/acme/scores"}, project.Dispatch{To: "github", Repository: "acme/models"},
			drift.Dispatch{Receiver: drift.GitHub, Repository: "acme/models"},
		},
		{
			host.Ref{Host: host.Local, Repository: "acme/scores", RepositoryURL: "https://git.example.com/acme/scores"}, project.Dispatch{},
			drift.Dispatch{Repository: "acme/scores"},
		},
	} {
		p := &project.Project{Drift: project.Drift{Retrain: project.Retrain{Dispatch: test.configured}}}
		require.Equal(t, test.want, dispatch(DriftInputs{Inputs: Inputs{Project: p, Ref: test.ref}}))
	}
}
