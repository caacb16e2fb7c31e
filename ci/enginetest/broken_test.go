package enginetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// A mistake of the person at the keyboard: nothing runs, and the answer says what to do.
func TestUsage(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	tests := map[string]struct {
		source func(t *testing.T) string
		says   []string
	}{
		"no such folder": {
			func(t *testing.T) string { return filepath.Join(t.TempDir(), "nowhere") },
			[]string{"nowhere", "does not exist", "--source"},
		},
		"an empty folder": {
			func(t *testing.T) string { return t.TempDir() },
			[]string{"no files", "is the folder right?"},
		},
		"a file": {
			func(t *testing.T) string { return filepath.Join(scores(t, nil), "requirements.txt") },
			[]string{"requirements.txt", "is a file", "--source"},
		},
		"a name that is not UTF-8": {
			func(t *testing.T) string { return scores(t, edits{"data/caf\xe9.csv": "1\n"}) },
			[]string{`data/caf\xe9.csv`, "not valid UTF-8", "rename it"},
		},
		"a syntax error in millrace.yaml": {
			func(t *testing.T) string { return scores(t, edits{"millrace.yaml": "test:\n  coverage: [80\n"}) },
			[]string{"millrace.yaml:2:"},
		},
		"an unknown key in millrace.yaml": {
			func(t *testing.T) string { return scores(t, edits{"millrace.yaml": "test:\n  covrage: 80\n"}) },
			[]string{"millrace.yaml:2:3", "covrage", `"coverage"`},
		},
		"a wrong type in millrace.yaml": {
			func(t *testing.T) string { return scores(t, edits{"millrace.yaml": "test:\n  shards: many\n"}) },
			[]string{"millrace.yaml:2:", "shards: many"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ci(t, test.source(t), append([]string{"ci-cd"}, push...))
			require.Equal(t, 2, got.code)
			require.Nil(t, got.run)
			require.Empty(t, got.stdout)
			for _, text := range test.says {
				require.Contains(t, got.stderr, text)
			}
			got.requireOneScreen(t)
		})
	}
}

// Names that are hard on whoever pastes command lines together: everything passes, in every node.
func TestOddNames(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	module := func(name string) string {
		return fmt.Sprintf("%q\n\n# pylint: disable=invalid-name\n\nNAME = %q\n", "Has an odd name.", name)
	}
	long := strings.Repeat("n", 196) + ".csv"
	got := ci(t, scores(t, edits{
		"scores/two words.py":   module("two words"),
		`scores/"quoted" 's.py`: module("quoted"),
		"batch/-rf.csv":         "1\n", "batch/two words.csv": "1\n", `batch/"quoted" 's.csv`: "1\n",
		"batch/new\nline.csv": "1\n", "batch/$(id) `id`;&|.csv": "1\n", "batch/é ü.csv": "1\n", "batch/" + long: "1\n",
		"tests/test_names.py": `"""Tests of names."""

import importlib
import pathlib


def test_names() -> None:
    """All files arrive."""
    for path in pathlib.Path("scores").glob("*'s.py"):
        assert importlib.import_module("scores." + path.stem).NAME == "quoted"
    assert importlib.import_module("scores.two words").NAME == "two words"
    names = {p.name for p in pathlib.Path("batch").iterdir()}
    assert {"-rf.csv", "two words.csv", "new\nline.csv", "é ü.csv"} <= names
    assert sum(name.endswith("'s.csv") for name in names) == 1
    assert max(map(len, names)) == 200
`,
	}), append([]string{"ci-cd", "--skip", "publish"}, push...))
	require.Equal(t, 0, got.code)
	got.requireVerdicts(t, map[string]graph.Verdict{"lint": graph.Passed, "test": graph.Passed, "security": graph.Passed, "build": graph.Passed})
	require.EqualValues(t, 4, got.node(t, "test").Metrics["tests"])
	require.EqualValues(t, 6, got.node(t, "lint").Metrics["files"])
	got.requireOneScreen(t)
}

// A project with one thing broken: the node that it breaks says what, where, and how to go on.
func TestBroken(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	tests := map[string]struct {
		command []string
		changes edits
		code    int
		node    string
		verdict graph.Verdict
		// reason is what the node's reason has, and says what the screen has besides.
		reason, says []string
		// also are verdicts of other nodes.
		also map[string]graph.Verdict
		// leaves says that what broke has left something to look at.
		leaves bool
	}{
		"a syntax error in Python": {
			command: []string{"ci-cd"}, changes: edits{"scores/late.py": "\"\"\"Late.\"\"\"\n\n\ndef late(:\n    pass\n"},
			code: 1, node: "lint", verdict: graph.Failed, reason: []string{"scores/late.py:4"},
			also: map[string]graph.Verdict{"test": graph.Skipped, "security": graph.Skipped, "build": graph.Skipped, "publish": graph.Skipped},
		},
		"a test file that can't be loaded": {
			command: []string{"test"}, changes: edits{"tests/test_late.py": "import nowhere_to_be_found\n"},
			code: 1, node: "test", verdict: graph.Failed, reason: []string{"tests/test_late.py", "nowhere_to_be_found"},
		},
		"a test that fails": {
			command: []string{"ci-cd", "--skip", "security"}, changes: edits{"tests/test_sum.py": "def test_sum():\n    assert 1 + 1 == 3\n", "millrace.yaml": "lint: {tools: [flake8]}\n"},
			code: 1, node: "test", verdict: graph.Failed, reason: []string{"1 test failed", "tests/test_sum.py:2", "assert (1 + 1) == 3"},
			also: map[string]graph.Verdict{"lint": graph.Passed, "publish": graph.Skipped},
		},
		"a requirement that does not exist": {
			command: []string{"test"}, changes: edits{"requirements.txt": "# pinned\nsix==99.0.0\n"},
			code: 1, node: "test", verdict: graph.Failed, reason: []string{"requirements cannot be met", "requirements.txt:2", "six==99.0.0"},
		},
		"a test that hangs, with a timeout of pytest's": {
			command: []string{"test"}, changes: edits{
				"pytest.ini": "[pytest]\ntimeout = 3\n", "tests/test_hang.py": "import time\n\n\ndef test_hang():\n    time.sleep(3600)\n",
			},
			code: 1, node: "test", verdict: graph.Failed, reason: []string{"tests/test_hang.py:5", "Timeout"},
		},
		"a test that hangs, with a timeout of the node's": {
			command: []string{"test"}, changes: edits{
				"millrace.yaml": "test: {timeout: 20s}\n", "tests/test_hang.py": "import time\n\n\ndef test_hang():\n    time.sleep(3600)\n",
			},
			code: 3, node: "test", verdict: graph.Errored, reason: []string{"20s"},
		},
		"a test that is killed, as for memory": {
			command: []string{"test"}, changes: edits{
				"tests/test_memory.py": "import os\nimport signal\n\n\ndef test_memory():\n    os.kill(os.getpid(), signal.SIGKILL)\n",
			},
			code: 3, node: "test", verdict: graph.Errored, reason: []string{"tests/test_memory.py::test_memory", "memory"}, leaves: true,
		},
		"a test that prints 100 MB": {
			command: []string{"test"}, changes: edits{
				"pytest.ini":         "[pytest]\naddopts = -s\n",
				"tests/test_loud.py": "import sys\n\n\ndef test_loud():\n    for _ in range(100):\n        sys.stdout.write(('x' * 1023 + '\\n') * 1024)\n    assert not 'loud'\n",
			},
			code: 1, node: "test", verdict: graph.Failed, reason: []string{"tests/test_loud.py:7"},
		},
		"coverage below the project's own threshold": {
			command: []string{"test"}, changes: edits{
				".coveragerc":     "[report]\nfail_under = 99\n",
				"scores/spare.py": "\"\"\"Nothing tests this.\"\"\"\n\n\ndef spare():\n    \"\"\"Do nothing.\"\"\"\n    return None\n",
			},
			code: 1, node: "test", verdict: graph.Failed, reason: []string{"below the threshold of 99 %"},
		},
		"coverage below the threshold": {
			command: []string{"test"}, changes: edits{
				"scores/unused.py": "\"\"\"Unused.\"\"\"\n\n\ndef unused(n: int) -> int:\n    \"\"\"Count.\"\"\"\n" + strings.Repeat("    n += 1\n", 40) + "    return n\n",
			},
			code: 1, node: "test", verdict: graph.Failed, reason: []string{"coverage is", "below the threshold of 80 %", "coverage.html"},
		},
		"no tests": {
			command: []string{"ci-cd", "--skip", "security,build"}, changes: edits{"tests": gone},
			code: 0, node: "test", verdict: graph.Skipped, reason: []string{"no tests"},
			also: map[string]graph.Verdict{"lint": graph.Passed},
		},
		"a syntax error in a Dockerfile": {
			command: []string{"build"}, changes: edits{"docker/api.Dockerfile": "FROM python:3.11-slim\nCOPPY scores /app\n"},
			code: 1, node: "build", verdict: graph.Failed, reason: []string{"api", "docker/api.Dockerfile:2", "COPPY"},
		},
		"a base image that does not exist": {
			command: []string{"build"}, changes: edits{"docker/api.Dockerfile": "# The base.\nFROM REGISTRY/no/such/image:1\n"},
			code: 1, node: "build", verdict: graph.Failed, reason: []string{"docker/api.Dockerfile:2", "no/such/image:1", "does not exist"},
		},
		"a file to copy that does not exist": {
			command: []string{"build"}, changes: edits{"docker/api.Dockerfile": "FROM python:3.11-slim\nCOPY nowhere /app\n"},
			code: 1, node: "build", verdict: graph.Failed, reason: []string{"docker/api.Dockerfile:2", "nowhere"},
		},
		"a build step that fails": {
			command: []string{"build"}, changes: edits{"docker/batch.Dockerfile": "FROM python:3.11-slim\nRUN echo 'the frobnicator is missing' >&2; exit 3\n"},
			code: 1, node: "build", verdict: graph.Failed, reason: []string{"batch", "docker/batch.Dockerfile:2", "exit code 3", "the frobnicator is missing"},
		},
		"a vulnerable pin": {
			command: []string{"security"}, changes: edits{"requirements.txt": "six==1.17.0\nrequests==2.19.1\n"},
			code: 1, node: "security", verdict: graph.Failed, reason: []string{"requirements.txt", "safety"}, says: []string{"requirements.txt:2: requests 2.19.1 is vulnerable"},
		},
		"insecure code": {
			command: []string{"security"}, changes: edits{"scores/shell.py": "\"\"\"Shell.\"\"\"\n\nimport subprocess\n\nsubprocess.call(input(), shell=True)\n"},
			code: 1, node: "security", verdict: graph.Failed, reason: []string{"scores/shell.py:5", "B602", "bandit"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes := edits{}
			for file, content := range test.changes {
				changes[file] = strings.ReplaceAll(content, "REGISTRY", running(t).Registry)
			}
			got := ci(t, scores(t, changes), append(test.command, push...))
			require.Equal(t, test.code, got.code)
			node := got.node(t, test.node)
			require.Equal(t, test.verdict, node.Verdict)
			for _, text := range test.reason {
				require.Contains(t, node.Reason, text)
			}
			require.Contains(t, got.stdout, test.node)
			for _, text := range append(test.says, node.Reason) {
				require.Contains(t, got.stdout, text)
			}
			got.requireVerdicts(t, test.also)
			got.requireOneScreen(t)
			if test.verdict == graph.Failed || test.leaves {
				require.Equal(t, "reports/"+test.node, node.Reports)
				entries, err := os.ReadDir(filepath.Join(got.out, node.Reports))
				require.NoError(t, err)
				require.NotEmpty(t, entries, "the node has no reports")
			}
		})
	}
}

// Each linter finds its own, in a file of its own, though the others find something too.
func TestEachLinter(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	got := ci(t, scores(t, edits{
		"scores/for_black.py":  "\"\"\"Black.\"\"\"\n\nNAMES = {'a' : 1}\n",
		"scores/for_isort.py":  "\"\"\"Isort.\"\"\"\n\nimport sys\nimport os\n\nPAIR = (os, sys)\n",
		"scores/for_flake8.py": "\"\"\"Flake8.\"\"\"\n\nimport os\n",
		"scores/for_mypy.py":   "\"\"\"Mypy.\"\"\"\n\nCOUNT: int = \"many\"\n",
		"scores/for_pylint.py": "\"\"\"Pylint.\"\"\"\n\n\ndef collect(item: int, into: list[int] = []) -> list[int]:\n    \"\"\"Collect.\"\"\"\n    return into + [item]\n",
	}), []string{"lint"})
	require.Equal(t, 1, got.code)
	require.True(t, strings.HasPrefix(got.stdout, "lint failed in "), got.stdout)
	require.Contains(t, got.stdout, "\nmend what black and isort found: "+program+" format --source ")
	type place struct {
		tool, file string
		line       int
	}
	var places []place
	for _, f := range got.findings(t) {
		places = append(places, place{f.tool, f.file, f.line})
	}
	for _, want := range []place{
		{"black", "scores/for_black.py", 3},
		{"isort", "scores/for_isort.py", 3},
		{"flake8", "scores/for_flake8.py", 3},
		{"mypy", "scores/for_mypy.py", 3},
		{"pylint", "scores/for_pylint.py", 4},
	} {
		require.Contains(t, places, want)
		require.Contains(t, got.node(t, "lint").Reason, want.tool+": ")
	}
	got.requireOneScreen(t)
}
