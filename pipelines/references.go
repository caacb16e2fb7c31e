package pipelines

import (
	"slices"

	"github.com/millrace-ci/millrace/pipelines/drift"
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
	if runs("detect") || runs("download") {
		refs = append(refs, image.Python("")) // the tools of drift and training, and what talks to buckets
	}
	inline := runs("retrain") && p.Drift.Retrain.Mode == string(drift.Inline)
	for _, m := range p.Models {
		if inline || runs(imageNode(m)) {
			refs = append(refs, trainedIn(p, m)...)
		}
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

// trainedIn lists the images that the one which a model is trained in is made of; one that is not built here is its own.
func trainedIn(p *project.Project, m project.Model) []string {
	for _, i := range p.Images {
		if i.Name == m.Image || m.Dockerfile != "" && i.Dockerfile == m.Dockerfile {
			return i.Parsed.Bases
		}
	}
	if m.Dockerfile != "" {
		return m.Parsed.Bases
	}
	return []string{m.Image}
}
