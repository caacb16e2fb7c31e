package project

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	// v0.24: later versions need a newer OpenTelemetry, gRPC and Go than Dagger's SDK v0.19.10 does, for nothing that is
	// used here. These three packages add some 20 to what the SDK links anyway.
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Dockerfile is what a build of one target needs.
type Dockerfile struct {
	// Bases are the references of the images that the build pulls: by FROM, COPY --from and RUN --mount. Sorted.
	Bases []string
	// Reads are the paths and wildcards, relative to the context, that COPY, ADD and RUN --mount take from it. Sorted,
	// none within another. It is "." where the build needs all of the context, or that can't be told.
	//
	// What the ONBUILD instructions of a base image read is not known here.
	Reads []string
	// Stages are the names of all stages in the order of the file; a stage without a name has its number.
	Stages []string
}

// SyntaxError is a mistake in a file that a person wrote.
type SyntaxError struct {
	// File is the file's path.
	File string
	// Line counts from 1; 0 if the mistake has no place.
	Line int
	// Text is the offending line.
	Text string
	// Problem says what is wrong.
	Problem string
}

func (e *SyntaxError) Error() string {
	var b strings.Builder
	b.WriteString(showPath(e.File))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	fmt.Fprintf(&b, ": %s", e.Problem)
	if e.Text != "" {
		fmt.Fprintf(&b, "\n    %s", strings.ToValidUTF8(strings.TrimSpace(e.Text), "\uFFFD"))
	}
	return b.String()
}

// ParseDockerfile reads the Dockerfile called name for the build of target (the last stage if empty) with build arguments.
// A mistake gives a [*SyntaxError]. Only the stages that the target needs count, as in the build itself.
func ParseDockerfile(name string, content []byte, target string, args map[string]string) (Dockerfile, error) {
	fail := func(err error) (Dockerfile, error) { return Dockerfile{}, dockerfileError(name, content, err) }
	ast, err := parser.Parse(bytes.NewReader(content))
	if err != nil {
		return fail(err)
	}
	stages, metaArgs, err := instructions.Parse(ast.AST, nil)
	if err != nil {
		return fail(err)
	}
	if len(stages) == 0 {
		return fail(errors.New("it has no FROM instruction"))
	}
	b := &dockerfileReader{lex: shell.NewLex(ast.EscapeToken), args: args, stages: stages, globals: map[string]string{}}
	for _, cmd := range metaArgs {
		b.declare(b.globals, cmd, nil)
	}
	var d Dockerfile
	for i, s := range stages {
		stage := s.Name
		if stage == "" {
			stage = strconv.Itoa(i)
		}
		d.Stages = append(d.Stages, stage)
	}
	last := len(stages) - 1
	if target != "" {
		if last = b.stage(target, len(stages)); last < 0 {
			return fail(fmt.Errorf("it has no stage %q to build: its stages are %s", target, strings.Join(d.Stages, ", ")))
		}
	}
	if _, err := b.visit(last); err != nil {
		return fail(err)
	}
	slices.Sort(b.bases)
	d.Bases = slices.Compact(b.bases)
	d.Reads = outermost(b.reads)
	return d, nil
}

func dockerfileError(name string, content []byte, err error) error {
	e := &SyntaxError{File: name}
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		e.Line = at.Locations[0][0].Start.Line
	}
	if lines := strings.Split(string(content), "\n"); e.Line > 0 && e.Line <= len(lines) {
		e.Text = lines[e.Line-1]
	}
	e.Problem = strings.TrimPrefix(err.Error(), "dockerfile parse error: ")
	if prefix := fmt.Sprintf("dockerfile parse error on line %d: ", e.Line); e.Line > 0 {
		e.Problem = strings.TrimPrefix(e.Problem, prefix)
	}
	e.Problem = strings.Join(strings.Fields(e.Problem), " ")
	return e
}

// dockerfileReader follows a build through the stages that it needs.
type dockerfileReader struct {
	lex     *shell.Lex
	args    map[string]string
	globals map[string]string
	stages  []instructions.Stage

	visited map[int]map[string]string
	bases   []string
	reads   []string
}

// stage returns the number of the stage called name among the first n, or -1.
func (b *dockerfileReader) stage(name string, n int) int {
	for i := min(n, len(b.stages)) - 1; i >= 0; i-- {
		if strings.EqualFold(b.stages[i].Name, name) {
			return i
		}
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < n && i < len(b.stages) {
		return i
	}
	return -1
}

// from notes what a reference to a stage or image needs; n is the number of the stage that refers to it.
func (b *dockerfileReader) from(ref string, n int) (map[string]string, error) {
	if i := b.stage(ref, n); i >= 0 {
		return b.visit(i)
	}
	if ref != "scratch" && ref != "" {
		b.bases = append(b.bases, ref)
	}
	return nil, nil
}

// visit goes through a stage and returns the variables that it ends with.
func (b *dockerfileReader) visit(n int) (map[string]string, error) {
	if env, ok := b.visited[n]; ok {
		return env, nil
	}
	s := b.stages[n]
	base, ok := b.expand(s.BaseName, b.globals)
	if !ok && b.platformDependent(s.BaseName) {
		// The engine alone knows the platform, so the base stays unknown here.
		base, ok = "scratch", true
	}
	if !ok || base == "" {
		return nil, parser.WithLocation(fmt.Errorf("the base image %q has a variable without a value: give it a default, or a build argument", s.BaseName), s.Location)
	}
	inherited, err := b.from(base, n)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for k, v := range inherited {
		env[k] = v
	}
	for _, cmd := range s.Commands {
		if err := b.command(cmd, env, n); err != nil {
			return nil, err
		}
	}
	if b.visited == nil {
		b.visited = map[int]map[string]string{}
	}
	b.visited[n] = env
	return env, nil
}

func (b *dockerfileReader) command(cmd instructions.Command, env map[string]string, n int) error {
	switch c := cmd.(type) {
	case *instructions.ArgCommand:
		b.declare(env, *c, b.globals)
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			if v, ok := b.expand(kv.Value, env); ok {
				env[kv.Key] = v
			} else {
				delete(env, kv.Key)
			}
		}
	case *instructions.CopyCommand:
		if c.From != "" {
			from, ok := b.expand(c.From, env)
			if !ok {
				return parser.WithLocation(fmt.Errorf("--from=%s has a variable without a value", c.From), c.Location())
			}
			_, err := b.from(from, n)
			return err
		}
		b.take(c.SourcePaths, env)
	case *instructions.AddCommand:
		b.take(slices.DeleteFunc(slices.Clone(c.SourcePaths), remote), env)
	case *instructions.RunCommand:
		// Mounts with variables are resolved only by Expand; a value that stays unknown is the build's to refuse.
		if err := c.Expand(func(word string) (string, error) {
			v, _ := b.expand(word, env)
			return v, nil
		}); err != nil {
			return parser.WithLocation(err, c.Location())
		}
		for _, m := range instructions.GetMounts(c) {
			switch {
			case m.From != "":
				if _, err := b.from(m.From, n); err != nil {
					return err
				}
			case m.Type == instructions.MountTypeBind:
				source := m.Source
				if source == "" {
					source = "."
				}
				b.read(source)
			}
		}
	}
	return nil
}

// declare puts the variables of an ARG instruction into env.
func (b *dockerfileReader) declare(env map[string]string, cmd instructions.ArgCommand, globals map[string]string) {
	for _, kv := range cmd.Args {
		if v, ok := b.args[kv.Key]; ok {
			env[kv.Key] = v
		} else if kv.Value != nil {
			if v, ok := b.expand(*kv.Value, env); ok {
				env[kv.Key] = v
			}
		} else if v, ok := globals[kv.Key]; ok {
			env[kv.Key] = v
		}
	}
}

// platformArgs are set by the engine itself, for the platform that it builds for.
var platformArgs = []string{
	"BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT", "TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
}

// expand replaces the variables of word; ok is false if one of them has no known value.
func (b *dockerfileReader) expand(word string, env map[string]string) (value string, ok bool) {
	result, err := b.lex.ProcessWordWithMatches(word, lookup(env))
	if err != nil {
		return "", false
	}
	for name := range result.Unmatched {
		// A variable that the word itself has a value for, as in ${NAME:-value}, counts as unmatched too.
		if !strings.Contains(word, "${"+name+":-") && !strings.Contains(word, "${"+name+"-") {
			return result.Result, false
		}
	}
	return result.Result, true
}

// platformDependent reports whether word has a variable that the engine sets.
func (b *dockerfileReader) platformDependent(word string) bool {
	result, err := b.lex.ProcessWordWithMatches(word, lookup(b.globals))
	return err == nil && slices.ContainsFunc(platformArgs, func(arg string) bool { _, ok := result.Unmatched[arg]; return ok })
}

type lookup map[string]string

func (l lookup) Get(key string) (string, bool) { v, ok := l[key]; return v, ok }

func (l lookup) Keys() []string {
	keys := make([]string, 0, len(l))
	for k := range l {
		keys = append(keys, k)
	}
	return keys
}

// take notes the sources of a COPY or ADD.
func (b *dockerfileReader) take(sources []string, env map[string]string) {
	for _, source := range sources {
		v, ok := b.expand(source, env)
		if !ok {
			v = "."
		}
		b.read(v)
	}
}

func (b *dockerfileReader) read(source string) {
	b.reads = append(b.reads, strings.TrimPrefix(path.Clean("/"+source), "/"))
}

// remote reports whether ADD fetches a source from elsewhere.
func remote(source string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "ssh://", "git@"} {
		if strings.HasPrefix(source, prefix) {
			return true
		}
	}
	return false
}

// outermost sorts paths and drops those within another.
func outermost(paths []string) []string {
	all := map[string]bool{}
	for _, p := range paths {
		if p == "" || p == "." {
			return []string{"."}
		}
		all[p] = true
	}
	var out []string
	for p := range all {
		dir := path.Dir(p)
		for dir != "." && !all[dir] {
			dir = path.Dir(dir)
		}
		if dir == "." {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}
