package main

import (
	"errors"

	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// exitUsage is the exit code for a mistake in the arguments or the configuration.
const exitUsage = 2

// usageError is a mistake in the arguments.
type usageError struct{ error }

func (usageError) ExitCode() int   { return exitUsage }
func (u usageError) Unwrap() error { return u.error }

// failure makes err fit to leave the module.
func failure(err error) error {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return exit(coded.ExitCode(), err.Error())
	}
	return exit(graph.Errored.ExitCode(), err.Error())
}

// exit returns an error with that text, with which the command line of Dagger ends with that code.
//
// The text must be whole in the error itself: of an error that wraps one of the engine's, only that one's text leaves
// the module. The code goes in the form in which the engine hands on the code of a command in a container, because that
// is the one that callers understand; others take it for an error like any.
func exit(code int, text string) error {
	return &gqlerror.Error{
		Message: text,
		Extensions: map[string]any{
			"_type": "EXEC_ERROR", "cmd": []string{"millrace"}, "exitCode": code, "stdout": "", "stderr": "",
		},
	}
}
