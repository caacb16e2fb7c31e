// Package codecov uploads coverage reports to Codecov, or to a Codecov of one's own.
package codecov

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Upload sends coverage reports with Codecov's own command-line tool. It is never cached.
//
// It speaks Codecov's current protocol: commit, report and upload are created by POST, one after the other, and the
// report is PUT to the storage address that comes back. The tool asks again three times when Codecov does not answer
// or has an error of its own, and its telemetry is off.
//
// A failure does not fail the run: the result is passed, with a reason that starts with "warning:" and a finding.
// See Fatal. Without a token, the step is skipped unless the pull request comes from a fork or Tokenless is set.
type Upload struct {
	// Token is the repository's or the organisation's upload token. Only the upload itself can read it.
	Token *dagger.Secret
	// Tokenless uploads without a token, for public repositories whose organisation allows that.
	Tokenless bool
	// Fork is the owner of the fork that a pull request comes from. Codecov takes uploads for a public repository
	// from its forks without a token.
	Fork string
	// URL is the address of a Codecov of one's own; Codecov's by default.
	URL string
	// Service is a Codecov of one's own that runs in the same session, under the host name "codecov".
	Service *dagger.Service
	// Slug is owner/repository.
	Slug string
	// GitService is the forge: github, gitlab, bitbucket, github_enterprise, gitlab_enterprise or bitbucket_server.
	// github by default.
	GitService string
	// SHA is the commit's full id, and Parent the id of the commit before it, if that is known.
	SHA, Parent string
	// Branch is the branch's name.
	Branch string
	// PullRequest is the pull request's number; 0 means none.
	PullRequest int
	// Flags group uploads in Codecov, for example "backend".
	Flags []string
	// Name names the upload in Codecov.
	Name string
	// BuildURL leads from Codecov to the run.
	BuildURL string
	// Files are patterns of the coverage files below the reports; [DefaultFiles] by default.
	Files []string
	// Source is the source tree. Codecov resolves the paths in the reports by its list of files, and nothing of their
	// content is sent but the numbers of lines that hold no code. It may be nil.
	Source *dagger.Directory
	// Prefix is the path of Source in its repository, where it is not the root.
	Prefix string
	// Python is the version of Python that the tool runs on; the library's default when it is empty.
	Python string
	// Timeout bounds the upload; 2 minutes by default.
	Timeout time.Duration
	// Fatal makes a failed upload an error, marked for graph.Retry if it may pass.
	Fatal bool
}

// DefaultFiles are the names of coverage files that are looked for when none are configured.
var DefaultFiles = []string{"**/coverage.xml", "**/coverage.out", "**/cover.out", "**/lcov.info"}

// requirements pins the tool and all that it needs, with hashes:
//
//	uv pip compile --universal --python-version 3.10 --generate-hashes --no-annotate --no-header -o requirements.txt requirements.in
//
//go:embed requirements.txt
var requirements string

// version is the tool's, as requirements.txt pins it.
var version = regexp.MustCompile(`(?m)^codecov-cli==(\S+)`).FindStringSubmatch(requirements)[1]

// Where things lie in the container.
const (
	sourceFolder  = "/src"
	inputFolder   = "/coverage"
	reportsFolder = "/reports"
	codecovHost   = "codecov"
)

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Run uploads the coverage files among the reports of the tests.
func (u Upload) Run(ctx context.Context, c *dagger.Client, reports *dagger.Directory) (step.Result, error) {
	switch {
	case u.Token == nil && !u.Tokenless && u.Fork == "":
		return step.Skip("no Codecov token is given"), nil
	case u.Slug == "":
		return step.Skip("the repository's owner/name is not known, and Codecov goes by it"), nil
	case !commitID.MatchString(u.SHA):
		return step.Skip("the commit's full id is not known, and Codecov goes by it"), nil
	case u.branch() == "":
		return step.Skip("the branch is not known, and Codecov goes by it"), nil
	case reports == nil:
		return step.Skip("there are no reports"), nil
	}
	files, err := u.find(ctx, reports)
	if err != nil {
		return step.Result{}, fmt.Errorf("codecov: look for coverage files: %w", step.Explain(err))
	}
	if len(files) == 0 {
		return step.Skip("there is no coverage file among the reports: looked for %s", strings.Join(u.patterns(), ", ")), nil
	}
	done, err := step.Exec(ctx, u.container(ctx, c, reports), reportsFolder, "codecov", u.command(files))
	if err != nil {
		return u.unsent(ctx, step.Result{}, err)
	}
	output, err := done.Tail(ctx)
	if err != nil {
		return u.unsent(ctx, step.Result{}, err)
	}
	result := step.Result{
		Verdict: graph.Passed,
		Metrics: map[string]float64{"files": float64(len(files))},
		Tools:   map[string]string{"codecov-cli": version},
		Output:  output,
		Reports: done.Container.Directory(reportsFolder),
	}
	if done.ExitCode == 0 {
		return result, nil
	}
	return u.unsent(ctx, result, u.explain(done.ExitCode, output))
}

// unsent completes the result of an upload that failed: a warning, or the error itself where it is fatal.
// A run that is being stopped gets the error, because nobody can tell then how the upload would have ended.
func (u Upload) unsent(ctx context.Context, result step.Result, err error) (step.Result, error) {
	if u.Fatal || ctx.Err() != nil {
		result.Verdict, result.Reason = graph.Errored, err.Error()
		return result, err
	}
	reason, _, _ := strings.Cut(err.Error(), "\n")
	result.Verdict, result.Reason = graph.Passed, "warning: "+reason
	result.Findings = []report.Finding{{Tool: "codecov", Rule: "upload", Severity: report.Low, Message: reason}}
	return result, nil
}

func (u Upload) patterns() []string {
	if len(u.Files) > 0 {
		return u.Files
	}
	return DefaultFiles
}

// find returns the paths of the coverage files below the reports, in their order.
func (u Upload) find(ctx context.Context, reports *dagger.Directory) ([]string, error) {
	var files []string
	for _, pattern := range u.patterns() {
		found, err := reports.Glob(ctx, pattern)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// container has the tool, the reports and the source. All up to the source is cached.
func (u Upload) container(ctx context.Context, c *dagger.Client, reports *dagger.Directory) *dagger.Container {
	const certificates = "/etc/ssl/certs/ca-certificates.crt"
	if u.Source == nil {
		u.Source = c.Directory()
	}
	ctr := c.Container().From(image.Python(u.Python)).
		// The tool and pip would go by a list of authorities of their own, and not know a company's.
		WithEnvVariable("REQUESTS_CA_BUNDLE", certificates).
		WithEnvVariable("PIP_CERT", certificates).
		WithNewFile("/opt/codecov-requirements.txt", requirements).
		WithExec([]string{"pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore", "--require-hashes", "-r", "/opt/codecov-requirements.txt"}).
		WithDirectory(reportsFolder, c.Directory()).
		WithMountedDirectory(inputFolder, reports).
		WithMountedDirectory(sourceFolder, u.Source).
		WithWorkdir(sourceFolder)
	if u.Service != nil {
		ctr = step.WithService(ctx, ctr, codecovHost, u.Service)
	}
	if u.Token != nil {
		ctr = ctr.WithSecretVariable("CODECOV_TOKEN", u.Token)
	}
	// Without it, the engine would take a second upload of the same files for done.
	return ctr.WithEnvVariable("MILLRACE_UPLOAD", rand.Text())
}

// branch is the branch under the name that Codecov knows it by; a fork's has its owner in front.
func (u Upload) branch() string {
	if u.Fork != "" && u.Token == nil && u.Branch != "" {
		return u.Fork + ":" + u.Branch
	}
	return u.Branch
}

func (u Upload) timeout() time.Duration {
	if u.Timeout > 0 {
		return u.Timeout
	}
	return 2 * time.Minute
}

// command is the whole command line. timeout is there because the tool itself waits for an answer for ever,
// and the provider Local because it would look for git otherwise.
func (u Upload) command(files []string) []string {
	argv := []string{"timeout", strconv.FormatFloat(u.timeout().Seconds(), 'f', -1, 64), "codecovcli", "--disable-telem", "--auto-load-params-from", "Local"}
	if u.URL != "" {
		argv = append(argv, "--url", strings.TrimSuffix(u.URL, "/"))
	}
	service := u.GitService
	if service == "" {
		service = "github"
	}
	argv = append(argv, "upload-process", "--fail-on-error", "--disable-search", "--plugin", "noop",
		"--network-root-folder", sourceFolder, "--git-service", service, "--slug", u.Slug, "--sha", u.SHA, "--branch", u.branch())
	for _, option := range []struct{ name, value string }{
		{"--parent-sha", u.Parent}, {"--name", u.Name}, {"--build-url", u.BuildURL}, {"--network-prefix", u.prefix()},
	} {
		if option.value != "" {
			argv = append(argv, option.name, option.value)
		}
	}
	if u.PullRequest > 0 {
		argv = append(argv, "--pr", strconv.Itoa(u.PullRequest))
	}
	for _, flag := range u.Flags {
		argv = append(argv, "--flag", flag)
	}
	for _, file := range files {
		argv = append(argv, "--file", path.Join(inputFolder, file))
	}
	return argv
}

// prefix ends with a slash: the tool puts it in front of the paths as it is.
func (u Upload) prefix() string {
	if p := strings.Trim(path.Clean("/"+u.Prefix), "/"); p != "" {
		return p + "/"
	}
	return ""
}

var (
	colour    = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	loggedErr = regexp.MustCompile(`(?m)^error - .*? -- (.+)$`)
	plainErr  = regexp.MustCompile(`(?m)^(?:Error|Exception|[\w.]+Error): (.+)$`)
)

// explain says why the tool failed, and what to do about it.
func (u Upload) explain(code int, output string) error {
	output = colour.ReplaceAllString(output, "")
	where := "Codecov"
	if u.URL != "" {
		where = u.URL
	}
	said := ""
	for _, re := range []*regexp.Regexp{loggedErr, plainErr} {
		if all := re.FindAllStringSubmatch(output, -1); said == "" && len(all) > 0 {
			said = strings.TrimSpace(all[len(all)-1][1])
		}
	}
	switch {
	case code == 124:
		return graph.Transient(fmt.Errorf("codecov: %s did not answer within %s", where, u.timeout()))
	case strings.Contains(output, "too many retries"):
		return graph.Transient(fmt.Errorf("codecov: %s can't be reached, or is not well: it was asked three times", where))
	case strings.Contains(said, "Invalid token"), strings.Contains(said, "Not valid tokenless upload"):
		return fmt.Errorf("codecov: %s refuses the token for %s: check the secret, and that it belongs to this repository: %s", where, u.Slug, said)
	case strings.Contains(said, "Token required"):
		return fmt.Errorf("codecov: %s wants a token for %s, branch %s: set one, or allow uploads without a token in Codecov: %s", where, u.Slug, u.branch(), said)
	case strings.Contains(said, "Repository not found"):
		return fmt.Errorf("codecov: %s does not know the repository %s: add it there, or correct the name: %s", where, u.Slug, said)
	case said != "":
		return fmt.Errorf("codecov: %s", said)
	default:
		return fmt.Errorf("codecov: the upload ended with exit code %d: see codecov.stderr.txt in the reports", code)
	}
}
