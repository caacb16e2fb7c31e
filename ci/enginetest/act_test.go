package enginetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	gomodule "golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	embeds "github.com/millrace-ci/millrace/ci/embedded"
	"github.com/millrace-ci/millrace/pipelines/image"
)

// act returns nektos/act, which plays GitHub Actions. It is the build of it on PyPI, pinned by a lock: to compile it takes minutes.
func act(t *testing.T) string {
	t.Helper()
	lock, err := os.ReadFile("testdata/act.txt")
	require.NoError(t, err)
	ctr, err := image.Toolbox(t.Context(), client(t), "", string(lock))
	require.NoError(t, err)
	path, err := ctr.File("/opt/venv/bin/act").Export(t.Context(), filepath.Join(t.TempDir(), "act"))
	require.NoError(t, err)
	return path
}

// workflow is a run of a repository's workflow on this machine, as if it were GitHub's runner.
type workflow struct {
	// example names the folder of examples whose workflows are run, and file the one of them.
	example, file string
	// source is the repository that they are laid into.
	source string
	// event is GitHub's name of what happened, and payload what GitHub says of it.
	event   string
	payload map[string]any
	// vars and secrets are the repository's.
	vars, secrets map[string]string
}

// hosted is what a run of workflows left: the outcome of the command in it, whose reports are the artifact of that name,
// and what else was uploaded.
type hosted struct {
	outcome
	// uploads holds the folders artifacts and sarif.
	uploads string
}

// uses finds the actions of a workflow: repository, folder in it, and commit.
var uses = regexp.MustCompile(`uses: ([\w.-]+/[\w.-]+)(/[\w./-]+)?@(\w+)`)

// calls finds the version of this project that a workflow runs.
var calls = regexp.MustCompile(`github\.com/millrace-ci/millrace/ci@(v[\w.-]+)`)

// run plays the event, on the embedded engine. Nothing is fetched from GitHub.
func (w workflow) run(t *testing.T) hosted {
	t.Helper()
	needsEngine(t)
	from := filepath.Join(repository, "examples", w.example, ".github")
	require.NoError(t, os.CopyFS(filepath.Join(w.source, ".github"), os.DirFS(from)))
	committed(t, w.source, "https://github.com/Acme/Scores.git")
	payload := filepath.Join(t.TempDir(), "event.json")
	data, err := json.Marshal(w.payload)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(payload, data, 0o644))
	argv := []string{
		act(t), w.event, "--eventpath", payload, "--platform", "ubuntu-latest=-self-hosted", "--actor", "ada",
		"--workflows", filepath.Join(".github/workflows", w.file), "--no-cache-server", "--container-daemon-socket", "-", "--action-cache-path", t.TempDir(),
	}
	for name, value := range w.vars {
		argv = append(argv, "--var", name+"="+value)
	}
	for name, value := range w.secrets {
		argv = append(argv, "--secret", name+"="+value)
	}
	text := w.text(t)
	for _, action := range uses.FindAllStringSubmatch(text, -1) {
		if action[1] == "actions/checkout" {
			continue // which act does itself
		}
		standIn, err := filepath.Abs(filepath.Join("testdata/actions", action[1]))
		require.NoError(t, err)
		require.FileExists(t, filepath.Join(standIn, action[2], "action.yml"), "%s needs a stand-in", action[0])
		argv = append(argv, "--local-repository", action[1]+"@"+action[3]+"="+standIn)
	}
	var env []string
	for _, version := range calls.FindAllStringSubmatch(text, -1) {
		env, err = releases.add(version[1])
		require.NoError(t, err)
	}
	done := hosted{uploads: t.TempDir()}
	env = append(env, "UPLOADS="+done.uploads, "XDG_CONFIG_HOME="+t.TempDir())
	ran := onEngineWith(t, w.source, env, argv...)
	t.Logf("act %s ended with %d and said:\n%s%s", w.event, ran.code, ran.stdout, ran.stderr)
	done.outcome = outcome{code: ran.code, stdout: ran.stdout, stderr: ran.stderr, out: filepath.Join(done.uploads, "artifacts", "reports")}
	done.run = readRun(t, done.out)
	for _, secret := range w.secrets {
		require.NotContains(t, ran.stdout+ran.stderr, secret)
	}
	return done
}

// text is the workflow's.
func (w workflow) text(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.source, ".github/workflows", w.file))
	require.NoError(t, err)
	return string(data)
}

// releases is a module proxy in a folder that has this project, as it lies here, in the versions that workflows call for:
// their very lines run before there is such a release, and from nothing but what would be in the module's zip.
var releases proxy

type proxy struct {
	mu       sync.Mutex
	versions []string
}

// add publishes a version, if need be, and returns the environment in which go finds it.
func (p *proxy) add(version string) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	root := filepath.Join(filepath.Dir(program), "proxy")
	file, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		return nil, err
	}
	m := gomodule.Version{Path: modfile.ModulePath(file), Version: version}
	own, err := goEnv("GOPROXY", "GOFLAGS", "GOMODCACHE", "GONOSUMDB")
	if err != nil {
		return nil, err
	}
	// A module cache of its own: what is published here must not be taken for the release of that name later on. It takes
	// the other modules from the user's. Builds are shared between runs by -trimpath, as the cache's place is not in them; with
	// the compiler's other flags they are also shared with the engine's programs.
	env := []string{
		"GOPROXY=file://" + root + ",file://" + filepath.Join(own["GOMODCACHE"], "cache/download") + "," + own["GOPROXY"],
		"GOMODCACHE=" + filepath.Join(filepath.Dir(program), "modules"),
		"GONOSUMDB=" + strings.TrimPrefix(own["GONOSUMDB"]+","+m.Path, ","),
		"GOFLAGS=" + strings.TrimSpace(own["GOFLAGS"]+" -modcacherw -trimpath "+embeds.CompilerFlags),
		"CGO_ENABLED=0",
	}
	if !slices.Contains(p.versions, version) {
		if err := publishModule(filepath.Join(root, m.Path, "@v"), m, file); err != nil {
			return nil, fmt.Errorf("publish %s: %w", m, err)
		}
		p.versions = append(p.versions, version)
		list := strings.Join(p.versions, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(root, m.Path, "@v/list"), []byte(list), 0o644); err != nil {
			return nil, err
		}
		// Workflows that run side by side would each compile it.
		first := exec.Command("go", "run", m.Path+"/ci@"+version, "--help")
		first.Env = append(slices.Clone(environment), env...)
		if out, err := first.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", m, err, out)
		}
	}
	return env, nil
}

func goEnv(names ...string) (map[string]string, error) {
	cmd := exec.Command("go", append([]string{"env", "-json"}, names...)...)
	cmd.Env = environment
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	values := map[string]string{}
	return values, json.Unmarshal(out, &values)
}

// publishModule writes what a module proxy says of a version to dir. The zip has what a release would have: the files that
// git knows or would take, not those that it ignores.
func publishModule(dir string, m gomodule.Version, file []byte) error {
	out, err := exec.Command("git", "-C", repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("list the files: %w", err)
	}
	var files []zip.File
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if _, err := os.Lstat(filepath.Join(repository, name)); errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not committed
		}
		files = append(files, treeFile(name))
	}
	var archive bytes.Buffer
	if err := zip.Create(&archive, m, files); err != nil {
		return fmt.Errorf("make the zip: %w", err)
	}
	info, err := json.Marshal(map[string]any{"Version": m.Version, "Time": time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for suffix, data := range map[string][]byte{".info": info, ".mod": file, ".zip": archive.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, m.Version+suffix), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// treeFile is a file of this repository, for the module's zip.
type treeFile string

var _ zip.File = treeFile("")

func (f treeFile) Path() string                 { return string(f) }
func (f treeFile) Lstat() (os.FileInfo, error)  { return os.Lstat(filepath.Join(repository, string(f))) }
func (f treeFile) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(repository, string(f))) }
