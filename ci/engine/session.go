package engine

import (
	"fmt"
	"io"
	"os"
	"slices"
)

// realCLIVariable names the dagger command for the process that [BecomeSession] turns into it, and silentVariable that nobody
// reads what it logs.
const (
	realCLIVariable = "_MILLRACE_DAGGER_CLI"
	silentVariable  = "_MILLRACE_DAGGER_SILENT"
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
	err := becomeApart(cli, argv, os.Environ())
	fmt.Fprintf(os.Stderr, "start %s: %v\n", cli, err)
	os.Exit(1)
}

// sessionCLI returns the command by which the SDK starts a session, and what that needs in its environment.
//
// What goes nowhere is not logged: twenty times a second, a session goes through all that it has ever done, which takes a
// long one a fifth of a processor.
func (e *Engine) sessionCLI(log io.Writer) (cli string, environment map[string]string) {
	self, err := os.Executable()
	if !becomes || !canBeApart || e.cli == "" || err != nil {
		return e.cli, nil
	}
	environment = map[string]string{realCLIVariable: e.cli}
	if log == io.Discard {
		environment[silentVariable] = "1"
	}
	return self, environment
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
