package project_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

func configured(t *testing.T, text string) (*project.Project, error) {
	t.Helper()
	return project.Detect(project.FS(tree(platform)), &project.File{Name: "millrace.yaml", Data: []byte(text)})
}

const everything = `
python:
  sources: [backend, ./data]
  requirements: [requirements.txt]
  tests: [backend/tests/unit]
  version: "3.13"
go:
  modules: []
lint:
  tools: [black, flake8]
  args:
    flake8: [--max-line-length=120, "--select=E,W"]
test: {coverage: 72.5, shards: 4, timeout: 1h30m, args: [-x], short: true}
security:
  severity: high
  allow:
    - id: B101
      reason: "asserts are fine: tests"
      expires: 2026-12-31
images:
  - name: api
    target: run
    args: {VERSION: "1"}
    platforms: [linux/amd64, linux/arm/v7]
  - name: batch
    skip: true
  - name: extra
    dockerfile: backend/docker/api.Dockerfile
    context: backend/../.
manifests: [backend/k8s]
load_tests: [loadtest/api.js]
publish: {registry: "localhost:5000", repository: acme/shop, branches: [main]}
codecov: {url: "https://codecov.example.com", flags: [unit], required: true}
`

func TestConfigOverrulesDetection(t *testing.T) {
	t.Parallel()
	p, err := configured(t, strings.ReplaceAll(everything, "target: run", "target: \"0\""))
	require.NoError(t, err)
	expires, err := project.ParseDate("2026-12-31")
	require.NoError(t, err)
	require.Equal(t, "millrace.yaml", p.ConfigFile)
	require.Equal(t, project.Python{Sources: []string{"backend", "data"}, Requirements: []string{"requirements.txt"}, Tests: []string{"backend/tests/unit"}, Version: "3.13"}, p.Python)
	require.Equal(t, project.Lint{Tools: []string{"black", "flake8"}, Args: map[string][]string{"flake8": {"--max-line-length=120", "--select=E,W"}}}, p.Lint)
	coverage := 72.5
	require.Equal(t, project.Test{Coverage: &coverage, Shards: 4, Timeout: 90 * time.Minute, Args: []string{"-x"}, Short: true}, p.Test)
	require.Equal(t, project.Security{Severity: "high", Allow: []project.Allowance{{ID: "B101", Reason: "asserts are fine: tests", Expires: expires}}}, p.Security)
	require.Equal(t, project.Publish{Registry: "localhost:5000", Repository: "acme/shop", Branches: []string{"main"}}, p.Publish)
	require.Equal(t, project.Codecov{URL: "https://codecov.example.com", Flags: []string{"unit"}, Required: true}, p.Codecov)
	require.Equal(t, []string{"loadtest/api.js"}, p.LoadTests)
	require.Len(t, p.Images, 2)
	require.Len(t, p.Skipped, 1)
	api, extra := p.Images[0], p.Images[1]
	require.Equal(t, "backend/docker/api.Dockerfile", api.Dockerfile, "detected")
	require.Equal(t, map[string]string{"VERSION": "1"}, api.Args)
	require.Equal(t, []string{"linux/amd64", "linux/arm/v7"}, api.Platforms)
	require.Equal(t, "extra", extra.Name)
	require.Equal(t, ".", extra.Context)
	require.NoError(t, api.Err)

	t.Run("what the file leaves out stays", func(t *testing.T) {
		t.Parallel()
		p, err := configured(t, "python:\n  version: '3.12'\ntest:\n  shards: 2\nload_tests: []\n")
		require.NoError(t, err)
		require.Equal(t, []string{"backend"}, p.Python.Sources)
		require.Equal(t, "3.12", p.Python.Version)
		require.Equal(t, project.Test{Shards: 2, Timeout: 30 * time.Minute}, p.Test)
		require.Empty(t, p.LoadTests, "an empty list says that there are none")
		require.Len(t, p.Images, 2)
	})
	t.Run("a threshold of zero is a threshold of zero", func(t *testing.T) {
		t.Parallel()
		p, err := configured(t, "test: {coverage: 0}")
		require.NoError(t, err)
		require.NotNil(t, p.Test.Coverage)
		require.Zero(t, *p.Test.Coverage)
	})
	t.Run("anchors", func(t *testing.T) {
		t.Parallel()
		p, err := configured(t, "images:\n- name: api\n  args: &a {X: '1'}\n- name: batch\n  args: *a\n")
		require.NoError(t, err)
		require.Equal(t, map[string]string{"X": "1"}, p.Images[1].Args)
	})
	t.Run("an unknown target is the build's to report", func(t *testing.T) {
		t.Parallel()
		p, err := configured(t, everything)
		require.NoError(t, err)
		require.EqualError(t, p.Images[0].Err, `backend/docker/api.Dockerfile: it has no stage "run" to build: its stages are 0`)
	})
	for _, empty := range []string{"", "\n\n", "# only a comment\n", "---\n", "--- # x\n", "null"} {
		p, err := configured(t, empty)
		require.NoError(t, err, "%q", empty)
		require.Len(t, p.Images, 2)
	}
}

func TestConfigInTheTree(t *testing.T) {
	t.Parallel()
	for _, name := range project.ConfigNames {
		p := detect(t, map[string]string{"a.py": "", name: "test: {coverage: 55}"})
		require.Equal(t, name, p.ConfigFile)
		require.InDelta(t, 55, *p.Test.Coverage, 0)
	}
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		// keys
		{"pyhton:\n  version: '3.11'\n", `millrace.yaml:1:1: unknown key "pyhton": did you mean "python"?` + "\n    pyhton:"},
		{"test:\n  coverage: 80\n  shard: 2\n", `millrace.yaml:3:3: unknown key "shard" in test: did you mean "shards"?` + "\n    shard: 2"},
		{"coverage: 80\n", `millrace.yaml:1:1: unknown key "coverage": it belongs below "test"` + "\n    coverage: 80"},
		{"deployments: 1\n", `millrace.yaml:1:1: unknown key "deployments": use one of python, go, lint, test, security, images, manifests, load_tests, publish, environments, codecov, notify, drift, data, models, training, artifacts` + "\n    deployments: 1"},
		{"images:\n- name: api\n  dokerfile: x\n", `millrace.yaml:3:3: unknown key "dokerfile" in images[0]: did you mean "dockerfile"?` + "\n    dokerfile: x"},
		{"test: {shards: 2}\ntest: {shards: 3}\n", `millrace.yaml:2:1: mapping key "test" already defined at [1:1]` + "\n    test: {shards: 3}"},
		// types
		{"python: [backend]\n", `millrace.yaml:1:9: python: want keys and values, not a list` + "\n    python: [backend]"},
		{"- python\n", "millrace.yaml:1:1: the file: want keys and values, not a list\n    - python"},
		{"hello\n", "millrace.yaml:1:1: the file: want keys and values, not the text \"hello\"\n    hello"},
		{"python:\n  sources: backend\n", `millrace.yaml:2:12: python.sources: want a list, not the text "backend"` + "\n    sources: backend"},
		{"python:\n  version: 3.10\n", "millrace.yaml:2:12: python.version: want text, not the number 3.10: put it in quotes\n    version: 3.10"},
		{"test:\n  coverage: eighty\n", `millrace.yaml:2:13: test.coverage: want a number, not the text "eighty"` + "\n    coverage: eighty"},
		{"test:\n  shards: 1.5\n", "millrace.yaml:2:11: test.shards: want a whole number, not the number 1.5\n    shards: 1.5"},
		{"test:\n  timeout: 10\n", `millrace.yaml:2:12: test.timeout: "10" is no duration: write it as 90s, 10m or 1h30m` + "\n    timeout: 10"},
		{"codecov:\n  required: sometimes\n", `millrace.yaml:2:13: codecov.required: want true or false, not the text "sometimes"` + "\n    required: sometimes"},
		{"python:\n", "millrace.yaml:1:1: python: has no value: give it one, or remove the key\n    python:"},
		{"images:\n- name: api\n  args: {A: 1}\n", "millrace.yaml:3:13: images[0].args.A: want text, not the number 1: put it in quotes\n    args: {A: 1}"},
		{"load_tests:\n-\n", "millrace.yaml:2:3: load_tests[0]: has no value: give it one, or remove it\n    -"},
		// values
		{"test:\n  coverage: 101\n", "millrace.yaml:2:13: test.coverage: 101 is no percentage: use 0 to 100\n    coverage: 101"},
		{"test:\n  coverage: -1\n", "millrace.yaml:2:13: test.coverage: -1 is no percentage: use 0 to 100\n    coverage: -1"},
		{"test: {shards: 0}\n", "millrace.yaml:1:16: test.shards: 0 is out of range: use 1 to 64\n    test: {shards: 0}"},
		{"test: {timeout: 0s}\n", "millrace.yaml:1:17: test.timeout: 0s is too short: use a duration such as 10m\n    test: {timeout: 0s}"},
		{"python: {version: '2.7'}\n", `millrace.yaml:1:19: python.version: "2.7" is no version of Python 3: write it as "3.11"` + "\n    python: {version: '2.7'}"},
		{"lint:\n  tools: [black, flak8]\n", `millrace.yaml:2:18: lint.tools[1]: unknown tool "flak8": did you mean "flake8"?` + "\n    tools: [black, flak8]"},
		{"lint:\n  tools: [ruff]\n", `millrace.yaml:2:11: lint.tools[0]: unknown tool "ruff": use one of black, isort, flake8, mypy, pylint, golangci-lint` + "\n    tools: [ruff]"},
		{"lint:\n  args:\n    rufff: [x]\n", `millrace.yaml:3:12: lint.args.rufff: unknown tool "rufff": use one of black, isort, flake8, mypy, pylint, golangci-lint` + "\n    rufff: [x]"},
		{"security: {severity: hgih}\n", `millrace.yaml:1:22: security.severity: unknown severity "hgih": did you mean "high"?` + "\n    security: {severity: hgih}"},
		{"security:\n  allow:\n  - id: B101\n    reason: x\n", "millrace.yaml:3:5: security.allow[0]: expires is missing: say until when B101 is accepted, such as 2026-12-31\n    - id: B101"},
		{"security:\n  allow:\n  - id: B101\n    expires: 2026-01-01\n", "millrace.yaml:3:5: security.allow[0]: reason is missing: say why B101 is accepted\n    - id: B101"},
		{"security:\n  allow:\n  - reason: x\n", "millrace.yaml:3:5: security.allow[0]: id is missing: name the rule or advisory that is accepted\n    - reason: x"},
		{"security:\n  allow:\n  - id: B101\n    reason: x\n    expires: 2026-02-30\n", `millrace.yaml:5:14: security.allow[0].expires: "2026-02-30" is no date: write it as 2026-12-31` + "\n    expires: 2026-02-30"},
		{"publish: {registry: 'https://ghcr.io'}\n", `millrace.yaml:1:21: publish.registry: "https://ghcr.io" is no registry: use a host such as ghcr.io or localhost:5000, and put the path into repository` + "\n    publish: {registry: 'https://ghcr.io'}"},
		{"publish: {repository: Acme/Shop}\n", `millrace.yaml:1:23: publish.repository: "Acme/Shop" is no repository: use lower-case letters, digits and . _ - between slashes` + "\n    publish: {repository: Acme/Shop}"},
		{"codecov: {url: codecov.io}\n", `millrace.yaml:1:16: codecov.url: "codecov.io" is no web address: use one such as https://codecov.example.com` + "\n    codecov: {url: codecov.io}"},
		// files
		{"python:\n  sources:\n  - backnd\n", "millrace.yaml:3:5: python.sources[0]: backnd does not exist: did you mean backend?\n    - backnd"},
		{"python:\n  tests: [/etc]\n", "millrace.yaml:2:11: python.tests[0]: /etc is absolute: use a path relative to the source tree\n    tests: [/etc]"},
		{"manifests: [../k8s]\n", "millrace.yaml:1:13: manifests[0]: ../k8s lies outside of the source tree\n    manifests: [../k8s]"},
		{"go: {modules: [backend]}\n", "millrace.yaml:1:16: go.modules[0]: backend has no go.mod\n    go: {modules: [backend]}"},
		{"load_tests:\n- some/where/else.js\n", "millrace.yaml:2:3: load_tests[0]: some/where/else.js does not exist in the source tree\n    - some/where/else.js"},
		// images
		{"images:\n- dockerfile: README.md\n", "millrace.yaml:2:3: images[0]: name is missing: name the image, such as api\n    - dockerfile: README.md"},
		{"images:\n- name: A P I\n", `millrace.yaml:2:9: images[0].name: "A P I" is no image name: use lower-case letters, digits and single . _ - between them` + "\n    - name: A P I"},
		{"images:\n- name: api\n- name: api\n", `millrace.yaml:3:9: images[1].name: a second entry for "api": put both into one` + "\n    - name: api"},
		{"images:\n- name: apy\n", `millrace.yaml:2:9: images[0].name: no Dockerfile was found for "apy": did you mean "api"? Else say where its Dockerfile is, with the key dockerfile` + "\n    - name: apy"},
		{"images:\n- name: apy\n  skip: true\n", `millrace.yaml:2:9: images[0].name: no Dockerfile was found for "apy": did you mean "api"? Else remove the entry, there is nothing to leave out` + "\n    - name: apy"},
		{"images:\n- name: wholly-other\n  skip: true\n", `millrace.yaml:2:9: images[0].name: no Dockerfile was found for "wholly-other": remove the entry, there is nothing to leave out` + "\n    - name: wholly-other"},
		{"images:\n- name: api\n  dockerfile: backend/docker\n", "millrace.yaml:3:15: images[0].dockerfile: backend/docker is a folder: name the Dockerfile in it\n    dockerfile: backend/docker"},
		{"images:\n- name: api\n  context: README.md\n", "millrace.yaml:3:12: images[0].context: README.md is a file: name a folder\n    context: README.md"},
		{"images:\n- name: api\n  platforms: [arm]\n", `millrace.yaml:3:15: images[0].platforms[0]: "arm" is no platform: write it as linux/amd64` + "\n    platforms: [arm]"},
		// YAML itself
		{"a: 1\n---\nb: 2\n", "millrace.yaml:3:1: a second document begins here: there can be only one\n    b: 2"},
		{"test: {shards: !!int 2}\n", "millrace.yaml:1:16: test.shards: tags such as !!int are not supported\n    test: {shards: !!int 2}"},
		{"\xff\xfe", "millrace.yaml: it is not UTF-8 text"},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			_, err := configured(t, test.text)
			require.EqualError(t, err, test.want)
			var bad *project.ConfigError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, 2, bad.ExitCode())
		})
	}
	for _, test := range []struct{ text, place string }{
		{"python:\n  sources: [a, b\ntest: {}\n", "millrace.yaml:"},
		{"test:\n\tshards: 1\n", "millrace.yaml:2:"},
		{"test:\n  shards: 'x\n", "millrace.yaml:2:"},
		{"a: b: c\n", "millrace.yaml:1:"},
		{"test: *nowhere\n", "millrace.yaml:1:"},
		{"images: &a\n- *a\n", "millrace.yaml:"},
		{"test: &t {shards: 2}\nlint: *t\n", "millrace.yaml:"},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			_, err := configured(t, test.text)
			var bad *project.ConfigError
			require.ErrorAs(t, err, &bad)
			require.Contains(t, err.Error(), test.place)
			require.LessOrEqual(t, strings.Count(err.Error(), "\n"), 1)
		})
	}
	t.Run("too large", func(t *testing.T) {
		t.Parallel()
		_, err := configured(t, strings.Repeat("# x\n", 1<<20))
		require.EqualError(t, err, "millrace.yaml: it has 4096 KiB, and 1024 are the most that it may have")
	})
}

func TestEffectiveConfig(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	for name, text := range map[string]string{"detected": "", "everything": strings.ReplaceAll(everything, "target: run", "target: \"0\"")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := configured(t, text)
			require.NoError(t, err)
			printed, err := p.YAML()
			require.NoError(t, err)
			require.NoError(t, validate(t, schema, printed))
			again, err := configured(t, string(printed))
			require.NoError(t, err, string(printed))
			reprinted, err := again.YAML()
			require.NoError(t, err)
			require.Equal(t, string(printed), string(reprinted))
		})
	}
}

// TestSchemaAgreesWithTheReader holds the editors' schema against what the reader accepts.
func TestSchemaAgreesWithTheReader(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	require.NoError(t, validate(t, schema, []byte(everything)))
	for _, text := range []string{
		"pyhton: {}", "test: {coverage: 101}", "test: {shards: 0}", "test: {timeout: 10}", "python: {version: 3.11}", "lint: {tools: [ruff]}",
		"security: {allow: [{id: B101}]}", "images: [{dockerfile: README.md}]", "images: [{name: A}]", "security: {severity: hgih}",
		"security: {allow: [{id: a, reason: b, expires: soon}]}", "publish: []",
	} {
		require.Error(t, validate(t, schema, []byte(text)), text)
		_, err := configured(t, text)
		require.Error(t, err, text)
	}
}

// promptly fails if f takes longer than any input may; whoever waits for a pipeline must not wait for its parser.
func promptly(t *testing.T, input string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("no answer for %q", input)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(everything)
	for _, seed := range []string{"", "a: b: c", "images: &a\n- *a\n", "test:\n  shards: 'x", "{", "- - -", "? a\n: b", "<<: {test: {shards: 2}}", "test: !!map {}", "python: {sources: [\"a\\nb\"]}", "test: |\n  x", "\"\\uD800\": 1", "!", "&", "*", "%YAML 1.2\n---\n"} {
		f.Add(seed)
	}
	source := project.FS(tree(platform))
	f.Fuzz(func(t *testing.T, text string) {
		var p *project.Project
		var err error
		promptly(t, text, func() { p, err = project.Detect(source, &project.File{Name: "millrace.yaml", Data: []byte(text)}) })
		if err != nil {
			var bad *project.ConfigError
			if !errors.As(err, &bad) {
				t.Fatalf("%q: not a ConfigError: %v", text, err)
			}
			if strings.Count(bad.Error(), "\n") > 1 || bad.Problem == "" {
				t.Fatalf("%q: not one line and its source: %q", text, bad.Error())
			}
			return
		}
		printed, err := p.YAML()
		require.NoError(t, err)
		again, err := project.Detect(source, &project.File{Name: "millrace.yaml", Data: printed})
		require.NoError(t, err, string(printed))
		reprinted, err := again.YAML()
		require.NoError(t, err)
		require.Equal(t, string(printed), string(reprinted))
	})
}

func TestAnEmptyListOfImagesMeansNone(t *testing.T) {
	t.Parallel()
	tree := project.FS(fstest.MapFS{"Dockerfile": {Data: []byte("FROM scratch\n")}})
	for config, want := range map[string]int{"images: []\n": 0, "python: {sources: []}\n": 1} {
		p, err := project.Detect(tree, &project.File{Name: "millrace.yaml", Data: []byte(config)})
		require.NoError(t, err)
		require.Len(t, p.Images, want, config)
		text, err := p.YAML()
		require.NoError(t, err)
		again, err := project.Detect(tree, &project.File{Name: "millrace.yaml", Data: text})
		require.NoError(t, err)
		require.Len(t, again.Images, want, "the effective configuration means the same")
	}
}
