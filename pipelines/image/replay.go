package image

import (
	"context"
	"strconv"
	"strings"

	"dagger.io/dagger"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/millrace-ci/millrace/pipelines/step"
)

// replayedOutput is where a replayed RUN leaves what it printed; every user may write there.
const replayedOutput = "/tmp/.millrace-run-output"

// replay runs a failed RUN once more to get at what it printed, which the engine's error does not tell.
// It returns "" when that does not work out: the fault stands without it.
//
// The Dockerfile is cut off after that RUN, and the RUN's output goes to a file of its own stage, so that mounts, user,
// folder, arguments and shell are those of the real one. All that comes before it is cached.
func replay(ctx context.Context, dir *dagger.Directory, spec Spec, platform dagger.Platform, dockerfile, command string) string {
	cut := captured(dockerfile, command)
	if cut == "" {
		return ""
	}
	ctr := dir.WithNewFile(ownDockerfile, builtinSyntax(cut)).DockerBuild(dagger.DirectoryDockerBuildOpts{
		Dockerfile: ownDockerfile, Platform: platform, BuildArgs: buildArgs(spec.Args), Secrets: spec.Secrets,
	})
	text, err := ctr.File(replayedOutput).Contents(ctx)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(text, "\uFFFD"))
}

// captured returns the Dockerfile up to the RUN of that command, with the RUN's output kept in a file.
// It returns "" when there is no such RUN in a shell, or more than one.
func captured(dockerfile, command string) string {
	parsed, err := parser.Parse(strings.NewReader(dockerfile))
	if err != nil {
		return ""
	}
	var run *parser.Node
	for _, node := range parsed.AST.Children {
		if !strings.EqualFold(node.Value, "RUN") || node.Next == nil || node.Attributes["json"] || len(node.Heredocs) > 0 {
			continue
		}
		if strings.Join(strings.Fields(node.Next.Value), " ") != strings.Join(strings.Fields(command), " ") {
			continue
		}
		if run != nil {
			return ""
		}
		run = node
	}
	if run == nil {
		return ""
	}
	lines := strings.Split(dockerfile, "\n")[:run.StartLine-1]
	statement := append([]string{"RUN"}, run.Flags...)
	// A here-document, because the command may hold anything, a comment at its end included. The name in quotes keeps
	// Docker from putting in values of its own; the shell has all of them as variables.
	lines = append(lines, strings.Join(append(statement, `<<"MILLRACE-RUN"`), " "),
		"(", run.Next.Value, ") 2>&1 | tail -c "+strconv.Itoa(step.MaxOutput)+" > "+replayedOutput+" || true", "MILLRACE-RUN", "")
	return strings.Join(lines, "\n")
}
