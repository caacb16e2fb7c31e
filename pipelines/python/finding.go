package python

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/report"
)

// The parsers below turn what a tool printed, and its exit code, into findings. An error means that the tool broke,
// or that what it printed is not what this version of it prints; it carries the tool's own words.

// broke is the error for a tool that ended in a way that is no verdict on the code.
func broke(tool string, exit int, outputs ...string) error {
	said := "it said nothing"
	for _, text := range outputs {
		if text = strings.TrimSpace(text); text != "" {
			said = text
			break
		}
	}
	const most = 4 << 10
	whole := said
	if len(whole) > most {
		whole = "…" + strings.ToValidUTF8(whole[len(whole)-most:], "")
	}
	return fmt.Errorf("%s broke (exit code %d): %s\n%s", tool, exit, gist(said), whole)
}

// gist picks the one line of a tool's last words that says most.
func gist(said string) string {
	lines := strings.Split(said, "\n")
	if strings.Contains(said, "Traceback (most recent call last)") {
		return lines[len(lines)-1]
	}
	for _, line := range lines {
		if strings.Contains(strings.ToLower(line), "error") {
			return strings.TrimSpace(line)
		}
	}
	return lines[0]
}

var (
	// A file's name may hold a newline: what ends a message is the next one, or the summary.
	blackMessage = regexp.MustCompile(`(?s)(would reformat|reformatted|error: cannot format|error: cannot parse:?) (.+?)\n(?:would reformat |reformatted |error: cannot |\nOh no!|\nAll done!|$)`)
	blackParse   = regexp.MustCompile(`(?s)^(.+?):(\d+):(\d+)\n(.*)$`)
	blackFormat  = regexp.MustCompile(`(?s)^(.+?): (.*)$`)
)

// parseBlack reads "black --check --diff": exit code 0 is clean, 1 means that files would change,
// 123 that a file could not be read as Python, or that Black broke.
func parseBlack(stdout, stderr string, exit int) ([]report.Finding, error) {
	if exit == 0 {
		return nil, nil
	}
	var findings []report.Finding
	rest := strings.TrimRight(stderr, "\n") + "\n"
	for {
		m := blackMessage.FindStringSubmatchIndex(rest)
		if m == nil {
			break
		}
		kind, what := rest[m[2]:m[3]], rest[m[4]:m[5]]
		rest = rest[m[5]+1:]
		f := report.Finding{Tool: "black", Rule: "black", Severity: report.Low}
		switch kind {
		case "would reformat", "reformatted":
			f.File, f.Line, f.Message = relative(what), firstHunk(stdout, "--- "+what+"\t"), "would be reformatted"
		case "error: cannot format":
			p := blackFormat.FindStringSubmatch(what)
			if p == nil || strings.Contains(what, "INTERNAL ERROR") {
				return nil, broke("black", exit, what)
			}
			f.File, f.Rule, f.Severity, f.Message = relative(p[1]), "cannot-format", report.High, firstLine(p[2])
		default:
			p := blackParse.FindStringSubmatch(what)
			if p == nil {
				return nil, broke("black", exit, what)
			}
			f.File, f.Rule, f.Severity = relative(p[1]), "cannot-parse", report.High
			f.Line, f.Column = number(p[2]), number(p[3])
			f.Message = "cannot parse: " + lastLine(p[4])
		}
		findings = append(findings, f)
	}
	if len(findings) == 0 {
		return nil, broke("black", exit, stderr, stdout)
	}
	return findings, nil
}

var isortMessage = regexp.MustCompile(`(?s)ERROR: (.+?) Imports are incorrectly sorted and/or formatted\.\n`)

// parseIsort reads "isort --check-only --diff": exit code 1 means that imports would move.
func parseIsort(stdout, stderr string, exit int) ([]report.Finding, error) {
	if exit == 0 {
		return nil, nil
	}
	var findings []report.Finding
	for _, m := range isortMessage.FindAllStringSubmatch(stderr, -1) {
		findings = append(findings, report.Finding{
			Tool: "isort", Rule: "isort", Severity: report.Low, File: relative(m[1]),
			Line:    firstHunk(stdout, "--- "+m[1]+":before\t"),
			Message: "imports are not sorted or not formatted",
		})
	}
	if exit != 1 || len(findings) == 0 {
		return nil, broke("isort", exit, stderr, stdout)
	}
	return findings, nil
}

var hunk = regexp.MustCompile(`\n@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@[^\n]*\n((?: [^\n]*\n)*)`)

// firstHunk returns the first line that a diff changes in the file whose header begins with head; 0 when it has none.
func firstHunk(diff, head string) int {
	at := strings.Index(diff, head)
	if at < 0 {
		return 0
	}
	m := hunk.FindStringSubmatch(diff[at:])
	if m == nil {
		return 0
	}
	// The lines before the change are context.
	return number(m[1]) + strings.Count(m[2], "\n")
}

// flake8Format separates by tabs, so that colons and spaces in a file's name do no harm.
const flake8Format = "%(path)s\t%(row)d\t%(col)d\t%(code)s\t%(text)s"

var flake8Message = regexp.MustCompile(`(?s)(.+?)\t(\d+)\t(\d+)\t([A-Z][A-Z0-9]*)\t([^\n]*)\n`)

// parseFlake8 reads flake8's output in [flake8Format]: exit code 1 means findings, but also a bad configuration.
func parseFlake8(stdout, stderr string, exit int) ([]report.Finding, error) {
	if exit == 0 {
		return nil, nil
	}
	var findings []report.Finding
	for _, m := range flake8Message.FindAllStringSubmatch(stdout, -1) {
		severity := report.Low
		switch {
		case strings.HasPrefix(m[4], "E9"): // the file cannot be read or is not Python
			severity = report.High
		case strings.HasPrefix(m[4], "F"): // pyflakes: most likely a mistake, not style
			severity = report.Medium
		}
		findings = append(findings, report.Finding{
			Tool: "flake8", Rule: m[4], Severity: severity,
			File: relative(m[1]), Line: number(m[2]), Column: number(m[3]), Message: m[5],
		})
	}
	if exit != 1 || len(findings) == 0 {
		return nil, broke("flake8", exit, stderr, stdout)
	}
	return findings, nil
}

// parseMypy reads "mypy --output json": exit code 1 means errors, 2 an error that stops mypy (a syntax error,
// two modules of one name), a bad configuration, or that mypy broke. Notes are left to the report.
func parseMypy(stdout, stderr string, exit int) ([]report.Finding, error) {
	if exit == 0 {
		return nil, nil
	}
	var findings []report.Finding
	var other []string
	for line := range strings.Lines(stdout) {
		var m struct {
			File     string  `json:"file"`
			Line     int     `json:"line"`
			Column   int     `json:"column"`
			Message  string  `json:"message"`
			Hint     *string `json:"hint"`
			Code     *string `json:"code"`
			Severity string  `json:"severity"`
		}
		if json.Unmarshal([]byte(line), &m) != nil {
			other = append(other, line)
			continue
		}
		if m.Severity != "error" {
			continue
		}
		f := report.Finding{
			Tool: "mypy", Rule: "mypy", Severity: report.Medium, File: relative(m.File),
			Line: max(m.Line, 0), Message: m.Message,
		}
		if m.Column >= 0 && f.Line > 0 {
			f.Column = m.Column + 1
		}
		if m.Code != nil {
			f.Rule = *m.Code
			if f.Rule != "misc" {
				f.URL = "https://mypy.readthedocs.io/en/stable/_refs.html#code-" + f.Rule
			}
		}
		if m.Hint != nil && *m.Hint != "" {
			f.Message += " (" + firstLine(*m.Hint) + ")"
		}
		if f.Rule == "syntax" {
			f.Severity = report.High
		}
		findings = append(findings, f)
	}
	if exit > 2 || len(findings) == 0 || strings.Contains(stderr, "INTERNAL ERROR") {
		return nil, broke("mypy", exit, stderr, strings.Join(other, ""), stdout)
	}
	return findings, nil
}

// pylintUsage is the bit of pylint's exit code for a wrong option; the lower bits say which kinds of message there are.
const pylintUsage = 32

// parsePylint reads "pylint --output-format json2". With an exit code of 0 its messages are ones that the project's own
// settings (fail-under, fail-on) let pass; they are no findings.
func parsePylint(stdout, stderr string, exit int) ([]report.Finding, error) {
	if exit == 0 {
		return nil, nil
	}
	var out struct {
		Messages []struct {
			Type, Symbol, Message, MessageID, Path string
			Line, Column                           int
		}
	}
	if exit >= pylintUsage || json.Unmarshal([]byte(stdout), &out) != nil || len(out.Messages) == 0 {
		return nil, broke("pylint", exit, stderr, stdout)
	}
	severities := map[string]report.Severity{
		"fatal": report.High, "error": report.High, "warning": report.Medium,
		"refactor": report.Low, "convention": report.Low, "info": report.Info,
	}
	var findings []report.Finding
	for _, m := range out.Messages {
		f := report.Finding{
			Tool: "pylint", Rule: m.Symbol, Severity: severities[m.Type], File: relative(m.Path),
			Line: m.Line, Column: m.Column + 1, Message: strings.TrimSpace(firstLine(m.Message)),
			URL: "https://pylint.readthedocs.io/en/stable/user_guide/messages/" + m.Type + "/" + m.Symbol + ".html",
		}
		findings = append(findings, f)
	}
	return findings, nil
}

func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
