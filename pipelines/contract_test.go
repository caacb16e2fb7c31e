package pipelines

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/drift"
	"github.com/millrace-ci/millrace/pipelines/project"
)

func TestWhichContractDriftChecks(t *testing.T) {
	t.Parallel()
	p := &project.Project{
		Data:  []project.Table{{Name: "telco", Path: "raw/telco.csv"}, {Name: "people", Path: "people.csv"}},
		Drift: project.Drift{Reference: "data/telco.csv"},
	}
	for reference, want := range map[string]string{
		"data/telco.csv": "telco", `C:\tables\people.csv`: "people", "https://example.com/then/people.csv": "people",
		// Another table than the one of the configuration, of which nothing is known.
		"backup.csv": "", "the reference table": "",
	} {
		got, found := DriftInputs{Inputs: Inputs{Project: p}, Reference: drift.FromFolder(nil, reference)}.contract()
		require.Equal(t, want, got.Name, reference)
		require.Equal(t, want != "", found, reference)
	}
	p.Drift.Contract = "people"
	got, _ := DriftInputs{Inputs: Inputs{Project: p}, Reference: drift.FromFolder(nil, "backup.csv")}.contract()
	require.Equal(t, "people", got.Name)
}
