package codecov

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
)

const sha = "0123456789abcdef0123456789abcdef01234567"

func TestCommand(t *testing.T) {
	t.Parallel()
	plain := Upload{Slug: "acme/api", SHA: sha, Branch: "main"}.command([]string{"python/coverage.xml"})
	require.Equal(t, "timeout 120 codecovcli --disable-telem --auto-load-params-from Local upload-process --fail-on-error --disable-search --plugin noop "+
		"--network-root-folder /src --git-service github --slug acme/api --sha "+sha+" --branch main --file /coverage/python/coverage.xml", strings.Join(plain, " "))

	full := strings.Join(Upload{
		URL: "https://codecov.example/", Slug: "acme/api", GitService: "gitlab", SHA: sha, Parent: "f" + sha[1:], Branch: "main", Fork: "someone",
		PullRequest: 7, Flags: []string{"a", "b"}, Name: "n", BuildURL: "https://ci.example/1", Prefix: "./examples/x/", Timeout: 1500 * time.Millisecond,
	}.command([]string{"a.xml", "b.xml"}), " ")
	for _, want := range []string{
		"timeout 1.5 ", " --url https://codecov.example ", " --git-service gitlab ", " --branch someone:main ", " --parent-sha f" + sha[1:], " --pr 7 ",
		" --flag a --flag b ", " --name n ", " --build-url https://ci.example/1 ", " --network-prefix examples/x/ ", " --file /coverage/a.xml --file /coverage/b.xml",
	} {
		require.Contains(t, full, want)
	}
}

func TestSkipsWithAReason(t *testing.T) {
	t.Parallel()
	for want, upload := range map[string]Upload{
		"no Codecov token is given":                                        {Slug: "a/b", SHA: sha, Branch: "main"},
		"the repository's owner/name is not known, and Codecov goes by it": {Tokenless: true, SHA: sha, Branch: "main"},
		"the commit's full id is not known, and Codecov goes by it":        {Tokenless: true, Slug: "a/b", SHA: "abc", Branch: "main"},
		"the branch is not known, and Codecov goes by it":                  {Fork: "someone", Slug: "a/b", SHA: sha},
		"there are no reports":                                             {Tokenless: true, Slug: "a/b", SHA: sha, Branch: "main"},
	} {
		result, err := upload.Run(t.Context(), nil, nil)
		require.NoError(t, err)
		require.Equal(t, step.Result{Verdict: graph.Skipped, Reason: want}, result)
	}
}

// The outputs follow the forms in which codecov-cli 11.3.1 logs; "Repository not found" is a text that Codecov's users report.
func TestExplain(t *testing.T) {
	t.Parallel()
	const head = "info - 2026-11-23 09:05:55,100 -- ci service found: local\ninfo - 2026-11-23 09:05:55,200 -- Commit creating complete\n"
	u := Upload{Slug: "acme/api", Branch: "main"}
	tests := map[string]struct {
		code      int
		output    string
		want      string
		transient bool
	}{
		"wrong token": {1, head + "\x1b[31merror\x1b[0m - 2026-11-23 09:05:55,300 -- Commit creating failed: {\"detail\":\"Invalid token.\"}\n",
			`codecov: Codecov refuses the token for acme/api: check the secret, and that it belongs to this repository: Commit creating failed: {"detail":"Invalid token."}`, false},
		"no token": {1, head + "error - 2026-11-23 09:05:55,300 -- Commit creating failed: {\"message\":\"Token required because branch is protected\"}\n",
			`codecov: Codecov wants a token for acme/api, branch main: set one, or allow uploads without a token in Codecov: Commit creating failed: {"message":"Token required because branch is protected"}`, false},
		"unknown repository": {1, head + "error - 2026-11-23 09:05:55,300 -- Commit creating failed: {\"message\":\"Repository not found\"}\n",
			`codecov: Codecov does not know the repository acme/api: add it there, or correct the name: Commit creating failed: {"message":"Repository not found"}`, false},
		"no answer":      {1, "Traceback (most recent call last):\nException: Request failed after too many retries. URL: https://ingest.codecov.io/x\n", "codecov: Codecov can't be reached, or is not well: it was asked three times", true},
		"too late":       {124, head, "codecov: Codecov did not answer within 2m0s", true},
		"storage":        {1, head + "error - 2026-11-23 09:05:55,300 -- Upload queued for processing failed: {\"message\":\"Forbidden\"}\n", `codecov: Upload queued for processing failed: {"message":"Forbidden"}`, false},
		"usage":          {2, "Usage: codecovcli upload-process [OPTIONS]\n\nError: Invalid value for '--git-service': 'x'\n", "codecov: Invalid value for '--git-service': 'x'", false},
		"nothing to say": {3, "", "codecov: the upload ended with exit code 3: see codecov.stderr.txt in the reports", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := u.explain(test.code, test.output)
			require.EqualError(t, err, test.want)
			require.Equal(t, test.transient, graph.IsTransient(err))
		})
	}
}

func TestAFailedUploadIsAWarningUnlessFatal(t *testing.T) {
	t.Parallel()
	cause := graph.Transient(errors.New("no answer\ndetails"))
	result, err := Upload{}.unsent(t.Context(), step.Result{}, cause)
	require.NoError(t, err)
	require.Equal(t, graph.Passed, result.Verdict)
	require.Equal(t, "warning: no answer", result.Reason)
	require.Len(t, result.Findings, 1)

	result, err = Upload{Fatal: true}.unsent(t.Context(), step.Result{}, cause)
	require.True(t, graph.IsTransient(err))
	require.Equal(t, graph.Errored, result.Verdict)

	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Upload{}.unsent(stopped, step.Result{}, cause)
	require.Error(t, err)
}

func TestTheToolIsPinned(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^\d+\.\d+\.\d+$`, version)
}
