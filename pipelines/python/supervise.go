package python

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/step"
)

//go:embed supervise.py
var superviseScript string

// beyond is the exit code of the supervisor for a command whose own exit code the engine does not accept.
const beyond = 128

// supervised runs argv as [step.Exec] does, also when it ends with an exit code above 127 or by a signal.
// The exit code is then that one, and less than 0 for a signal. It also returns when that happened; zero when it did not.
func supervised(ctx context.Context, ctr *dagger.Container, python, name string, argv []string) (step.Executed, time.Time, error) {
	note := reportsDir + "/" + name + ".exit.txt"
	done, err := step.Exec(ctx, ctr.WithNewFile("/millrace/supervise.py", superviseScript), reportsDir, name,
		append([]string{python, "/millrace/supervise.py", note}, argv...))
	if err != nil || done.ExitCode != beyond {
		return done, time.Time{}, err
	}
	text, err := done.File(ctx, note)
	if err != nil {
		return done, time.Time{}, err
	}
	var unix int64
	if _, err := fmt.Sscanf(text, "%d %d", &done.ExitCode, &unix); err != nil {
		return done, time.Time{}, fmt.Errorf("read the exit code of %s: %w", name, err)
	}
	return done, time.Unix(unix, 0), nil
}
