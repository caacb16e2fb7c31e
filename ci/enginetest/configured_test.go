package enginetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// What millrace.yaml says of a step is what the step does.
func TestStepsAsConfigured(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	t.Run("tests in two shards", func(t *testing.T) {
		t.Parallel()
		got := ci(t, scores(t, edits{
			"millrace.yaml": "test: {shards: 2, coverage: 100}\n",
			// Neither shard alone covers all of it.
			"scores/more.py":     "\"\"\"More.\"\"\"\n\n\ndef sign(value: float) -> str:\n    \"\"\"Return the sign.\"\"\"\n    if value < 0:\n        return \"-\"\n    return \"+\"\n",
			"tests/test_less.py": "from scores.more import sign\n\n\ndef test_minus() -> None:\n    assert sign(-1) == \"-\"\n",
			"tests/test_more.py": "from scores.more import sign\n\n\ndef test_plus() -> None:\n    assert sign(1) == \"+\"\n",
		}), []string{"test"})
		require.Equal(t, 0, got.code)
		node := got.node(t, "test")
		require.EqualValues(t, 5, node.Metrics["tests"])
		require.EqualValues(t, 2, node.Metrics["shards"])
		require.EqualValues(t, 100, node.Metrics["coverage_percent"])
	})
	t.Run("an image by target, argument and platform", func(t *testing.T) {
		t.Parallel()
		changes := edits{
			"millrace.yaml": "images:\n  - {name: api, dockerfile: docker/api.Dockerfile, target: served, args: {COLOUR: red}, platforms: [linux/amd64]}\n",
			"docker/api.Dockerfile": "FROM python:3.11-slim AS served\nARG COLOUR\nARG TARGETPLATFORM\n" +
				"RUN test \"$COLOUR $TARGETPLATFORM\" = \"red linux/amd64\"\nFROM served AS never\nRUN exit 1\n",
		}
		source := scores(t, changes)
		got := ci(t, source, []string{"build"})
		require.Equal(t, 0, got.code)
		edit(t, source, edits{"millrace.yaml": "images:\n  - {name: api, dockerfile: docker/api.Dockerfile, target: served, args: {COLOUR: blue}}\n"})
		got = ci(t, source, []string{"build"})
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "build").Reason, "docker/api.Dockerfile:4")
	})
	t.Run("findings that are accepted for a while, and a threshold", func(t *testing.T) {
		t.Parallel()
		const shell = "\"\"\"Shell.\"\"\"\n\nimport subprocess\n\nsubprocess.call(input(), shell=True)\n"
		source := scores(t, edits{"scores/shell.py": shell, "millrace.yaml": "security:\n  allow: [{id: B602, reason: nobody calls it, expires: 2099-12-31}]\n"})
		got := ci(t, source, []string{"security"})
		require.Equal(t, 0, got.code)
		require.EqualValues(t, 1, got.node(t, "security").Metrics["accepted"])
		edit(t, source, edits{"millrace.yaml": "security:\n  allow: [{id: B602, reason: nobody calls it, expires: 2020-12-31}]\n"})
		got = ci(t, source, []string{"security"})
		require.Equal(t, 1, got.code)
		require.Contains(t, got.node(t, "security").Reason, "B602 expired on 2020-12-31")
		edit(t, source, edits{"millrace.yaml": "security: {severity: critical}\n"})
		require.Equal(t, 0, ci(t, source, []string{"security"}).code)
	})
	t.Run("format writes back what changed, and nothing else", func(t *testing.T) {
		t.Parallel()
		source := scores(t, edits{"scores/wide.py": "\"\"\"Wide.\"\"\"\n\nimport sys\nimport os\n\nPAIR = ( os,sys )\n"})
		other := filepath.Join(source, "scores", "grade.py")
		before, err := os.Stat(other)
		require.NoError(t, err)
		code, said := pasted(t, program+" format --engine embedded --source "+source)
		require.Zero(t, code)
		require.Contains(t, said, "scores/wide.py\n")
		require.NotContains(t, said, "grade.py")
		text, err := os.ReadFile(filepath.Join(source, "scores", "wide.py"))
		require.NoError(t, err)
		require.Equal(t, "\"\"\"Wide.\"\"\"\n\nimport os\nimport sys\n\nPAIR = (os, sys)\n", string(text))
		after, err := os.Stat(other)
		require.NoError(t, err)
		require.Equal(t, before.ModTime(), after.ModTime())
		require.Equal(t, graph.Passed, ci(t, source, []string{"lint"}).node(t, "lint").Verdict)
	})
}
