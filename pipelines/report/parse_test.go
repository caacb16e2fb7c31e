package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/report"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}

func parseJUnit(t testing.TB, text string) report.Tests {
	t.Helper()
	tests, err := report.ParseJUnit(strings.NewReader(text))
	require.NoError(t, err)
	return tests
}

func TestParseJUnitOfPytest(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pytest.xml", "pytest-xunit1.xml"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tests := parseJUnit(t, string(sample(t, name)))
			totals := tests.Totals()
			require.InDelta(t, 0.005, totals.Seconds, 0.005)
			totals.Seconds = 0
			require.Equal(t, report.Totals{Tests: 9, Failures: 2, Errors: 3, Skipped: 2}, totals)

			var got []string
			for _, f := range tests.Findings("pytest") {
				require.Equal(t, report.High, f.Severity)
				got = append(got, f.String())
			}
			require.Equal(t, []string{
				"tests/test_import.py:1: ModuleNotFoundError: No module named 'nothere' (pytest tests.test_import)",
				"tests/test_score.py:11: assert 0.25 == 0.5 (pytest test_half[3])",
				// Not app/score.py:8, where it was raised: the reader wants to see the test first.
				"tests/test_score.py:15: ValueError: visits must not be negative (pytest test_negative)",
				`tests/test_score.py:21: failed on teardown with "RuntimeError: no database#x1B[31m" (pytest test_teardown)`,
				"tests/test_syntax.py:1: SyntaxError: invalid syntax (pytest tests.test_syntax)",
			}, got)
			require.Equal(t, []string{
				"tests/test_import.py", "tests/test_score.py::TestChurn::test_half[1]", "tests/test_score.py::TestChurn::test_half[3]",
				"tests/test_score.py::TestChurn::test_zero", "tests/test_score.py::test_negative", "tests/test_score.py::test_teardown",
				"tests/test_syntax.py",
			}, slices.Sorted(maps.Keys(tests.Durations())), "skipped tests have no duration")
			require.Equal(t, "needs a GPU", tests.Suites[0].Cases[7].Message)
		})
	}
}

func TestParseJUnitOfGo(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"gotestsum.xml": {
			"example.com/scores/churn/churn_test.go:7: Score(1) = 0.5, want 1 (go test TestScore)",
			"example.com/scores/churn/churn_test.go:13: bad luck (go test TestSub/bad)",
			"example.com/scores/churn/churn_test.go:18: panic: assignment to entry in nil map [recovered, repanicked] (go test TestPanic)",
		},
		"go-junit-report.xml": {
			"example.com/scores/churn/churn_test.go:7: Score(1) = 0.5, want 1 (go test TestScore)",
			"example.com/scores/churn/churn_test.go:13: bad luck (go test TestSub/bad)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tests := parseJUnit(t, string(sample(t, name)))
			var got []string
			for _, f := range tests.Findings("go test") {
				got = append(got, f.String())
			}
			require.Equal(t, want, got, "TestSub failed only because TestSub/bad did")
			require.Contains(t, tests.Durations(), "example.com/scores/churn.TestSub/ok")
			require.Equal(t, 1, tests.Totals().Skipped)
			for _, c := range tests.Suites[0].Cases {
				if c.Outcome == report.CaseSkipped {
					require.Equal(t, "no engine", c.Message)
				}
			}
		})
	}
}

func TestParseJUnitOddities(t *testing.T) {
	t.Parallel()
	wrap := func(cases string) string { return `<testsuite name="s">` + cases + `</testsuite>` }
	for name, c := range map[string]struct {
		xml  string
		want report.Case
	}{
		"control characters": {
			wrap("<testcase classname='a' name='n\x00\x1b'><failure message='\xff&#27;&#xFFFFFFFFF;'>x\x07</failure></testcase>"),
			report.Case{Class: "a", Name: "n\uFFFD\uFFFD", File: "a.py", Outcome: report.CaseFailed, Message: "\uFFFD\uFFFD\uFFFD", Text: "x\uFFFD"},
		},
		"failure without a word": {
			wrap("<testcase classname='tests.a.B.C' name='n'><failure/></testcase>"),
			report.Case{Class: "tests.a.B.C", Name: "n", File: "tests/a.py", Outcome: report.CaseFailed, Message: "the test failed and says no more"},
		},
		"the first of two failures": {
			wrap("<testcase classname='a' name='n'><failure message='one'/><error message='two'/></testcase>"),
			report.Case{Class: "a", Name: "n", File: "a.py", Outcome: report.CaseFailed, Message: "one"},
		},
		"captured output is passed over": {
			wrap("<properties><property name='p'/></properties><testcase classname='a' name='n' time='1,234.5'><system-out><b>x</b></system-out></testcase>"),
			report.Case{Class: "a", Name: "n", Seconds: 1234.5, Outcome: report.CasePassed},
		},
		"place from attributes": {
			wrap("<testcase classname='a' name='n' file='x y/a.py' line='7'><error message='m'>b.py:9: E</error></testcase>"),
			report.Case{Class: "a", Name: "n", File: "x y/a.py", Line: 8, Outcome: report.CaseErrored, Message: "m", Text: "b.py:9: E"},
		},
		"another declared encoding": {
			"<?xml version='1.0' encoding='iso-8859-1'?>" + wrap("<testcase classname='a' name='caf\xe9'/>"),
			report.Case{Class: "a", Name: "caf\uFFFD", Outcome: report.CasePassed},
		},
		"nested suites": {
			wrap("<testsuite name='inner'></testsuite><testcase classname='a' name='n'/>"),
			report.Case{Class: "a", Name: "n", Outcome: report.CasePassed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tests := parseJUnit(t, c.xml)
			require.Equal(t, "s", tests.Suites[0].Name)
			require.Equal(t, []report.Case{c.want}, tests.Suites[0].Cases)
		})
	}
}

func TestParseJUnitBoundsText(t *testing.T) {
	t.Parallel()
	long := "first\n" + strings.Repeat("é", 1<<20) + "\nlast"
	tests := parseJUnit(t, `<testsuite name="s"><testcase classname="a" name="n"><failure message="m">`+long+`</failure></testcase></testsuite>`)
	text := tests.Suites[0].Cases[0].Text
	require.Less(t, len(text), 40<<10)
	require.True(t, utf8.ValidString(text))
	require.True(t, strings.HasPrefix(text, "first") && strings.HasSuffix(text, "last") && strings.Contains(text, "[…]"))
}

func TestMergeTests(t *testing.T) {
	t.Parallel()
	one := parseJUnit(t, `<testsuites><testsuite name="pytest"><testcase classname="a" name="x" time="1"/></testsuite></testsuites>`)
	two := parseJUnit(t, `<testsuites><testsuite name="pytest"><testcase classname="a" name="y" time="2"><failure/></testcase></testsuite><testsuite name="more"/></testsuites>`)
	merged := report.MergeTests(one, two)
	require.Len(t, merged.Suites, 2)
	require.Equal(t, report.Totals{Tests: 2, Failures: 1, Seconds: 3}, merged.Totals())
	require.Equal(t, map[string]float64{"a.py::x": 1, "a.py::y": 2}, merged.Durations())
	require.Len(t, one.Suites[0].Cases, 1, "the parts stay as they are")
	require.Zero(t, report.MergeTests().Totals())
}

// endless is a reader without an end, as a runaway tool's report is.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestBadFiles gives every parser the files that tools leave behind when they are killed or write something else.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	parsers := map[string]struct {
		parse  func(io.Reader) error
		sample string
		cut    int // how much of the sample is left when it is truncated
	}{
		"JUnit":        {func(r io.Reader) error { _, err := report.ParseJUnit(r); return err }, "pytest.xml", 900},
		"Cobertura":    {func(r io.Reader) error { _, err := report.ParseCobertura(r, "/src"); return err }, "cobertura.xml", 700},
		"SARIF":        {func(r io.Reader) error { _, err := report.ReadSARIF(r, "/src"); return err }, "bandit.sarif", 3000},
		"coverprofile": {func(r io.Reader) error { _, err := report.ParseCoverprofile(r, ""); return err }, "cover.out", 95},
	}
	for name, p := range parsers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := sample(t, p.sample)
			require.NoError(t, p.parse(bytes.NewReader(good)))
			require.ErrorIs(t, p.parse(strings.NewReader("")), report.ErrEmpty)
			require.ErrorIs(t, p.parse(strings.NewReader("\n \n")), report.ErrEmpty)
			require.ErrorContains(t, p.parse(endless{}), "more than 64 MiB")
			err := p.parse(bytes.NewReader(good[:p.cut]))
			require.Error(t, err)
			if name != "coverprofile" { // which has no end to miss, so that only its last line is wrong
				require.ErrorIs(t, err, report.ErrTruncated)
			}
			for _, other := range []string{"pytest.xml", "cobertura.xml", "bandit.sarif", "cover.out"} {
				if other != p.sample {
					require.Error(t, p.parse(bytes.NewReader(sample(t, other))), other)
				}
			}
			require.Error(t, p.parse(strings.NewReader("<html><body>502 Bad Gateway</body></html>")))
			require.ErrorIs(t, p.parse(io.MultiReader(bytes.NewReader(good), failing{})), errBroken)
		})
	}
}

var errBroken = errors.New("broken pipe")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

func TestTruncatedJUnitKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	data := sample(t, "pytest.xml")
	head, _, found := bytes.Cut(data, []byte("test_negative"))
	require.True(t, found)
	tests, err := report.ParseJUnit(bytes.NewReader(head))
	require.ErrorIs(t, err, report.ErrTruncated)
	require.Equal(t, 5, tests.Totals().Tests)
}

func TestBadJUnit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<html/>": "<html>",
		"<testsuites><testcase name='n'/></testsuites>":                       "outside",
		"<testsuite><testcase name='n' time='soon'/></testsuite>":             `"soon"`,
		"<testsuite><testcase name='n' time='-1'/></testsuite>":               `"-1"`,
		"<testsuite><testcase name='n' time='NaN'/></testsuite>":              `"NaN"`,
		"<testsuite></testcase></testsuite>":                                  "line 1",
		"<!DOCTYPE x [<!ENTITY a 'b'>]><testsuite name='&a;'></testsuite>":    "entity",
		"<?xml version='1.0'?>":                                               "ends in the middle",
		"<testsuite><testcase name='n'><failure>x</testcase></testsuite>":     "line 1",
		"<testsuite>" + strings.Repeat("<properties>", 5000):                  "ends in the middle",
		"<testsuite><testcase name='n'/></testsuite><testcase name='other'/>": "outside",
	} {
		_, err := report.ParseJUnit(strings.NewReader(text))
		require.ErrorContains(t, err, want, text)
	}
}

func TestCaseID(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]report.Case{
		"tests/test_api.py::test_ok":                       {Class: "tests.test_api", Name: "test_ok"},
		"tests/test_api.py::TestA::TestB::test_ok[a::b.c]": {Class: "tests.test_api.TestA.TestB", Name: "test_ok[a::b.c]"},
		"Tests/test_api.py::Odd::test_ok":                  {Class: "Tests.test_api.Odd", Name: "test_ok", File: "Tests/test_api.py"},
		"tests/test_api.py::lower::test_ok":                {Class: "tests.test_api.lower", Name: "test_ok", File: "tests/test_api.py"},
		"tests/test_bad.py":                                {Class: "", Name: "tests.test_bad"},
		"test_alone":                                       {Class: "", Name: "test_alone"},
		"example.com/a/b.TestX/y":                          {Class: "example.com/a/b", Name: "TestX/y"},
		"main.TestX":                                       {Class: "main", Name: "TestX"},
	} {
		require.Equal(t, want, c.ID())
	}
}

func checkJUnit(t *testing.T, run report.Run) {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, report.WriteJUnit(&b, run))
	require.True(t, utf8.ValidString(b.String()))
	strict := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	for {
		if _, err := strict.Token(); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
	}
	tests, err := report.ParseJUnit(&b)
	require.NoError(t, err)
	require.Len(t, tests.Suites[0].Cases, len(run.Nodes))
}

func TestJUnitOfRunReadsBack(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, report.WriteJUnit(&b, failedRun()))
	totals := parseJUnit(t, b.String()).Totals()
	totals.Seconds = 0
	require.Equal(t, report.Totals{Tests: 8, Failures: 2, Errors: 1, Skipped: 3}, totals)
	require.Error(t, report.WriteJUnit(failingWriter{}, failedRun()))
	require.Error(t, report.WriteHTML(failingWriter{}, failedRun()))
	require.Error(t, report.WriteSARIF(failingWriter{}, nil, nil))
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestParseCobertura(t *testing.T) {
	t.Parallel()
	for root, want := range map[string]string{"/src": "app/score.py", "/src/": "app/score.py", "": "score.py", "/other": "/src/app/score.py"} {
		c, err := report.ParseCobertura(bytes.NewReader(sample(t, "cobertura.xml")), root)
		require.NoError(t, err)
		require.InDelta(t, 75, c.Percent(), 1e-9)
		require.Len(t, c.Files, 2)
		require.Equal(t, want, c.Files[1].Path)
		require.Equal(t, 8, c.Files[1].Total)
		require.Equal(t, 6, c.Files[1].Covered)
		require.Zero(t, c.Files[0].Percent(), "an empty file has nothing to cover")
	}
	class := func(file, lines string) string {
		return fmt.Sprintf(`<coverage><packages><package><classes><class filename="%s"><lines>%s</lines></class></classes></package></packages></coverage>`, file, lines)
	}
	for text, want := range map[string]string{
		class("", ""): "no filename",
		class("a.py", `<line number="x" hits="1"/>`):    `numbered "x"`,
		class("a.py", `<line number="1" hits="many"/>`): `"many" times`,
		class("a.py", `<line number="-1" hits="1"/>`):   `numbered "-1"`,
	} {
		_, err := report.ParseCobertura(strings.NewReader(text), "")
		require.ErrorContains(t, err, want)
	}
	c, err := report.ParseCobertura(strings.NewReader(class("a.py", `<line number="1" hits="99999999999999999999"/>`)), "")
	require.NoError(t, err)
	require.InDelta(t, 100, c.Percent(), 1e-9)
	require.Zero(t, report.Coverage{}.Percent(), "no threshold is met by measuring nothing")
}

func TestMergeCoverage(t *testing.T) {
	t.Parallel()
	parse := func(lines string) report.Coverage {
		c, err := report.ParseCobertura(strings.NewReader(`<coverage><packages><package><classes>`+
			`<class filename="p/a.py"><lines>`+lines+`</lines></class><class filename="p/__init__.py"/></classes></package></packages></coverage>`), "")
		require.NoError(t, err)
		return c
	}
	one := parse(`<line number="1" hits="1"/><line number="2" hits="1"/><line number="3" hits="0"/><line number="4" hits="0"/>`)
	two := parse(`<line number="1" hits="1"/><line number="2" hits="0"/><line number="3" hits="2"/><line number="4" hits="0"/>`)
	merged := report.MergeCoverage(one, two)
	total, covered := merged.Count()
	require.Equal(t, 4, total)
	require.Equal(t, 3, covered)
	require.Len(t, merged.Files, 2, "a file without code is kept")
	require.InDelta(t, 50, one.Percent(), 1e-9, "the parts stay as they are")
	require.Equal(t, merged, report.MergeCoverage(two, one), "in whatever order")
	require.Equal(t, merged, report.MergeCoverage(merged, merged), "nothing counts twice")
}

func TestParseCoverprofile(t *testing.T) {
	t.Parallel()
	c, err := report.ParseCoverprofile(bytes.NewReader(sample(t, "cover.out")), "example.com/scores")
	require.NoError(t, err)
	require.InDelta(t, 200.0/3, c.Percent(), 1e-9, "as go test said: 66.7% of statements")
	require.Equal(t, "churn/churn.go", c.Files[0].Path)

	c, err = report.ParseCoverprofile(strings.NewReader("mode: atomic\nm/a/x.go:1.1,2.2 3 9\nm/a/y.go:1.1,2.2 1 0\nm/b/z.go:1.1,2.2 4 0\nm/a/y.go:1.1,2.2 1 5\n"), "")
	require.NoError(t, err)
	packages := c.Packages()
	require.Len(t, packages, 2)
	require.Equal(t, "m/a", packages[0].Path)
	require.InDelta(t, 100, packages[0].Percent(), 1e-9, "a block that any test binary reached is covered")
	require.Zero(t, packages[1].Percent())
	require.InDelta(t, 50, c.Percent(), 1e-9)

	c, err = report.ParseCoverprofile(strings.NewReader("mode: set\n"), "")
	require.NoError(t, err)
	require.Empty(t, c.Files)
	_, err = report.ParseCoverprofile(strings.NewReader("m/a/x.go:1.1,2.2 3 9\n"), "")
	require.ErrorContains(t, err, "read coverprofile")
}

func TestReadSARIFOfBandit(t *testing.T) {
	t.Parallel()
	findings, err := report.ReadSARIF(bytes.NewReader(sample(t, "bandit.sarif")), "/src")
	require.NoError(t, err)
	require.Len(t, findings, 3)
	require.Equal(t, report.Finding{
		Tool: "Bandit", Rule: "B602", Severity: report.High, File: "app/score.py", Line: 15, Column: 12,
		Message: "subprocess call with shell=True identified, security issue.",
		URL:     "https://bandit.readthedocs.io/en/1.9.4/plugins/b602_subprocess_popen_with_shell_equals_true.html",
	}, findings[2])
	require.Equal(t, report.Low, findings[0].Severity)
}

func TestReadSARIF(t *testing.T) {
	t.Parallel()
	doc := func(result string) string {
		return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x","rules":[` +
			`{"id":"R1","helpUri":"https://r1","properties":{"security-severity":"9.8"},"messageStrings":{"m":{"text":"found {0} in {1}"}}},` +
			`{"id":"R2","defaultConfiguration":{"level":"note"}}]}},"results":[` + result + `]}]}`
	}
	for name, c := range map[string]struct {
		result string
		want   []report.Finding
	}{
		"score of the rule": {`{"ruleId":"R1","message":{"text":"m"}}`, []report.Finding{{Tool: "x", Rule: "R1", Severity: report.Critical, Message: "m", URL: "https://r1"}}},
		"rule by index":     {`{"ruleIndex":1,"message":{"text":"m"}}`, []report.Finding{{Tool: "x", Rule: "R2", Severity: report.Low, Message: "m"}}},
		"rule by reference": {`{"rule":{"id":"R2"},"level":"error","message":{"text":"m"}}`, []report.Finding{{Tool: "x", Rule: "R2", Severity: report.High, Message: "m"}}},
		"unknown rule":      {`{"ruleId":"R9","ruleIndex":77,"message":{"text":" m\n"}}`, []report.Finding{{Tool: "x", Rule: "R9", Severity: report.Medium, Message: "m"}}},
		"message by ID":     {`{"ruleId":"R1","level":"none","message":{"id":"m","arguments":["a","b"]}}`, []report.Finding{{Tool: "x", Rule: "R1", Severity: report.Critical, Message: "found a in b", URL: "https://r1"}}},
		"escaped file": {
			`{"ruleId":"R9","level":"none","message":{"text":"m"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"file:///src/a%20b/%C3%A9.py"},"region":{"startLine":3}}}]}`,
			[]report.Finding{{Tool: "x", Rule: "R9", Severity: report.Info, Message: "m", File: "a b/é.py", Line: 3}},
		},
		"other scheme": {
			`{"ruleId":"R9","message":{"text":"m"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"https://h/x"}}}]}`,
			[]report.Finding{{Tool: "x", Rule: "R9", Severity: report.Medium, Message: "m", File: "https://h/x"}},
		},
		"suppressed":       {`{"ruleId":"R9","message":{"text":"m"},"suppressions":[{"kind":"inSource"}]}`, nil},
		"not suppressed":   {`{"ruleId":"R9","message":{"text":"m"},"suppressions":[{"kind":"external","status":"rejected"}]}`, []report.Finding{{Tool: "x", Rule: "R9", Severity: report.Medium, Message: "m"}}},
		"gone":             {`{"ruleId":"R9","message":{"text":"m"},"baselineState":"absent"}`, nil},
		"all is well":      {`{"ruleId":"R9","kind":"pass","message":{"text":"m"}}`, nil},
		"nothing but null": {`null, {"locations":[null]}`, []report.Finding{{Tool: "x", Rule: "R1", Severity: report.Critical, URL: "https://r1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := report.ReadSARIF(strings.NewReader(doc(c.result)), "/src")
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	for text, want := range map[string]string{
		`{"version":"1.0.0","runs":[]}`:              `"1.0.0"`,
		`{}`:                                         `version is ""`,
		`{"version":"2.1.0","runs":[{}]}`:            "doesn't name its tool",
		`{"version":"2.1.0","runs":[null]}`:          "doesn't name its tool",
		`{"version":"2.1.0","runs":{}}`:              "cannot unmarshal",
		`{"version":"2.1.0","runs":[{"results":1}]}`: "cannot unmarshal",
	} {
		_, err := report.ReadSARIF(strings.NewReader(text), "")
		require.ErrorContains(t, err, want)
	}
}

// checkSARIF writes a run's findings, holds them against the standard's own schema, and reads them again.
func checkSARIF(t *testing.T, run report.Run) {
	t.Helper()
	var b bytes.Buffer
	findings := run.Findings()
	require.NoError(t, report.WriteSARIF(&b, findings, run.Tools()))
	again, err := report.ReadSARIF(bytes.NewReader(b.Bytes()), "")
	require.NoError(t, err)
	require.Len(t, again, len(findings))
}

func TestSARIFRoundTrip(t *testing.T) {
	t.Parallel()
	findings := []report.Finding{
		{Tool: "bandit", Rule: "B1", Severity: report.Critical, File: "a b/é#?%.py", Line: 3, Column: 4, Message: "m <b>", URL: "https://x/y"},
		{Tool: "bandit", Rule: "B1", Severity: report.Info, File: "a:b.py", Line: 3, Message: "m"},
		{Tool: "bandit", Rule: "B2", Severity: report.Low, File: "c.py", Message: "whole file"},
		{Tool: "safety", Rule: "safety", Severity: report.Medium, Message: "no place"},
		{Tool: "safety", Rule: "V1", Severity: report.High, Message: "n", URL: "https://v1"},
	}
	var b bytes.Buffer
	require.NoError(t, report.WriteSARIF(&b, findings, map[string]string{"bandit": "1.9.4", "mypy": "1.18.2"}))
	doc, err := sarif.FromBytes(b.Bytes(), sarif.WithStrictValidation())
	require.NoError(t, err)
	require.NoError(t, doc.Validate())
	require.Len(t, doc.Runs, 3, "mypy ran too, and found nothing")
	require.Equal(t, "1.9.4", *doc.Runs[0].Tool.Driver.Version)
	require.Equal(t, "error", doc.Runs[0].Results[0].Level[:5])

	again, err := report.ReadSARIF(&b, "")
	require.NoError(t, err)
	report.SortFindings(findings)
	require.Equal(t, findings, again)
}

func TestSeverityOfCVSS(t *testing.T) {
	t.Parallel()
	for score, want := range map[float64]report.Severity{0: report.Info, 0.1: report.Low, 4: report.Medium, 6.9: report.Medium, 7: report.High, 9: report.Critical, 10: report.Critical} {
		require.Equal(t, want, report.SeverityOfCVSS(score))
	}
}

func FuzzParseJUnit(f *testing.F) {
	for _, name := range []string{"pytest.xml", "gotestsum.xml", "go-junit-report.xml"} {
		f.Add(sample(f, name))
	}
	f.Add([]byte("<testsuite><testcase name='n\x00'><failure>&#0;</failure></testcase>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tests, err := report.ParseJUnit(bytes.NewReader(data))
		total := tests.Totals()
		if err == nil && total.Failures+total.Errors+total.Skipped > total.Tests {
			t.Fatalf("more outcomes than tests: %+v", total)
		}
		for _, finding := range report.MergeTests(tests, tests).Findings("x") {
			if finding.Message == "" || finding.Line < 0 || !utf8.ValidString(finding.String()) {
				t.Fatalf("unusable finding %+v", finding)
			}
		}
		tests.Durations()
	})
}

func FuzzParseCobertura(f *testing.F) {
	f.Add(sample(f, "cobertura.xml"), "/src")
	f.Add([]byte(`<coverage><sources><source>..</source></sources></coverage>`), "")
	f.Fuzz(func(t *testing.T, data []byte, root string) {
		c, err := report.ParseCobertura(bytes.NewReader(data), root)
		checkCoverage(t, c, err)
	})
}

func FuzzParseCoverprofile(f *testing.F) {
	f.Add(sample(f, "cover.out"), "example.com/scores")
	f.Add([]byte("mode: set\na.go:2.1,1.2 1 1\na.go:1.1,1.2 -1 1\n"), "")
	f.Fuzz(func(t *testing.T, data []byte, module string) {
		c, err := report.ParseCoverprofile(bytes.NewReader(data), module)
		checkCoverage(t, c, err)
	})
}

func checkCoverage(t *testing.T, c report.Coverage, err error) {
	t.Helper()
	if err != nil {
		return
	}
	if p := c.Percent(); !(p >= 0 && p <= 100) {
		t.Fatalf("%v percent", p)
	}
	twice := report.MergeCoverage(c, c)
	if twice.Percent() != c.Percent() {
		t.Fatalf("%v percent became %v when merged with itself", c.Percent(), twice.Percent())
	}
}

func FuzzReadSARIF(f *testing.F) {
	f.Add(sample(f, "bandit.sarif"))
	f.Add([]byte(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[null,{"suppressions":[null],"locations":[{"physicalLocation":{}}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		findings, err := report.ReadSARIF(bytes.NewReader(data), "/src")
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := report.WriteSARIF(&b, findings, nil); err != nil {
			t.Fatal(err)
		}
		again, err := report.ReadSARIF(&b, "")
		if err != nil || len(again) != len(findings) {
			t.Fatalf("%d findings became %d: %v", len(findings), len(again), err)
		}
	})
}

func FuzzDecodeRun(f *testing.F) {
	good, err := failedRun().Encode()
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`{"schema":"millrace/run/v1","graph":"g","verdict":"failed","nodes":[{"name":"a","verdict":"failed","seconds":-1e300}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		run, err := report.DecodeRun(data)
		if err != nil {
			return
		}
		encoded, err := run.Encode()
		if err != nil {
			var year *json.MarshalerError // a year beyond 9999 can't be written
			if errors.As(err, &year) {
				return
			}
			t.Fatal(err)
		}
		if _, err := report.DecodeRun(encoded); err != nil {
			t.Fatal(err)
		}
		report.Text(run, 80)
		report.Markdown(run)
		if err := report.WriteHTML(io.Discard, run); err != nil {
			t.Fatal(err)
		}
	})
}
