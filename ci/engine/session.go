package engine

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"dagger.io/dagger"
)

// realCLIVariable names the dagger command for the process that [BecomeSession] turns into it, silentVariable says that nobody
// reads what it logs, and sessionPIDVariable names the file that is to have the number of the process.
const (
	realCLIVariable    = "_MILLRACE_DAGGER_CLI"
	silentVariable     = "_MILLRACE_DAGGER_SILENT"
	sessionPIDVariable = "_MILLRACE_DAGGER_SESSION"
)

// becomes says that this program calls BecomeSession.
var becomes bool

// BecomeSession has the sessions of this program be apart from it: an interrupt reaches the program alone. It must be the
// first call of main. In a process that was started to serve such a session, it does not return.
//
// A terminal's Ctrl-C goes to all processes of the group. The session would end at once, and with it all that is left to do
// after an interrupt: to end steps in order, to undo what is half done, to save reports.
func BecomeSession() {
	cli := os.Getenv(realCLIVariable)
	if cli == "" || len(os.Args) < 2 || os.Args[1] != "session" {
		becomes = true
		return
	}
	argv := slices.Clone(os.Args)
	if os.Getenv(silentVariable) != "" {
		argv = slices.Insert(argv, 1, "--silent")
	}
	if file := os.Getenv(sessionPIDVariable); file != "" {
		// Without the number it is not ended where it hangs, which is no reason not to begin.
		_ = os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o600)
	}
	environment := os.Environ()
	if os.Getenv("GOGC") == "" {
		// It lives for a run, on a small heap: it has more use for the processor than for the memory.
		environment = append(environment, "GOGC=400")
	}
	err := becomeApart(cli, argv, environment)
	fmt.Fprintf(os.Stderr, "start %s: %v\n", cli, err)
	os.Exit(1)
}

// sessionCLI returns the command by which the SDK starts a session, and what that needs in its environment.
//
// What goes nowhere is not logged: twenty times a second, a session goes through all that it has ever done, which takes a
// long one a fifth of a processor.
// The file that the environment names for the session's number is the caller's to remove.
func (e *Engine) sessionCLI(log io.Writer) (cli string, environment map[string]string, err error) {
	self, err := os.Executable()
	if !becomes || !canBeApart || e.cli == "" || err != nil {
		return e.cli, nil, nil
	}
	file, err := os.CreateTemp("", "millrace-session-")
	if err != nil {
		return "", nil, err
	}
	if err := file.Close(); err != nil {
		return "", nil, err
	}
	environment = map[string]string{realCLIVariable: e.cli, sessionPIDVariable: file.Name()}
	if log == io.Discard {
		environment[silentVariable] = "1"
	}
	return self, environment, nil
}

// sessions are the processes of the sessions that this program has opened, by their clients.
var sessions sync.Map

// patience is how long a session may take to end. With an engine that is gone, it would take for ever.
const patience = 10 * time.Second

// HangUp closes the client of a session. One that hangs is killed.
func HangUp(c *dagger.Client) {
	closed := make(chan struct{})
	go func() { _ = c.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(patience):
		// Close waits for the process, so its number is nobody else's yet.
		if pid, known := sessions.Load(c); known {
			if process, err := os.FindProcess(pid.(int)); err == nil {
				_ = process.Kill()
			}
		}
	}
	sessions.Delete(c)
}

// setEnvironment sets a variable, and returns what puts it back.
func setEnvironment(name, value string) (restore func(), err error) {
	before, was := os.LookupEnv(name)
	if err := os.Setenv(name, value); err != nil {
		return nil, err
	}
	return func() {
		if was {
			_ = os.Setenv(name, before)
		} else {
			_ = os.Unsetenv(name)
		}
	}, nil
}
