package image

import (
	"context"
	"fmt"
	"strings"

	"dagger.io/dagger"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/millrace-ci/millrace/pipelines/step"
)

// Before builds the image up to the instruction that stands in a line of its Dockerfile, without it, and returns what that
// instruction finds: files, user, folder and variables. For an instruction that failed, all of that is cached.
// Build arguments are no part of it: they are set only while instructions run.
func (s Spec) Before(ctx context.Context, c *dagger.Client, src *dagger.Directory, line int) (*dagger.Container, error) {
	s = s.withDefaults()
	text, err := readDockerfile(ctx, src, s)
	if err != nil {
		return nil, err
	}
	cut, err := upTo(text, line)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Dockerfile, err)
	}
	s.Target, s.Platforms = "", s.Platforms[:min(1, len(s.Platforms))]
	built, err := evaluate(ctx, c, src, s, cut, true)
	if err != nil && s.Include != nil {
		// As in build: a source may be a symbolic link, and leads to what no one can read from the Dockerfile.
		built, err = evaluate(ctx, c, src, s, cut, false)
	}
	if err != nil {
		return nil, step.Explain(err)
	}
	return built.Container, nil
}

// upTo returns the Dockerfile up to the instruction that stands in that line, without it: its last stage is then the one
// that the instruction belongs to.
func upTo(dockerfile string, line int) (string, error) {
	parsed, err := parser.Parse(strings.NewReader(dockerfile))
	if err != nil {
		return "", err
	}
	staged := false
	for _, node := range parsed.AST.Children {
		stage := strings.EqualFold(node.Value, "FROM")
		switch {
		case node.StartLine > line || line > node.EndLine:
			staged = staged || stage
		case stage || !staged:
			return "", fmt.Errorf("line %d is no instruction within a stage: there is nothing before it", line)
		default:
			return strings.Join(strings.SplitAfter(dockerfile, "\n")[:node.StartLine-1], ""), nil
		}
	}
	return "", fmt.Errorf("there is no instruction in line %d", line)
}
