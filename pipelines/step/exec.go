package step

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// MaxOutput bounds, in bytes, what is kept of a tool's output for people to read. The whole output lies in the reports.
const MaxOutput = 64 << 10

// maxParsed bounds, in bytes, what is read of a file that a parser needs whole.
const maxParsed = 64 << 20

// Executed is a command that has run to its end, whatever its exit code.
type Executed struct {
	// ExitCode is the command's exit code, at most 128.
	ExitCode int
	// Container is the container after the command.
	Container *dagger.Container

	stdout, stderr string
}

// Exec runs argv in ctr with its output kept in name.stdout.txt and name.stderr.txt of the folder dir in the container.
// A non-zero exit code is no error: an error means that the command could not be run at all.
//
// A command that was killed by a signal (exit codes above 128) is an error too, because its reports can't be trusted.
func Exec(ctx context.Context, ctr *dagger.Container, dir, name string, argv []string) (Executed, error) {
	e := Executed{stdout: dir + "/" + name + ".stdout.txt", stderr: dir + "/" + name + ".stderr.txt"}
	// A redirection does not make the folder that it points to.
	e.Container = ctr.WithNewFile(e.stdout, "").WithExec(argv, dagger.ContainerWithExecOpts{
		Expect:         dagger.ReturnTypeAny,
		RedirectStdout: e.stdout,
		RedirectStderr: e.stderr,
	})
	// The engine remembers those outputs of a command that it was asked for, and runs it again for others. So it is asked for the
	// files too, lest a later run that wants the reports runs the command once more.
	var code int
	var both errgroup.Group
	both.Go(func() (err error) { code, err = e.Container.ExitCode(ctx); return err })
	both.Go(func() error { _, err := e.Container.Sync(ctx); return err })
	err := both.Wait()
	var failed *dagger.ExecError
	if errors.As(err, &failed) && failed.ExitCode > 128 {
		// To the engine, "any" exit code ends at 128: what is above stands for a signal.
		return e, fmt.Errorf("run %s: the process was killed by signal %d%s", name, failed.ExitCode-128, killed(failed))
	}
	if err != nil {
		return e, fmt.Errorf("run %s: %w", name, Explain(err))
	}
	e.ExitCode = code
	return e, nil
}

// killed adds what is likely behind a signal, and the end of what the process said.
func killed(failed *dagger.ExecError) string {
	text := ""
	if failed.ExitCode == 137 {
		text = ", most likely because memory ran out: give the engine more of it, or split the work"
	}
	if said := strings.TrimSpace(failed.Stdout + "\n" + failed.Stderr); said != "" {
		text += "\n" + said[max(0, len(said)-MaxOutput):]
	}
	return text
}

// Stdout returns all that the command printed to its standard output, for a parser.
func (e Executed) Stdout(ctx context.Context) (string, error) { return e.File(ctx, e.stdout) }

// Stderr returns all that the command printed to its standard error, for a parser.
func (e Executed) Stderr(ctx context.Context) (string, error) { return e.File(ctx, e.stderr) }

// File returns the content of a file that the command left behind.
// It refuses a file of more than 64 MiB, so that a runaway tool can't exhaust the caller's memory.
func (e Executed) File(ctx context.Context, path string) (string, error) {
	f := e.Container.File(path)
	size, err := f.Size(ctx)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, Explain(err))
	}
	if size > maxParsed {
		return "", fmt.Errorf("read %s: it has %d MiB, and %d are the most that is read", path, size>>20, maxParsed>>20)
	}
	text, err := f.Contents(ctx)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, Explain(err))
	}
	return text, nil
}

// Tail returns the last [MaxOutput] bytes of the command's output, standard error after standard output.
func (e Executed) Tail(ctx context.Context) (string, error) {
	var out []string
	for _, path := range []string{e.stdout, e.stderr} {
		f := e.Container.File(path)
		size, err := f.Size(ctx)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", path, Explain(err))
		}
		if size == 0 {
			continue
		}
		if size > MaxOutput {
			// The file may be far too large to fetch: let the container cut it.
			f = e.Container.WithExec([]string{"tail", "-c", strconv.Itoa(MaxOutput), path},
				dagger.ContainerWithExecOpts{RedirectStdout: path + ".tail"}).File(path + ".tail")
			out = append(out, fmt.Sprintf("[the first %d KiB are left out; the reports have them all]", (size-MaxOutput)>>10))
		}
		text, err := f.Contents(ctx)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", path, Explain(err))
		}
		out = append(out, strings.TrimRight(strings.ToValidUTF8(text, "\uFFFD"), "\n"))
	}
	return strings.Join(out, "\n"), nil
}

// stale matches what the engine says when it was to read the source folder of another run, which is gone: a step has taken
// something from a tree without [Folder] or [File]. The next try takes it from the run's own.
var stale = regexp.MustCompile(`failed to receive stat message: .*(?:get full root path|no such file or directory)`)

// Explain unpacks an error of the engine into what a person needs: the command, its exit code and the end of its output.
// It is the one place that knows the engine's error types.
func Explain(err error) error {
	var exec *dagger.ExecError
	if !errors.As(err, &exec) {
		if err != nil && stale.MatchString(err.Error()) {
			return graph.Transient(fmt.Errorf("the engine took a file from the source of another run, which is over: %w", err))
		}
		if err != nil && lost.MatchString(err.Error()) {
			return ErrGone
		}
		return err
	}
	detail := strings.TrimSpace(exec.Stderr)
	if detail == "" {
		detail = strings.TrimSpace(exec.Stdout)
	}
	if len(detail) > MaxOutput {
		detail = detail[len(detail)-MaxOutput:]
	}
	return fmt.Errorf("%s: exit code %d\n%s", strings.Join(exec.Cmd, " "), exec.ExitCode, detail)
}

// ErrGone is the error of a request to an engine that is not there any more.
var ErrGone = errors.New("the engine is gone: it was stopped or killed in mid-run; run it again, with more memory for the engine if this comes back")

// lost matches a request that broke off on its way to the engine. The SDK has no type for that.
var lost = regexp.MustCompile(`http://dagger/query\\?": (?:[^"\n]* )?(?:EOF|connection re(?:fused|set by peer)|broken pipe)|returned error 502: .*http do: Post .*http://dagger/query.*context canceled`)
