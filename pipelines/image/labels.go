package image

import (
	"time"

	"dagger.io/dagger"
)

// Labels say where an image comes from, in the OCI image spec's own keys (org.opencontainers.image.*).
//
// They change with every commit, so they are put on after the build: they touch an image's configuration alone,
// and no layer is built or pushed again for them.
type Labels struct {
	// Source is the address of the repository.
	Source string
	// Revision is the commit's full id.
	Revision string
	// Version is the release, branch or pull request that the image stands for.
	Version string
	// Created is the time of the commit, not of the build, so that the same commit gives the same labels.
	Created time.Time
}

// Apply puts the labels on an image, with name as its title. What is not known is left as the Dockerfile has it.
func (l Labels) Apply(ctr *dagger.Container, name string) *dagger.Container {
	for _, label := range l.list(name) {
		ctr = ctr.WithLabel(label.key, label.value)
	}
	return ctr
}

type label struct{ key, value string }

// list keeps the keys in one order: the order is part of what the engine caches by.
func (l Labels) list(name string) []label {
	const prefix = "org.opencontainers.image."
	all := []label{
		{prefix + "title", name},
		{prefix + "source", l.Source},
		{prefix + "revision", l.Revision},
		{prefix + "version", l.Version},
	}
	if !l.Created.IsZero() {
		all = append(all, label{prefix + "created", l.Created.UTC().Format(time.RFC3339)})
	}
	known := all[:0]
	for _, one := range all {
		if one.value != "" {
			known = append(known, one)
		}
	}
	return known
}
