package pipelines

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/model"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// driftContract checks both tables against the contract that the project has for them. A table that breaks it is not
// compared: what a contract forbids is a mistake, in the table or in the contract, and training would refuse the table too.
func driftContract(ctx context.Context, in DriftInputs, d DriftData) (step.Result, error) {
	contract, found := in.contract()
	if !found {
		return step.Skip("no contract: no table under data is called as the reference; name one under drift.contract"), nil
	}
	contract.SHA256 = ""
	reference, current := contract, contract
	// The reference is old by its nature, and a day's table smaller than one that models are trained on.
	reference.Name, reference.Path, reference.Fresh = "reference", "reference", project.Fresh{}
	current.Name, current.Path, current.Rows = "current", "current", project.Rows{}
	current.Columns = slices.Clone(current.Columns)
	for i, c := range current.Columns {
		if c.Name == in.Project.Drift.Target {
			// Labels come later.
			current.Columns[i].Nullable, current.Columns[i].Optional = true, true
		}
	}
	checked, err := model.Validate{Tables: []project.Table{current, reference}, Now: in.Now}.Run(ctx, in.Client, model.Data{
		Directory: in.Client.Directory().WithDirectory("current", d.Current).WithDirectory("reference", d.Reference),
		Tables:    []model.Table{{Name: "current"}, {Name: "reference"}},
	})
	return checked.Result, err
}

// contract returns the contract of the tables: the one that the configuration names, else that of the table whose file is
// called as the reference.
func (in DriftInputs) contract() (project.Table, bool) {
	if name := in.Project.Drift.Contract; name != "" {
		return in.Project.Table(name)
	}
	reference := path.Base(strings.ReplaceAll(in.Reference.String(), `\`, "/"))
	for _, table := range in.Project.Data {
		if reference == path.Base(table.Path) {
			return table, true
		}
	}
	return project.Table{}, false
}
