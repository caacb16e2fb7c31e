package golang

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModuleDirsPassOverWhatTheGoCommandDoes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{".", "ci/module"}, moduleDirs([]string{
		"go.mod", "ci/module/go.mod", "vendor/x/go.mod", "a/testdata/go.mod", ".cache/go.mod", "_old/go.mod",
	}))
}

func TestParseCompile(t *testing.T) {
	t.Parallel()
	findings := parseCompile("=== Errors\n./g.go:4:9: undefined: x\nvet: ./g_test.go:6:2: bad call\n    g_test.go:7: wrong\n", "sub")
	require.Len(t, findings, 2)
	require.Equal(t, "sub/g.go:4:9: undefined: x (go test build)", findings[0].String())
	require.Equal(t, "sub/g_test.go", findings[1].File)
}

// The reports are what golangci-lint 2.15.0 wrote, without its list of linters.
func TestParseGolangci(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		// Linters that grade nothing count as medium; a grade of the project's configuration counts.
		"golangci-grades.json": {
			"high cart.go:9:9: Error return value of `f.Close` is not checked (golangci-lint errcheck)",
			"low cart.go:11:3: assign: self-assignment of i (golangci-lint govet)",
			"low cart.go:14:7: func bad is unused (golangci-lint unused)",
		},
		// A package that does not compile is reported at line 1 of whichever file: the compiler's own words tell the place.
		"golangci-package.json": {"high broken/b.go:3:23: undefined: undefined (golangci-lint typecheck)"},
		"golangci-syntax.json": {
			"high x.go:3:9: syntax error: unexpected {, expected ) (golangci-lint typecheck)",
			"high x.go:3:9: expected ')', found '{' (golangci-lint typecheck)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("testdata/" + name)
			require.NoError(t, err)
			findings, err := parseGolangci(string(text), ".")
			require.NoError(t, err)
			var got []string
			for _, f := range findings {
				got = append(got, string(f.Severity)+" "+f.String())
			}
			require.Equal(t, want, got)
		})
	}
}

func TestParseGolangciNamesFilesFromTheSourcesRoot(t *testing.T) {
	t.Parallel()
	findings, err := parseGolangci(`{"Issues": [
		{"FromLinter": "revive", "Text": "exported\nand more", "Pos": {"Filename": "/src/ci/module/main.go", "Line": 2, "Column": 1}},
		{"FromLinter": "typecheck", "Text": ": # example.com/x\n./a.go:1:2: undefined: y", "Pos": {"Filename": "/src/ci/module/b.go", "Line": 1}},
		{"FromLinter": "typecheck", "Text": ": # example.com/x\nthe linker gave up", "Pos": {"Filename": "/src/ci/module/b.go", "Line": 1}},
		{"FromLinter": "gomoddirectives", "Text": "replacement", "Severity": "critical", "Pos": {}}
	]}`, "ci/module")
	require.NoError(t, err)
	var got []string
	for _, f := range findings {
		got = append(got, string(f.Severity)+" "+f.String())
	}
	require.Equal(t, []string{
		"medium ci/module/main.go:2:1: exported (golangci-lint revive)",
		"high ci/module/a.go:1:2: undefined: y (golangci-lint typecheck)",
		"high ci/module/b.go:1: the linker gave up (golangci-lint typecheck)",
		"critical replacement (golangci-lint gomoddirectives)",
	}, got)

	_, err = parseGolangci("level=error msg=\"no go files\"", ".")
	require.ErrorContains(t, err, "read golangci-lint's report")
	findings, err = parseGolangci(`{"Issues": null, "Report": {}}`, ".")
	require.NoError(t, err)
	require.Empty(t, findings)
}

func TestBrokeNamesTheLineThatSaysMost(t *testing.T) {
	t.Parallel()
	err := broke("golangci-lint", 3, "", "level=warning msg=old\nError: can't load config: unknown linter \"x\"\n")
	require.ErrorContains(t, err, `golangci-lint broke (exit code 3): Error: can't load config: unknown linter "x"`)
	require.ErrorContains(t, broke("go test", 2, " ", ""), "go test broke (exit code 2): it said nothing")
	require.Less(t, len(broke("go test", 1, strings.Repeat("é\n", 9000)).Error()), 5<<10)
}
