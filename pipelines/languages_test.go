package pipelines

import (
	"context"
	"errors"
	"testing"

	"dagger.io/dagger"
	"dagger.io/dagger/querybuilder"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// What one language has to say is worth having when another's tools break.
func TestOneLanguagesToolsBreak(t *testing.T) {
	t.Parallel()
	broken := errors.New("golangci-lint ended with 7")
	finding := report.Finding{Tool: "flake8", File: "a.py", Message: "unused"}
	parts := map[string]part{
		Go: func(context.Context) (step.Result, error) { return step.Result{}, broken },
		Python: func(ctx context.Context) (step.Result, error) {
			return step.Result{Verdict: graph.Failed, Reason: "1 finding", Findings: []report.Finding{finding}}, ctx.Err()
		},
	}
	got, err := sideBySide(t.Context(), new(dagger.Client).WithGraphQLQuery(querybuilder.Query()), parts, "nothing")
	require.ErrorIs(t, err, broken)
	require.Equal(t, graph.Errored, got.Verdict)
	require.Equal(t, []report.Finding{finding}, got.Findings)
	require.Equal(t, map[string]graph.Verdict{Go: graph.Errored, Python: graph.Failed}, got.Parts)
}

func TestStepsWithoutAProject(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		second(Lint{}.Run(t.Context(), nil, nil)), second(Test{}.Run(t.Context(), nil, nil)), second(Security{}.Run(t.Context(), nil, nil)),
	} {
		require.ErrorContains(t, err, "set Project")
	}
}

func second(_ step.Result, err error) error { return err }
