package pipelines

import (
	"slices"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/project"
)

// References lists the images that the nodes of the graphs pull, sorted; runs says whether a node runs.
func References(p *project.Project, runs func(node string) bool) []string {
	var refs []string
	if p.Python.Found() && (runs("lint") || runs("test") || runs("security")) {
		refs = append(refs, image.Python(p.Python.Version))
	}
	if p.Go.Found() && runs("lint") && len(chosen(p.Lint.Tools, goLinters)) > 0 {
		refs = append(refs, image.GolangciLint)
	}
	if p.Go.Found() && runs("test") {
		refs = append(refs, image.Golang)
	}
	if runs("detect") {
		refs = append(refs, image.Python(""))
	}
	if runs("build") {
		for _, i := range p.Images {
			refs = append(refs, i.Parsed.Bases...)
		}
	}
	if runs("cluster") {
		refs = append(refs, kube.References()...)
	}
	for _, e := range p.Environments {
		refs = append(refs, verificationImages(e, runs)...)
		if runs(deployName(e.Name)) || runs("rollback-"+e.Name) || runs("promote-"+e.Name) {
			refs = append(refs, image.KubeTools)
		}
	}
	for _, m := range p.Models {
		if m.OnKubernetes() && (runs("train-"+m.Name) || runs("jobs-"+m.Name)) {
			refs = append(refs, image.KubeTools)
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs)
}
