package report

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// maxCaseText bounds, in bytes, what is kept of one test's failure text: its first and last halves.
const maxCaseText = 32 << 10

// Outcome is how one test ended.
type Outcome string

// The outcomes of a test, from the best to the worst.
const (
	CasePassed  Outcome = "passed"
	CaseSkipped Outcome = "skipped"
	CaseFailed  Outcome = "failed"
	// CaseErrored means that the test could not run or be cleaned up after, for example for want of a fixture.
	CaseErrored Outcome = "errored"
)

// Tests is what a test runner has to say, as read from JUnit XML.
type Tests struct {
	Suites []Suite
}

// Suite is one group of tests: a whole run of pytest, or one Go package.
type Suite struct {
	Name  string
	Cases []Case
}

// Case is one test.
type Case struct {
	// Class is what the test lies in: a Python module with its classes, dotted, or a Go package's import path.
	Class string
	// Name is the test's own, with its parameters.
	Name string
	// File and Line are where the failure text says the test failed, or else where the report says it begins.
	// File is as the test runner wrote it; a Go file is prefixed by its package's import path. Line 0 means unknown.
	File string
	Line int
	// Seconds is how long the test took.
	Seconds float64
	Outcome Outcome
	// Message is the failure, error or skip in one line.
	Message string
	// Text is the failure's full text, cut in its middle when it has more than 32 KiB.
	Text string
}

// Totals counts tests by their outcome.
type Totals struct {
	Tests, Failures, Errors, Skipped int
	// Seconds is the sum of the tests' times, so less than the wall clock's by the runner's own work.
	Seconds float64
}

// Totals counts the tests of t. The counts in a report's own attributes are not used: runners disagree on them.
func (t Tests) Totals() Totals {
	var total Totals
	for _, suite := range t.Suites {
		for _, c := range suite.Cases {
			total.Tests++
			total.Seconds += c.Seconds
			switch c.Outcome {
			case CaseFailed:
				total.Failures++
			case CaseErrored:
				total.Errors++
			case CaseSkipped:
				total.Skipped++
			}
		}
	}
	return total
}

// Failed returns the tests that failed or errored.
func (t Tests) Failed() []Case {
	var failed []Case
	for _, suite := range t.Suites {
		for _, c := range suite.Cases {
			if c.Outcome == CaseFailed || c.Outcome == CaseErrored {
				failed = append(failed, c)
			}
		}
	}
	return failed
}

// Findings returns a finding of severity high for each test that failed or errored.
// A Go test that failed only because a subtest did is left out, as the subtest says why.
func (t Tests) Findings(tool string) []Finding {
	failed := t.Failed()
	parents := map[string]bool{}
	for _, c := range failed {
		for i := strings.LastIndexByte(c.Name, '/'); i > 0; i = strings.LastIndexByte(c.Name[:i], '/') {
			parents[c.Class+"\x00"+c.Name[:i]] = true
		}
	}
	var findings []Finding
	for _, c := range failed {
		if c.Line == 0 && parents[c.Class+"\x00"+c.Name] {
			continue
		}
		findings = append(findings, Finding{
			Tool: tool, Rule: c.Name, Severity: High, File: c.File, Line: c.Line, Message: c.Message,
		})
	}
	SortFindings(findings)
	return findings
}

// Durations maps each test's [Case.ID] to the seconds it took, for a later run's split into shards.
// Skipped tests are left out: that they took no time says nothing of a run in which they are not skipped.
func (t Tests) Durations() map[string]float64 {
	durations := map[string]float64{}
	for _, suite := range t.Suites {
		for _, c := range suite.Cases {
			if c.Outcome != CaseSkipped {
				durations[c.ID()] += c.Seconds
			}
		}
	}
	return durations
}

// ID names the test as its runner does: pytest's node ID (tests/test_api.py::TestHealth::test_ok), or a Go package
// and test (example.com/api.TestHealth).
//
// pytest's usual reports name no file. The module's path is then made of Class, whose last parts that begin with a
// capital letter are taken for classes; "-o junit_family=xunit1" adds the file and leaves nothing to guess.
func (c Case) ID() string {
	if c.isGo() {
		return c.Class + "." + c.Name
	}
	file, classes := c.module()
	if file == "" {
		return c.Name
	}
	if c.Class == "" && dotted(file) == c.Name {
		return file // a module that could not be imported
	}
	return strings.Join(append(append([]string{file}, classes...), c.Name), "::")
}

// isGo tells Go's tests from pytest's: only an import path has a slash, and only Go's names begin like these.
func (c Case) isGo() bool {
	if strings.Contains(c.Class, "/") || strings.HasSuffix(c.File, ".go") {
		return true
	}
	for _, prefix := range []string{"Test", "Fuzz", "Example", "Benchmark"} {
		if strings.HasPrefix(c.Name, prefix) && c.Class != "" && !strings.Contains(c.Class, ".") {
			return true
		}
	}
	return false
}

// module splits Class into the Python file and the classes in it.
func (c Case) module() (string, []string) {
	class := c.Class
	if class == "" {
		class = c.Name // pytest reports a module that could not be imported like so
	}
	if stem := dotted(c.File); stem != "" && strings.HasSuffix(c.File, ".py") {
		if class == stem {
			return c.File, nil
		}
		if rest, ok := strings.CutPrefix(class, stem+"."); ok {
			return c.File, strings.Split(rest, ".")
		}
	}
	if c.Class == "" && !strings.Contains(class, ".") {
		return "", nil
	}
	parts := strings.Split(class, ".")
	n := len(parts)
	for n > 1 && parts[n-1] != "" && 'A' <= parts[n-1][0] && parts[n-1][0] <= 'Z' {
		n--
	}
	return strings.Join(parts[:n], "/") + ".py", parts[n:]
}

// dotted returns a Python file's name as a module's.
func dotted(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(file, ".py"), "/", ".")
}

// MergeTests joins the reports of shards. Suites of one name become one; a test that ran in several shards counts once
// for each run.
func MergeTests(shards ...Tests) Tests {
	var merged Tests
	index := map[string]int{}
	for _, shard := range shards {
		for _, suite := range shard.Suites {
			i, ok := index[suite.Name]
			if !ok {
				i = len(merged.Suites)
				index[suite.Name] = i
				merged.Suites = append(merged.Suites, Suite{Name: suite.Name})
			}
			merged.Suites[i].Cases = append(merged.Suites[i].Cases, suite.Cases...)
		}
	}
	return merged
}

// ParseJUnit reads JUnit XML as pytest, gotestsum and go-junit-report write it.
//
// Characters that XML doesn't allow are replaced, and captured output is passed over. An empty file gives [ErrEmpty];
// a truncated one [ErrTruncated], together with the tests before the cut; one of more than [MaxInput] bytes an error.
func ParseJUnit(r io.Reader) (Tests, error) {
	data, err := readInput(r)
	if err != nil {
		return Tests{}, fmt.Errorf("read JUnit report: %w", err)
	}
	p := junitParser{dec: newXML(data)}
	if err := p.document(); err != nil {
		return p.tests, fmt.Errorf("read JUnit report: %w", explainXML(err))
	}
	return p.tests, nil
}

type junitParser struct {
	dec   *xml.Decoder
	tests Tests
	open  []int // the suites that are open, as indexes
}

func (p *junitParser) document() error {
	root := false
	for {
		token, err := p.dec.Token()
		if errors.Is(err, io.EOF) {
			if !root {
				return ErrTruncated
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch el := token.(type) {
		case xml.StartElement:
			name := el.Name.Local
			if !root && name != "testsuites" && name != "testsuite" {
				return fmt.Errorf("its root element is <%s>, not <testsuites> or <testsuite>", name)
			}
			root = true
			switch name {
			case "testsuites":
			case "testsuite":
				p.open = append(p.open, len(p.tests.Suites))
				p.tests.Suites = append(p.tests.Suites, Suite{Name: attr(el, "name")})
			case "testcase":
				if len(p.open) == 0 {
					return fmt.Errorf("a <testcase> stands outside of any <testsuite>")
				}
				if err := p.testcase(el); err != nil {
					return err
				}
			default:
				if err := p.dec.Skip(); err != nil {
					return err
				}
			}
		case xml.EndElement:
			if el.Name.Local == "testsuite" && len(p.open) > 0 {
				p.open = p.open[:len(p.open)-1]
			}
		}
	}
}

func (p *junitParser) testcase(start xml.StartElement) error {
	c := Case{
		Class: attr(start, "classname"), Name: attr(start, "name"), File: attr(start, "file"), Outcome: CasePassed,
	}
	c.Line = number(attr(start, "line"))
	if c.Line > 0 && strings.HasSuffix(c.File, ".py") {
		c.Line++ // pytest counts lines from 0
	}
	if text := attr(start, "time"); text != "" {
		// Some runners group thousands: "1,234.5".
		s, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
		if err != nil || !(s >= 0 && s <= 1e9) { // also NaN
			return fmt.Errorf("the time of test %q is %q, not a number of seconds", c.Name, text)
		}
		c.Seconds = s
	}
	var message string
	for {
		token, err := p.dec.Token()
		if err != nil {
			return err
		}
		switch el := token.(type) {
		case xml.EndElement:
			p.add(c, message)
			return nil
		case xml.StartElement:
			outcome := CasePassed
			switch el.Name.Local {
			case "failure":
				outcome = CaseFailed
			case "error":
				outcome = CaseErrored
			case "skipped":
				outcome = CaseSkipped
			}
			if outcome == CasePassed || c.Outcome == CaseFailed || c.Outcome == CaseErrored {
				// Of several failures the first is the cause.
				if err := p.dec.Skip(); err != nil {
					return err
				}
				continue
			}
			var body struct {
				Text string `xml:",chardata"`
			}
			if err := p.dec.DecodeElement(&body, &el); err != nil {
				return err
			}
			c.Outcome, c.Text, message = outcome, body.Text, attr(el, "message")
		}
	}
}

func (p *junitParser) add(c Case, message string) {
	if c.Outcome == CaseFailed || c.Outcome == CaseErrored {
		c.locate()
	}
	c.Message = c.explain(message)
	if len(c.Text) > maxCaseText {
		first := head(c.Text, maxCaseText/2)
		c.Text = first + "\n[…]\n" + strings.ToValidUTF8(c.Text[len(c.Text)-maxCaseText/2:], "")
	}
	c.Text = strings.Clone(c.Text) // not a slice of the whole file
	i := p.open[len(p.open)-1]
	p.tests.Suites[i].Cases = append(p.tests.Suites[i].Cases, c)
}

var (
	pyFrame  = regexp.MustCompile(`(?m)^([^\s:<>][^\n:<>]*\.py):(\d+):`)
	pySyntax = regexp.MustCompile(`File "([^"\n]+\.py)", line (\d+)`)
	goPlace  = regexp.MustCompile(`(?m)^\s*(?:\S+: )?([\w.\-]+\.go):(\d+): ?(.*)$`)
	goFrame  = regexp.MustCompile(`(?m)^\s+(/\S*/)?([\w.\-]+_test\.go):(\d+)`)
	pyError  = regexp.MustCompile(`(?m)^E +(\w[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b.*)$`)
	goPanic  = regexp.MustCompile(`(?m)^panic: .*$`)
)

// locate finds where the test failed in its failure text: the last frame in the test's own file,
// because that is the line a person looks for first; else where the report says that the test begins;
// else the last frame inside the source tree.
func (c *Case) locate() {
	if c.isGo() {
		if m := goPlace.FindStringSubmatch(c.Text); m != nil {
			c.File, c.Line = path.Join(c.Class, m[1]), number(m[2])
		} else if m := goFrame.FindStringSubmatch(c.Text); m != nil {
			c.File, c.Line = path.Join(c.Class, m[2]), number(m[3])
		}
		return
	}
	own, _ := c.module()
	frames := pyFrame.FindAllStringSubmatch(c.Text, -1)
	slices.Reverse(frames)
	if m := lastMatch(pySyntax, c.Text); m != nil {
		frames = append([][]string{m}, frames...)
	}
	var elsewhere []string
	for _, m := range frames {
		if own != "" && (m[1] == own || strings.HasSuffix(m[1], "/"+own)) {
			c.File, c.Line = own, number(m[2])
			return
		}
		outside := path.IsAbs(m[1]) || strings.HasPrefix(m[1], "../") || strings.Contains(m[1], "site-packages/")
		if elsewhere == nil && !outside {
			elsewhere = m
		}
	}
	switch {
	case c.File != "" && c.Line > 0:
	case elsewhere != nil:
		c.File, c.Line = elsewhere[1], number(elsewhere[2])
	case c.File == "" && own != "":
		c.File = own
	}
}

func lastMatch(re *regexp.Regexp, text string) []string {
	all := re.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// explain returns the one line that says most: the runner's message unless that says nothing
// ("Failed", "collection failure"), else what the failure text says.
func (c *Case) explain(message string) string {
	line := oneLine(message)
	vague := line == "" || line == "Failed" || line == "Skipped" || line == "collection failure" ||
		strings.HasPrefix(line, "=== ")
	if vague {
		text := c.Text
		if c.Outcome == CaseSkipped && text == "" {
			text = message // gotestsum puts all of the test's output there
		}
		switch {
		case c.isGo():
			if m := goPanic.FindString(text); m != "" {
				return oneLine(m)
			}
			if m := goPlace.FindStringSubmatch(text); m != nil && m[3] != "" {
				return oneLine(m[3])
			}
		default:
			if m := lastMatch(pyError, text); m != nil {
				return oneLine(m[1])
			}
		}
	}
	switch {
	case line != "" && !strings.HasPrefix(line, "=== "):
		return line
	case c.Outcome == CaseFailed || c.Outcome == CaseErrored:
		return "the test " + string(c.Outcome) + " and says no more"
	}
	return ""
}

func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func attr(el xml.StartElement, name string) string {
	for _, a := range el.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// newXML returns a decoder over data with what XML forbids replaced.
func newXML(data []byte) *xml.Decoder {
	dec := xml.NewDecoder(strings.NewReader(string(cleanXML(data))))
	// Every encoding that a report declares is one that ASCII is a part of, and what isn't UTF-8 has been replaced.
	dec.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil }
	return dec
}

// explainXML turns the decoder's error for a document that ends early into [ErrTruncated].
func explainXML(err error) error {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		if strings.Contains(syntax.Msg, "unexpected EOF") {
			return fmt.Errorf("%w (line %d)", ErrTruncated, syntax.Line)
		}
		return fmt.Errorf("line %d: %s", syntax.Line, syntax.Msg)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}

type (
	xmlSuites struct {
		XMLName  xml.Name `xml:"testsuites"`
		Name     string   `xml:"name,attr"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Time     string   `xml:"time,attr"`
		Suite    xmlSuite `xml:"testsuite"`
	}
	xmlSuite struct {
		Name      string    `xml:"name,attr"`
		Tests     int       `xml:"tests,attr"`
		Failures  int       `xml:"failures,attr"`
		Errors    int       `xml:"errors,attr"`
		Skipped   int       `xml:"skipped,attr"`
		Time      string    `xml:"time,attr"`
		Timestamp string    `xml:"timestamp,attr"`
		Cases     []xmlCase `xml:"testcase"`
	}
	xmlCase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    string   `xml:"time,attr"`
		Failure *xmlText `xml:"failure"`
		Error   *xmlText `xml:"error"`
		Skipped *xmlText `xml:"skipped"`
	}
	xmlText struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// maxListed bounds the findings that stand in one node's failure text.
const maxListed = 100

// WriteJUnit writes run as JUnit XML, each node a test case, so that a CI host's test view shows it.
// Failed and inconclusive nodes are failures, errored ones errors, cancelled ones skipped.
func WriteJUnit(w io.Writer, run Run) error {
	suite := xmlSuite{
		Name: printable(run.Graph), Time: decimal(run.Seconds), Timestamp: run.Started.UTC().Format("2006-01-02T15:04:05Z"),
	}
	for _, n := range run.Nodes {
		c := xmlCase{Class: printable(run.Graph), Name: printable(n.Name), Time: decimal(n.Seconds)}
		text := &xmlText{Type: string(n.Verdict), Message: printable(n.Reason), Text: nodeText(n)}
		suite.Tests++
		switch n.Verdict {
		case graph.Passed:
		case graph.Failed, graph.Inconclusive:
			suite.Failures++
			c.Failure = text
		case graph.Errored:
			suite.Errors++
			c.Error = text
		default:
			suite.Skipped++
			c.Skipped = &xmlText{Message: text.Message}
		}
		suite.Cases = append(suite.Cases, c)
	}
	if run.Error != "" {
		suite.Tests++
		suite.Errors++
		suite.Cases = append(suite.Cases, xmlCase{
			Class: suite.Name, Name: suite.Name, Time: decimal(0),
			Error: &xmlText{Type: string(graph.Errored), Message: oneLine(run.Error), Text: printable(run.Error)},
		})
	}
	doc := xmlSuites{
		Name: suite.Name, Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Skipped: suite.Skipped,
		Time: suite.Time, Suite: suite,
	}
	out, err := xml.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", xml.Header, out); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}

// nodeText is all that a node has to say of its failure, as plain text.
func nodeText(n Node) string {
	var b strings.Builder
	for i, f := range n.Details {
		if i == maxListed {
			fmt.Fprintf(&b, "… and %d more findings\n", len(n.Details)-maxListed)
			break
		}
		fmt.Fprintln(&b, flat(f.String()))
	}
	for _, text := range []string{n.Error, n.Stack, n.Output} {
		if text = strings.TrimRight(printable(text), "\n"); text != "" {
			fmt.Fprintln(&b, text)
		}
	}
	return b.String()
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
