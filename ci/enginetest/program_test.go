package enginetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// A commit that no repository has.
const sha = "0123456789abcdef0123456789abcdef01234567"

// push is what a push to main gives on a CI host.
var push = []string{"--event", "push", "--ref", "main", "--sha", sha}

// sideBySide runs the cases of a test that waits most of its time, all at once. They take the turn of one test; by t.Parallel they
// would take one each, and all at the end, when nothing is left to do meanwhile.
func sideBySide[T any](t *testing.T, cases map[string]T, run func(t *testing.T, c T)) {
	t.Helper()
	var all sync.WaitGroup
	for name, c := range cases {
		all.Go(func() { t.Run(name, func(t *testing.T) { run(t, c) }) })
	}
	all.Wait()
}

// invocation is a run of the ci program that goes on.
type invocation struct {
	cmd            *exec.Cmd
	out            string
	stdout, stderr *record
	ended          chan error
}

// outcome is what a run of the ci program left behind.
type outcome struct {
	code           int
	stdout, stderr string
	// out is the folder of reports, and run the record in it; nil when there is none.
	out string
	run *report.Run
}

// option changes an invocation before it starts.
type option func(*exec.Cmd)

// withEnv sets environment variables, each NAME=VALUE.
func withEnv(variables ...string) option {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, variables...) }
}

// longest is how long a run may take, first set-up of its images included.
const longest = 25 * time.Minute

// ci runs the program on a source tree to its end. args are the command and its flags.
func ci(t *testing.T, source string, args []string, options ...option) outcome {
	t.Helper()
	return start(t, source, args, options...).wait(t, longest)
}

// start starts the program on a source tree, in a process group of its own as a shell does.
func start(t *testing.T, source string, args []string, options ...option) *invocation {
	t.Helper()
	return startIn(t, filepath.Join(t.TempDir(), "out"), source, args, options...)
}

// startIn is start with a given folder for the reports.
func startIn(t *testing.T, out, source string, args []string, options ...option) *invocation {
	t.Helper()
	needsEngine(t)
	i := &invocation{out: out, stdout: newRecord(), stderr: newRecord(), ended: make(chan error, 1)}
	i.cmd = exec.Command(program, append(args, "--source", source, "--out", i.out, "--engine", "embedded")...)
	i.cmd.Env = append([]string{}, environment...)
	i.cmd.Stdout, i.cmd.Stderr = i.stdout, i.stderr
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	i.cmd.WaitDelay = 10 * time.Second
	for _, o := range options {
		o(i.cmd)
	}
	require.NoError(t, i.cmd.Start())
	t.Cleanup(func() { _ = syscall.Kill(-i.cmd.Process.Pid, syscall.SIGKILL) })
	go func() { i.ended <- i.cmd.Wait() }()
	return i
}

// wait waits for the end of the run, which must come within patience, and reads what it left.
func (i *invocation) wait(t *testing.T, patience time.Duration) outcome {
	t.Helper()
	var err error
	select {
	case err = <-i.ended:
	case <-time.After(patience):
		require.FailNow(t, "the run does not end", "after %s; it said:\n%s%s", patience, i.stdout, i.stderr)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	o := outcome{code: i.cmd.ProcessState.ExitCode(), stdout: i.stdout.String(), stderr: i.stderr.String(), out: i.out}
	t.Logf("ci %s\nended with %d and said:\n%s%s", strings.Join(i.cmd.Args[1:], " "), o.code, o.stdout, lastLines(o.stderr, screenLines))
	if o.run = readRun(t, o.out); o.run != nil {
		require.Equal(t, o.run.Verdict.ExitCode(), o.code, "the exit code is not the verdict's")
	}
	return o
}

// readRun reads the record in a folder of reports; nil when there is none.
func readRun(t *testing.T, dir string) *report.Run {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	requireSchema(t, data)
	run, err := report.DecodeRun(data)
	require.NoError(t, err)
	return &run
}

// lastLines returns the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// requireSchema checks a run record by the published schema.
func requireSchema(t *testing.T, data []byte) {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.RunJSONSchema()))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("run.schema.json", document))
	schema, err := compiler.Compile("run.schema.json")
	require.NoError(t, err)
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(instance), "run.json breaks its schema")
}

// node returns the record of one node.
func (o outcome) node(t *testing.T, name string) report.Node {
	t.Helper()
	require.NotNil(t, o.run, "there is no run.json")
	n, ok := o.run.Node(name)
	require.True(t, ok, "run.json has no node %s", name)
	return n
}

// requireVerdicts checks the verdicts of the nodes that are named.
func (o outcome) requireVerdicts(t *testing.T, want map[string]graph.Verdict) {
	t.Helper()
	for name, verdict := range want {
		n := o.node(t, name)
		require.Equal(t, verdict, n.Verdict, "%s: %s", name, n.Reason)
	}
}

// A screen is what an answer must fit on: a terminal that is not maximised, on a laptop.
const (
	screenLines   = 40
	screenColumns = 120
)

// requireOneScreen checks that all that was printed fits on one screen, wrapped lines included.
func (o outcome) requireOneScreen(t *testing.T) {
	t.Helper()
	lines := 0
	for line := range strings.Lines(o.stdout + o.stderr) {
		if strings.HasPrefix(line, "engine: ") {
			continue // said only when something is made for the first time
		}
		lines += max(1, (len([]rune(strings.TrimSuffix(line, "\n")))+screenColumns-1)/screenColumns)
	}
	require.LessOrEqual(t, lines, screenLines, "the answer takes more than one screen")
}

// text reads a file of the reports.
func (o outcome) text(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(o.out, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(data)
}

// finding is what findings.sarif says of one.
type finding struct {
	tool, rule, file, message string
	line                      int
}

// findings reads findings.sarif.
func (o outcome) findings(t *testing.T) []finding {
	t.Helper()
	var log struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Name string }
			}
			Results []struct {
				RuleID    string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(o.text(t, "findings.sarif")), &log))
	var all []finding
	for _, run := range log.Runs {
		for _, result := range run.Results {
			f := finding{tool: run.Tool.Driver.Name, rule: result.RuleID, message: result.Message.Text}
			if len(result.Locations) > 0 {
				place := result.Locations[0].PhysicalLocation
				f.file, f.line = place.ArtifactLocation.URI, place.Region.StartLine
			}
			all = append(all, f)
		}
	}
	return all
}

// record keeps what a process prints, and tells who waits for a part of it.
type record struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newRecord() *record { return &record{changed: make(chan struct{})} }

var _ io.Writer = (*record)(nil)

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// await waits until the text has been printed.
func (r *record) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(longest)
	for {
		r.mu.Lock()
		found, changed := strings.Contains(r.text.String(), text), r.changed
		r.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-late:
			require.FailNow(t, "not printed in time", "%q is not in:\n%s", text, r)
		}
	}
}
