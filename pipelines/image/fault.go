package image

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// fault is why an image can't be built from its source.
type fault struct {
	image string
	file  string
	line  int
	// reason says in one line what is wrong and what to do.
	reason string
	// command is the command line of the RUN that failed, where that is the fault.
	command string
	// missing is the path that the Dockerfile reads and the context lacks, where that is the fault.
	missing string
	// output is the end of what the failed command printed; empty when no command ran.
	output string
	// message is the engine's own.
	message string
}

func (f *fault) Error() string {
	return fmt.Sprintf("%s: %s: %s", f.image, f.place(), f.reason)
}

// place is the Dockerfile, and the line where it is known.
func (f *fault) place() string {
	if f.line > 0 {
		return f.file + ":" + strconv.Itoa(f.line)
	}
	return f.file
}

func (f *fault) finding() report.Finding {
	return report.Finding{Tool: "dockerfile", Rule: "build", Severity: report.High, File: f.file, Line: f.line, Message: f.reason}
}

// screenLines is how much of a failed command's output fits on one screen.
const screenLines = 30

// screen is the fault with the last lines of its output.
func (f *fault) screen() string {
	lines := strings.Split(strings.TrimSpace(f.output), "\n")
	if len(lines) > screenLines {
		lines = lines[len(lines)-screenLines:]
	}
	return strings.TrimSpace(f.Error() + "\n" + strings.Join(lines, "\n"))
}

// report is the name of the fault's file in the reports. A name that is not fit for an image may not be fit for a file.
func (f *fault) report() string {
	if checkName(f.image) != nil {
		return "unnamed.txt"
	}
	return f.image + ".txt"
}

// document is the whole fault, for the reports.
func (f *fault) document() string {
	return strings.TrimSpace(f.Error()+"\n\n"+f.output+"\n\n"+f.message) + "\n"
}

// The engine has no codes for what goes wrong in a build: its texts are all there is.
// The tests hold those that could be captured from the engine of the pinned version.
var (
	failedRun  = regexp.MustCompile(`process ("(?:[^"\\]|\\.)*") did not complete successfully: exit code: (\d+)`)
	parseError = regexp.MustCompile(`dockerfile parse error on line (\d+): ([^\n]+)`)
	parseOther = regexp.MustCompile(`((?:failed to parse|file with no instructions|no build stage|the Dockerfile cannot be empty|base name \(|` +
		`circular dependency|invalid from flag|failed to process|unterminated heredoc|unexpected end of statement|secret not found|` +
		`unable to find user|invalid user index|no matching entries in)[^\n]*)`)
	noTarget   = regexp.MustCompile(`target stage "?([^"\s]+)"? could not be found`)
	noSource   = regexp.MustCompile(`failed to calculate checksum of ref [^"\n]*"([^"]+)": not found`)
	noFile     = regexp.MustCompile(`\bl?stat ([^\s:]+): no such file or directory`)
	noBase     = regexp.MustCompile(`failed to resolve source metadata for (\S+): `)
	absent     = regexp.MustCompile(`not found|pull access denied|repository does not exist|manifest unknown|name unknown|NAME_UNKNOWN|MANIFEST_UNKNOWN`)
	noPlatform = regexp.MustCompile(`no match for platform in manifest`)
	trace      = regexp.MustCompile(`\s*\[traceparent:[0-9a-f-]+\]`)
)

// diagnose tells a fault of the source from one of the machinery, which comes back as an ordinary error.
func diagnose(spec Spec, dockerfile string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("build %s: %w", spec.Name, err)
	}
	text := trace.ReplaceAllString(err.Error(), "")
	f := &fault{image: spec.Name, file: spec.Dockerfile, message: text}
	if m := failedRun.FindStringSubmatch(text); m != nil {
		return f.failedCommand(spec, dockerfile, m[1], m[2])
	}
	match := func(re *regexp.Regexp) string {
		if m := re.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	if m := parseError.FindStringSubmatch(text); m != nil {
		f.line, _ = strconv.Atoi(m[1])
		f.reason = "the Dockerfile can't be parsed: " + m[2]
		return f
	}
	if target := match(noTarget); target != "" {
		f.reason = fmt.Sprintf("there is no stage %s: correct the target in the configuration", target)
		return f
	}
	if missing := match(noSource); missing != "" {
		return f.lacks(spec, dockerfile, missing)
	}
	if base := match(noBase); base != "" {
		return f.lacksBase(dockerfile, base, text)
	}
	if missing := match(noFile); missing != "" {
		return f.lacks(spec, dockerfile, missing)
	}
	if problem := match(parseOther); problem != "" {
		f.reason = "the Dockerfile can't be used: " + problem
		return f
	}
	return machinery(fmt.Errorf("build %s (%s): %s", spec.Name, spec.Dockerfile, text))
}

// machinery marks an error of the network or a registry as one that may pass, where it may.
func machinery(err error) error {
	if mayPass(err.Error()) {
		return graph.Transient(err)
	}
	return err
}

// lacksBase completes the fault of an image that can't be had, or returns an error when that says nothing about the image.
func (f *fault) lacksBase(dockerfile, base, text string) error {
	short := func(ref string) string {
		ref = strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/")
		return strings.TrimSuffix(ref, ":latest")
	}
	what, fix := "the base image", "check its name and tag in FROM"
	for i, line := range strings.Split(dockerfile, "\n") {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		words := strings.Fields(rest)
		switch {
		case strings.EqualFold(verb, "FROM") && slices.ContainsFunc(words, func(w string) bool { return short(w) == short(base) }):
		case strings.EqualFold(verb, "COPY") && slices.ContainsFunc(words, func(w string) bool {
			from, found := strings.CutPrefix(w, "--from=")
			return found && short(from) == short(base)
		}):
			what, fix = "--from names no stage, and the image", "correct the name"
		case i == 0 && strings.Contains(line, "syntax") && strings.Contains(line, base):
			what, fix = "the image of the syntax line", "check its name and tag, or leave the line out"
		default:
			continue
		}
		f.line = i + 1
		break
	}
	switch {
	case noPlatform.MatchString(text):
		f.reason = fmt.Sprintf("%s %s does not exist for this platform: choose another, or another platform", what, base)
		return f
	case !mayPass(text) && absent.MatchString(text):
		f.reason = fmt.Sprintf("%s %s does not exist, or needs a login: %s", what, base, fix)
		return f
	}
	_, cause, _ := strings.Cut(text, "failed to resolve source metadata for "+base+": ")
	if noHost.MatchString(text) {
		cause += ": check the host in the image's name, and the engine's network"
	}
	return machinery(fmt.Errorf("build %s (%s): get %s: %s", f.image, f.place(), base, cause))
}

// lacks completes a fault of a Dockerfile that reads what is not there.
func (f *fault) lacks(spec Spec, dockerfile, missing string) *fault {
	f.missing = missing
	name := strings.TrimPrefix(missing, "/")
	from := ""
	f.line = lineOf(dockerfile, func(line string) bool {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.EqualFold(verb, "COPY") && !strings.EqualFold(verb, "ADD") || !strings.Contains(rest, name) {
			return false
		}
		if _, stage, found := strings.Cut(rest, "--from="); found {
			from, _, _ = strings.Cut(stage, " ")
		}
		return true
	})
	where := "the build context " + spec.Context
	if spec.Context == "." {
		where = "the source"
	}
	f.reason = fmt.Sprintf("it copies %s, which is not in %s, or which .dockerignore leaves out", name, where)
	if from != "" {
		f.reason = fmt.Sprintf("it copies %s from %s, which has no such file", missing, from)
	}
	return f
}

// failedCommand completes the fault of a RUN that did not end well; quoted is its command line as the engine quotes it.
func (f *fault) failedCommand(spec Spec, dockerfile, quoted, code string) error {
	command, err := strconv.Unquote(quoted)
	if err != nil {
		command = strings.Trim(quoted, `"`)
	}
	// What stands in the Dockerfile has no shell around it.
	command = strings.TrimSpace(shell.ReplaceAllString(command, ""))
	if code == "137" {
		return fmt.Errorf("build %s (%s): RUN %s was killed (exit code 137), most likely because memory ran out: give the engine more memory, or split the work",
			spec.Name, spec.Dockerfile, clip(command))
	}
	f.command = command
	f.line = lineOf(dockerfile, func(line string) bool {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(strings.TrimSuffix(trimFlags(strings.TrimSpace(rest)), "\\"))
		return strings.EqualFold(verb, "RUN") && rest != "" && strings.HasPrefix(command, rest)
	})
	f.reason = fmt.Sprintf("RUN %s ended with exit code %s", clip(command), code)
	return f
}

// printed adds what the failed command printed.
func (f *fault) printed(output string) {
	if f.output = output; output != "" {
		lines := strings.Split(output, "\n")
		f.reason += ": " + clip(lines[len(lines)-1])
	}
}

// shell matches the shell that runs a command line of a Dockerfile.
var shell = regexp.MustCompile(`^/bin/(?:ba|a|da)?sh (?:-[a-z]+ |-o \w+ )*-[a-z]*c `)

// trimFlags cuts the flags off a RUN statement, such as --mount=type=cache,target=/root/.cache.
func trimFlags(statement string) string {
	for strings.HasPrefix(statement, "--") {
		_, statement, _ = strings.Cut(statement, " ")
		statement = strings.TrimSpace(statement)
	}
	return statement
}

// lineOf returns the number of the only line that matches; 0 when there is none, or more than one.
func lineOf(text string, match func(string) bool) int {
	found := 0
	for i, line := range strings.Split(text, "\n") {
		if match(strings.TrimSuffix(line, "\r")) {
			if found > 0 {
				return 0
			}
			found = i + 1
		}
	}
	return found
}

// clip makes one line, of 160 characters at most.
func clip(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 160 {
		text = string(runes[:159]) + "…"
	}
	return text
}

// passing are the texts of failures of a registry or the network that may go away by themselves.
// A name that does not resolve is not among them: most often it is mistyped.
var passing = regexp.MustCompile(`(?i)connection refused|connection reset|broken pipe|i/o timeout|TLS handshake timeout|unexpected EOF|\bEOF\b|` +
	`server misbehaving|temporary failure|no route to host|network is unreachable|context deadline exceeded|` +
	`unexpected status[^\n]*: (?:429|5\d\d)\b|\b(?:429 Too Many Requests|500 Internal Server Error|502 Bad Gateway|503 Service Unavailable|504 Gateway Timeout)|toomanyrequests`)

// lost is the text of a session whose engine is gone; the session does not come back.
var lost = regexp.MustCompile(`http://dagger/query`)

func mayPass(text string) bool { return passing.MatchString(text) && !lost.MatchString(text) }
