package enginetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// A lock of uv's says what is installed, whatever else the project has.
func TestAProjectThatUvHasLocked(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	source := scores(t, edits{
		"pyproject.toml": "[project]\nname = \"scores\"\nversion = \"0.1.0\"\nrequires-python = \">=3.11\"\ndependencies = [\"six<1.17\"]\n",
		"uv.lock": `version = 1
revision = 1
requires-python = ">=3.11"

[[package]]
name = "scores"
version = "0.1.0"
source = { virtual = "." }
dependencies = [
    { name = "six" },
]

[package.metadata]
requires-dist = [{ name = "six", specifier = "<1.17" }]

[[package]]
name = "six"
version = "1.16.0"
source = { registry = "https://pypi.org/simple" }
wheels = [
    { url = "https://files.pythonhosted.org/packages/d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d792b5a01506781dbcf25c91daf11/six-1.16.0-py2.py3-none-any.whl", hash = "sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254", size = 11053 },
]
`,
		"tests/test_locked.py": "import six\n\n\ndef test_version():\n    assert six.__version__ == \"1.16.0\"\n",
	})
	got := ci(t, source, []string{"test"})
	require.Equal(t, 0, got.code)
	require.Equal(t, graph.Passed, got.node(t, "test").Verdict)
}
