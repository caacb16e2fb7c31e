package image

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/step"
)

// The Dockerfile is handed to the engine under a name of our own: it may lie outside the build context,
// and its syntax line may have been taken out. Its ignore file hides both from COPY.
const (
	ownFolder     = ".millrace-build"
	ownDockerfile = ownFolder + "/Dockerfile"
)

// officialSyntax matches a first line that asks for a stable release of Docker's own Dockerfile frontend.
var officialSyntax = regexp.MustCompile(`(?i)\A(\x{FEFF})?#[ \t]*syntax[ \t]*=[ \t]*(docker\.io/)?docker/dockerfile(:1(\.[0-9]+)*)?(@sha256:[0-9a-f]{64})?[ \t]*\r?\n`)

// builtinSyntax takes out a syntax line that asks for what the engine speaks anyway.
// It would make every build ask a registry for the frontend's image, and fail where there is none.
// Lines keep their numbers.
func builtinSyntax(dockerfile string) string {
	return officialSyntax.ReplaceAllString(dockerfile, "#\n")
}

// narrowing returns the patterns that cut a build context down to what the Dockerfile reads.
// whole is true when it reads all of it.
func narrowing(include []string) (patterns []string, whole bool) {
	if include == nil {
		return nil, true
	}
	for _, p := range include {
		// As in COPY, a leading slash means the context's root, and nothing lies above it.
		p = strings.TrimPrefix(path.Clean("/"+p), "/")
		if p == "" {
			return nil, true
		}
		patterns = append(patterns, p)
	}
	slices.Sort(patterns)
	return slices.Compact(patterns), false
}

// contextOf builds the directory that the engine builds a spec's image from.
func contextOf(ctx context.Context, c *dagger.Client, src *dagger.Directory, spec Spec, dockerfile string, narrow bool) (*dagger.Directory, error) {
	whole := src.Directory(spec.Context)
	ignore, err := ignoreFile(ctx, src, whole, spec)
	if err != nil {
		return nil, err
	}
	dir := whole
	if spec.Context != "." {
		dir = step.Folder(c, src, spec.Context)
	}
	if patterns, all := narrowing(spec.Include); narrow && !all {
		if len(patterns) == 0 {
			dir = c.Directory()
		} else {
			dir = dir.Filter(dagger.DirectoryFilterOpts{Include: patterns})
		}
	}
	return dir.
		WithNewFile(ownDockerfile, builtinSyntax(dockerfile)).
		WithNewFile(ownDockerfile+".dockerignore", ignore+"\n"+ownFolder+"\n"), nil
}

// ignoreFile returns the ignore file that goes with a Dockerfile: its own, else the context's.
func ignoreFile(ctx context.Context, src, whole *dagger.Directory, spec Spec) (string, error) {
	for _, f := range []struct {
		dir  *dagger.Directory
		path string
	}{{src, spec.Dockerfile + ".dockerignore"}, {whole, ".dockerignore"}} {
		found, err := f.dir.Exists(ctx, f.path)
		if err != nil {
			return "", err
		}
		if found {
			return f.dir.File(f.path).Contents(ctx)
		}
	}
	return "", nil
}
