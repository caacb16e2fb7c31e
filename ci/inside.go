package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// lookInside ends a run that did not pass with the one command that leads on: into the container of the step that failed,
// or where that has none, to run just that step again. With --interactive it opens that container.
func (p *prepared) lookInside(ctx context.Context, s *streams, on *engine.Engine, in pipelines.Inputs, result *graph.Result) {
	at, ok := pipelines.FailedAt(result, p.project)
	if !ok || ctx.Err() != nil {
		return
	}
	inside, err := p.inside(ctx, in, at)
	if err != nil {
		fmt.Fprintf(s.stdout, "\nrun it again: %s\n", p.rerun(at.Node))
		if p.Interactive {
			fmt.Fprintln(s.stderr, "ci: no shell is opened:", firstLine(err))
		}
		return
	}
	fmt.Fprintf(s.stdout, "\nlook inside: %s\n", commandLine(self(), p.shell(at)))
	if !p.Interactive {
		return
	}
	if err := p.open(ctx, s, on, inside, at); err != nil {
		fmt.Fprintf(s.stderr, "ci: the shell in %s: %v\n", inside.What, err)
	}
}

// mend names the command that puts right what black and isort found in a run, if they found anything that it can.
func (p *pipeline) mend(s *streams, record report.Run) {
	var tools []string
	for _, f := range record.Findings() {
		// What black can't even read has a rule of its own.
		if f.Rule == f.Tool && (f.Tool == "black" || f.Tool == "isort") && !slices.Contains(tools, f.Tool) {
			tools = append(tools, f.Tool)
		}
	}
	if len(tools) > 0 {
		slices.Sort(tools)
		fmt.Fprintf(s.stdout, "\nmend what %s found: %s\n", strings.Join(tools, " and "), p.command("format"))
	}
}

// insidePatience bounds the question whether a container is there: after a run, all that it is made of is cached.
const insidePatience = 20 * time.Second

// inside returns the container of a workplace, or why there is none: what a reader is sent to must be there.
func (p *prepared) inside(ctx context.Context, in pipelines.Inputs, at pipelines.Workplace) (pipelines.Inside, error) {
	ctx, cancel := context.WithTimeout(ctx, insidePatience)
	defer cancel()
	inside, err := p.container(ctx, in, at)
	if err != nil {
		return inside, err
	}
	_, err = inside.Sync(ctx)
	return inside, err
}

// container returns the container of a workplace; where that trains, with the tables of this run.
func (p *prepared) container(ctx context.Context, in pipelines.Inputs, at pipelines.Workplace) (pipelines.Inside, error) {
	in.Training.Data = p.tables.sourceOfData(in, p.Source)
	return pipelines.Container(ctx, in, at)
}

// shell returns the arguments with which this program opens a shell in a workplace of this run.
func (p *pipeline) shell(at pipelines.Workplace) []string {
	args := []string{"shell", at.Node}
	if at.Image != "" {
		args = append(args, at.Image)
	}
	if at.Before != 0 {
		args = append(args, "--before", strconv.Itoa(at.Before))
	}
	if at.Language != "" {
		args = append(args, "--language", at.Language)
	}
	if p.tables.Data != "" {
		args = append(args, "--data", p.tables.Data)
	}
	return append(args, p.places()...)
}

// rerun is the command line that runs one node of this run again.
func (p *pipeline) rerun(node string) string {
	args := []string{"run", node}
	if len(p.again) > 0 {
		args = slices.Clone(p.again)
	}
	args = append(args, p.places()...)
	for _, flag := range []struct{ name, value, without string }{
		{"--event", p.Event, ""}, {"--ref", p.Ref, ""}, {"--sha", p.SHA, ""},
		{"--registry", p.Registry, ""}, {"--registry-user", p.RegistryUser, os.Getenv("REGISTRY_USER")},
		{"--registry-password-env", p.RegistryPassword, "REGISTRY_PASSWORD"}, {"--out", p.Out, ""},
	} {
		if flag.value != "" && flag.value != flag.without {
			args = append(args, flag.name, flag.value)
		}
	}
	return commandLine(self(), args)
}

// command is the command line that does something else with the same source, configuration and engine.
func (p *pipeline) command(words ...string) string {
	return commandLine(self(), append(words, p.places()...))
}

// places returns the flags that say where the source, the configuration and the engine are, as far as they were given.
func (p *pipeline) places() []string {
	var args []string
	for _, flag := range []struct{ name, value, without string }{
		{"--source", p.Source, "."}, {"--config", p.Config, ""}, {"--engine", string(p.Engine), string(engine.Auto)},
	} {
		if flag.value != "" && flag.value != flag.without {
			args = append(args, flag.name, flag.value)
		}
	}
	return args
}

// commandLine writes a command so that it can be pasted into a shell.
func commandLine(program []string, args []string) string {
	words := slices.Concat(program, args)
	for i, word := range words {
		if word == "" || strings.ContainsFunc(word, special) {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// special tells the characters that a shell may take for something else.
func special(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-_./:@%+,=", r):
		return false
	}
	return true
}

// self returns the words by which the person at the keyboard has called this program.
func self() []string {
	own, err := os.Executable()
	if err != nil {
		return []string{"ci"}
	}
	if !madeByGoRun(own) {
		return []string{os.Args[0]}
	}
	_, file, _, _ := runtime.Caller(0)
	info, _ := debug.ReadBuildInfo()
	folder, err := os.Getwd()
	if err != nil {
		folder = ""
	}
	return goRun(folder, file, info)
}

// goRun returns the words of the go command that runs this program, whose source lies in file, from a folder.
func goRun(folder, file string, info *debug.BuildInfo) []string {
	if info != nil && strings.HasPrefix(info.Main.Version, "v") && strings.Contains(filepath.ToSlash(file), "@"+info.Main.Version+"/") {
		return []string{"go", "run", info.Path + "@" + info.Main.Version}
	}
	// Without its path, as -trimpath leaves it, the file does not say where the clone is: most people are at its root.
	if rel, err := filepath.Rel(folder, filepath.Dir(file)); err == nil && filepath.IsAbs(file) {
		if rel = filepath.ToSlash(rel); rel != "." && !strings.HasPrefix(rel, "../") {
			rel = "./" + rel
		}
		return []string{"go", "run", rel}
	}
	return []string{"go", "run", "./ci"}
}

// cached matches the path of a program in the go command's cache, where go run leaves what it built: since Go 1.24 by the
// hash of its content.
var cached = regexp.MustCompile(`/(go-build[0-9]+/b[0-9]+/exe|[0-9a-f]{2}/[0-9a-f]{64}-d)/[^/]+$`)

func madeByGoRun(program string) bool { return cached.MatchString(filepath.ToSlash(program)) }

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
