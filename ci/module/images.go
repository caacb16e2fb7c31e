package main

import (
	"fmt"
	"slices"
	"strings"

	"dagger/millrace/internal/dagger"
)

// Images are images that were built, and are not published yet.
type Images struct {
	// Names of the images.
	Names []string
	// Images in the order of their names, each of the first platform it was built for.
	Containers []*dagger.Container
}

// Return one of the images, to run, export, or open a terminal in.
func (i *Images) Container(
	// Name of the image.
	name string,
) (*dagger.Container, error) {
	n := slices.Index(i.Names, name)
	if n < 0 {
		known := strings.Join(i.Names, ", ")
		if known == "" {
			known = "none was built"
		}
		return nil, exit(exitUsage, fmt.Sprintf("there is no image %q: %s", name, known))
	}
	return i.Containers[n], nil
}
