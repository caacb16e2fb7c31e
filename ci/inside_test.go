package main

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/ci/engine"
	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// parserOf reads command lines into c.
func parserOf(c *cli) *kong.Kong { return must(kong.New(c, options()...)) }

func TestTheShellOfARunIsThatOfItsFlags(t *testing.T) {
	t.Parallel()
	plain := &pipeline{}
	plain.Source, plain.Engine = ".", "auto"
	given := &pipeline{}
	given.Source, given.Config, given.Engine = "my code", "../it's.yaml", "embedded"
	trained := &pipeline{tables: tablesFlag{Data: "s3://tables/today"}}
	trained.Source = "."
	for name, test := range map[string]struct {
		p    *pipeline
		at   pipelines.Workplace
		want string
	}{
		"a training": {trained, pipelines.Workplace{Node: "train-churn"}, "ci shell train-churn --data s3://tables/today"},
		"no flags":   {plain, pipelines.Workplace{Node: "test"}, "ci shell test"},
		"a language": {plain, pipelines.Workplace{Node: "lint", Language: "go"}, "ci shell lint --language go"},
		"an image":   {plain, pipelines.Workplace{Node: "build", Image: "api"}, "ci shell build api"},
		"all flags": {given, pipelines.Workplace{Node: "build", Image: "api", Before: 7},
			`ci shell build api --before 7 --source 'my code' --config '../it'\''s.yaml' --engine embedded`},
	} {
		require.Equal(t, test.want, commandLine([]string{"ci"}, test.p.shell(test.at)), name)
		// What is printed is a command of this program.
		var c cli
		_, err := parserOf(&c).Parse(test.p.shell(test.at))
		require.NoError(t, err, name)
		require.Equal(t, test.at, pipelines.Workplace{Node: c.Shell.Node, Language: c.Shell.Language, Image: c.Shell.Image, Before: c.Shell.Before})
		require.Equal(t, test.p.sourceFlags, c.Shell.sourceFlags, name)
		require.Equal(t, cmp.Or(test.p.Engine, engine.Auto), c.Shell.Engine, name)
		require.Equal(t, test.p.tables, c.Shell.tablesFlag, name)
	}
}

func TestTheRerunOfANodeHasTheFlagsOfTheRun(t *testing.T) {
	for name, args := range map[string][]string{
		"no flags":  {"ci-cd"},
		"all flags": {"ci-cd", "--source", "x y", "--config", "c.yaml", "--event", "push", "--ref", "main", "--sha", "0123", "--registry", "ghcr.io/a", "--registry-user", "ada", "--registry-password-env", "TOKEN", "--out", "o", "--engine", "runner"},
	} {
		var ran, again cli
		_, err := parserOf(&ran).Parse(args)
		require.NoError(t, err, name)
		line := strings.TrimPrefix(ran.CICD.rerun("publish"), commandLine(self(), nil)+" ")
		words := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(line, "'x y'", "x\x00y"), "'", ""))
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "\x00", " ")
		}
		_, err = parserOf(&again).Parse(words)
		require.NoError(t, err, name)
		require.Equal(t, []string{"publish"}, again.Run.Nodes)
		require.Equal(t, ran.CICD.pipeline, again.Run.pipeline, name)
	}
	// A user from the environment is there again next time.
	t.Setenv("REGISTRY_USER", "ada")
	var c cli
	_, err := parserOf(&c).Parse([]string{"publish"})
	require.NoError(t, err)
	require.Equal(t, "ada", c.Publish.RegistryUser)
	require.Equal(t, commandLine(self(), []string{"publish"}), c.Publish.pipeline().rerun("publish"))
}

func TestWhatFormatMendsNamesIt(t *testing.T) {
	t.Parallel()
	black := report.Finding{Tool: "black", Rule: "black", File: "a.py", Message: "would be reformatted"}
	isort := report.Finding{Tool: "isort", Rule: "isort", File: "a.py", Message: "imports are not sorted or not formatted"}
	for name, test := range map[string]struct {
		findings []report.Finding
		want     string
	}{
		"both, of several files": {[]report.Finding{isort, black, isort, black}, "black and isort"},
		"one of them":            {[]report.Finding{isort, {Tool: "flake8", Rule: "F401"}}, "isort"},
		"another tool":           {[]report.Finding{{Tool: "flake8", Rule: "F401"}}, ""},
		"no Python":              {[]report.Finding{{Tool: "black", Rule: "cannot-parse"}}, ""},
		"nothing":                {nil, ""},
	} {
		var stdout bytes.Buffer
		p := &pipeline{sourceFlags: sourceFlags{Source: "my code", Config: "c.yaml"}}
		p.mend(&streams{stdout: &stdout}, report.Run{Nodes: []report.Node{{Name: "lint", Details: test.findings}}})
		want := ""
		if test.want != "" {
			want = "\nmend what " + test.want + " found: " + commandLine(self(), []string{"format", "--source", "my code", "--config", "c.yaml"}) + "\n"
		}
		require.Equal(t, want, stdout.String(), name)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, `ci run '' 'a b' 'it'\''s' '$HOME' '~x' a-b_c./d:e@f%g+h,i=j 'é'`,
		commandLine([]string{"ci"}, []string{"run", "", "a b", "it's", "$HOME", "~x", "a-b_c./d:e@f%g+h,i=j", "é"}))
}

func TestSelf(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("0123456789abcdef", 4)
	for program, want := range map[string]bool{
		"/tmp/go-build2712345/b001/exe/ci":               true,
		"/root/.cache/go-build/ab/" + hash + "-d/ci":     true,
		"/var/cache/go/ab/" + hash + "-d/ci":             true,
		"/root/go/bin/ci":                                false,
		"/home/ada/go-build/ci":                          false,
		"/tmp/go-build2712345/b001/ci.test":              false,
		"/opt/" + hash + "/ci":                           false,
		"C:/Users/ada/AppData/go-build1/b001/exe/ci.exe": true,
	} {
		require.Equal(t, want, madeByGoRun(program), program)
	}
	released := &debug.BuildInfo{Path: "github.com/millrace-ci/millrace/ci", Main: debug.Module{Version: "v1.2.3"}}
	for _, test := range []struct {
		folder, file string
		info         *debug.BuildInfo
		want         string
	}{
		{"/src/millrace", "/src/millrace/ci/inside.go", nil, "go run ./ci"},
		{"/src/millrace/ci", "/src/millrace/ci/inside.go", nil, "go run ."},
		{"/src/millrace/examples", "/src/millrace/ci/inside.go", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "go run ../ci"},
		{"/src/millrace", "github.com/millrace-ci/millrace/ci/inside.go", nil, "go run ./ci"}, // -trimpath
		{"/src/other", "/root/go/pkg/mod/github.com/millrace-ci/millrace@v1.2.3/ci/inside.go", released, "go run github.com/millrace-ci/millrace/ci@v1.2.3"},
	} {
		require.Equal(t, test.want, strings.Join(goRun(test.folder, test.file, test.info), " "))
	}
}

// An installed program is called as it was called; here that is the test's own.
func TestSelfOfAnInstalledProgram(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{os.Args[0]}, self())
	require.NotContains(t, filepath.ToSlash(os.Args[0]), "/exe/")
}
