package python

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/report"
)

// captured reads what a real tool, in the version that the lock pins, printed.
func captured(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return string(text)
}

func TestParsersFindWhatTheToolsPrint(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 196) + ".py"
	parsers := map[string]func(string, string, int) ([]report.Finding, error){
		"black": parseBlack, "isort": parseIsort, "flake8": parseFlake8, "mypy": parseMypy, "pylint": parsePylint,
	}
	for _, test := range []struct {
		tool, capture string
		exit, count   int
		want          []string // some of the findings, severity first
	}{
		{"black", "findings", 1, 3, []string{
			"low pkg/bad.py:4: would be reformatted (black)",
			"low pkg/new\nline.py:2: would be reformatted (black)",
			"low pkg/with space 'quote\".py:4: would be reformatted (black)",
		}},
		{"black", "syntax", 123, 4, []string{
			"high pkg/broken.py:1:11: cannot parse: ParseError: bad input (black cannot-parse)",
			"low pkg/new\nline.py:2: would be reformatted (black)",
		}},
		{"black", "long", 1, 1, []string{"low " + long + ":2: would be reformatted (black)"}},
		{"isort", "findings", 1, 3, []string{
			"low pkg/bad.py:1: imports are not sorted or not formatted (isort)",
			"low pkg/new\nline.py:2: imports are not sorted or not formatted (isort)",
			"low pkg/with space 'quote\".py:1: imports are not sorted or not formatted (isort)",
		}},
		{"flake8", "findings", 1, 25, []string{
			"medium pkg/bad.py:1:1: 'sys' imported but unused (flake8 F401)",
			"low pkg/new\nline.py:2:7: multiple spaces after keyword (flake8 E271)",
			"low pkg/with space 'quote\".py:7:8: multiple statements on one line (colon) (flake8 E701)",
		}},
		{"flake8", "syntax", 1, 26, []string{"high pkg/broken.py:1:13: SyntaxError: invalid syntax (flake8 E999)"}},
		{"mypy", "findings", 1, 2, []string{
			`medium pkg/bad.py:6:12: Incompatible return value type (got "int", expected "str") (mypy return-value)`,
		}},
		{"mypy", "syntax", 2, 2, []string{"high pkg/broken.py:1:14: Expected `)`, found newline (mypy syntax)"}},
		{"mypy", "duplicate", 2, 1, []string{
			`medium b/main.py: Duplicate module named "main" (also at "./a/main.py") ` +
				"(See https://mypy.readthedocs.io/en/stable/running_mypy.html#mapping-file-paths-to-modules for more info) (mypy)",
		}},
		{"pylint", "findings", 28, 32, []string{"low pkg/bad.py:1:1: Multiple imports on one line (sys, os) (pylint multiple-imports)"}},
		{"pylint", "syntax", 30, 33, []string{
			"high pkg/broken.py:1:13: Parsing failed: 'invalid syntax (pkg.broken, line 1)' (pylint syntax-error)",
		}},
	} {
		t.Run(test.tool+"-"+test.capture, func(t *testing.T) {
			t.Parallel()
			name := test.tool + "-" + test.capture
			findings, err := parsers[test.tool](captured(t, name+".stdout"), captured(t, name+".stderr"), test.exit)
			require.NoError(t, err)
			var got []string
			for _, f := range findings {
				require.Equal(t, test.tool, f.Tool)
				got = append(got, string(f.Severity)+" "+f.String())
			}
			require.Len(t, got, test.count)
			require.Subset(t, got, test.want)
		})
	}
}

func TestParsersPassOnTheWordsOfAToolThatBroke(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tool  string
		parse func(string, string, int) ([]report.Finding, error)
		exit  int
		want  string
	}{
		{"black", parseBlack, 2, "black broke (exit code 2): Error: Invalid value for '-l' / '--line-length': 'x' is not a valid integer."},
		{"isort", parseIsort, 1, "isort broke (exit code 1): isort.exceptions.ProfileDoesNotExist: Specified profile of nosuch does not exist."},
		{"flake8", parseFlake8, 1, "flake8 broke (exit code 1): ValueError: Error code '#bad' supplied to 'ignore' option"},
		{"pylint", parsePylint, 32, "pylint broke (exit code 32): pylint: error: Unrecognized option found: nosuch"},
	} {
		t.Run(test.tool, func(t *testing.T) {
			t.Parallel()
			_, err := test.parse(captured(t, test.tool+"-crash.stdout"), captured(t, test.tool+"-crash.stderr"), test.exit)
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := parseMypy("", "pkg/a.py:1: error: INTERNAL ERROR -- please report\nTraceback (most recent call last):\n  x\nKeyError: 'a'\n", 2)
	require.ErrorContains(t, err, "mypy broke (exit code 2): KeyError: 'a'")
	_, err = parseFlake8("", "", 3)
	require.EqualError(t, err, "flake8 broke (exit code 3): it said nothing\nit said nothing")
}

func TestParsersPassAnExitCodeOfZero(t *testing.T) {
	t.Parallel()
	for _, parse := range []func(string, string, int) ([]report.Finding, error){parseBlack, parseIsort, parseFlake8, parseMypy, parsePylint} {
		findings, err := parse("anything", "at all", 0)
		require.NoError(t, err)
		require.Empty(t, findings)
	}
}

func TestParsePytestTellsTheProjectsFaultFromPytests(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ capture, want string }{
		{"pytest-conftest.txt", "conftest.py:1: ModuleNotFoundError: No module named 'nosuch' (pytest conftest)"},
		{"pytest-usage.txt", "pytest.ini: unrecognized arguments: --nosuch (pytest usage)"},
		{"pytest-nofile.txt", "file or directory not found: nofile (pytest usage)"},
	} {
		findings, err := parsePytest(captured(t, test.capture), pytestUsage)
		require.NoError(t, err)
		require.Len(t, findings, 1)
		require.Equal(t, test.want, findings[0].String())
	}
	_, err := parsePytest(captured(t, "pytest-internal.txt"), pytestBroke)
	require.ErrorContains(t, err, "pytest broke (exit code 3)")
	require.ErrorContains(t, err, "boom")
}
