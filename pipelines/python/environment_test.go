package python

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/report"
)

func TestChooseRequirementFiles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		found, want []string
		lock        bool
	}{
		{nil, nil, false},
		{[]string{"requirements.txt", "api/requirements.txt", "requirements/", "requirements/dev.txt"}, []string{"requirements.txt", "requirements/dev.txt"}, false},
		{[]string{"api/requirements.txt", "pyproject.toml"}, []string{"pyproject.toml", "api/requirements.txt"}, false},
		{[]string{"uv.lock", "pyproject.toml", "requirements.txt"}, []string{"pyproject.toml", "uv.lock"}, true},
	} {
		names, lock := choose(test.found)
		require.Equal(t, test.want, names)
		require.Equal(t, test.lock, lock)
	}
}

func TestInputsLeaveTheProjectItselfOut(t *testing.T) {
	t.Parallel()
	r := requirements{names: []string{"pyproject.toml", "requirements.txt"}, texts: map[string]string{
		"pyproject.toml":   "[project]\nname = \"my_app\"\ndependencies = [\"flask>=2\"]\n[project.optional-dependencies]\nall = [\"my-app[dev]\"]\ndev = [\"mypy\"]\n[tool.black]\nline-length = 90\n",
		"requirements.txt": "-e .\nrequests==2.32.3\n./libs/own\n",
	}}
	files, args, err := r.inputs()
	require.NoError(t, err)
	require.Equal(t, []string{"pyproject.toml.dependencies.txt", "requirements.txt"}, args)
	require.Equal(t, "flask>=2\nmypy\n", files["pyproject.toml.dependencies.txt"])
	require.NotContains(t, files["requirements.txt"], "-e .")
	require.Contains(t, files["requirements.txt"], "requests==2.32.3\n./libs/own")
	_, err = projectDependencies("[project\n")
	require.ErrorContains(t, err, "pyproject.toml:1")
}

func TestBlameTellsTheProjectsFaultFromTheNetworks(t *testing.T) {
	t.Parallel()
	r := requirements{names: []string{"requirements.txt"}, texts: map[string]string{"requirements.txt": "flask\nno-such==1.0\n"}}
	// As uv 0.13.9 says it.
	fault, err := blame(errors.New("uv pip compile: exit code 1\nerror: No solution found when resolving dependencies\n  cause: Because no-such was not found in the package registry and you require no-such==1.0, we can conclude that your requirements are unsatisfiable."), r)
	require.NoError(t, err)
	require.Equal(t, report.High, fault.Findings[0].Severity)
	require.Contains(t, fault.Reason, "requirements cannot be met: requirements.txt:2: No solution found when resolving dependencies: Because no-such was not found")
	fault, err = blame(errors.New("uv pip compile: exit code 2\nerror: Failed to fetch: http://127.0.0.1:9/simple/requests/\n  cause: error sending request for url"), r)
	require.Nil(t, fault)
	require.ErrorContains(t, err, "the package index cannot be reached")
}

func TestSettingsAreFoundWhereToolsLookForThem(t *testing.T) {
	t.Parallel()
	s := settings{files: map[string]string{
		"setup.cfg":      "[flake8]\nmax-line-length = 88\n[tool:pytest]\naddopts =\n    timeout = 1\n",
		"pyproject.toml": "[tool.coverage.report]\nfail_under = 91.5\n",
	}}
	value, ok := s.lookup("setup.cfg:flake8:max_line_length")
	require.True(t, ok)
	require.Equal(t, "88", value)
	require.True(t, s.says("setup.cfg:tool:pytest:addopts"))
	require.False(t, s.says(pytestPlaces("timeout")...), "a continued value is no key")
	threshold, err := Test{}.threshold(s)
	require.NoError(t, err)
	require.InEpsilon(t, 91.5, threshold, 1e-9)
}

func TestAmbiguousModules(t *testing.T) {
	t.Parallel()
	require.True(t, ambiguous([]string{"a/main.py", "b/main.py"}))
	require.False(t, ambiguous([]string{"a/__init__.py", "a/main.py", "b/main.py"}))
	require.False(t, ambiguous([]string{"main.py", "main.pyi"}))
}
