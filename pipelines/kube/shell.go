package kube

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// shell runs kubectl in a container that reaches a cluster.
//
// To start a container takes longer than most of what kubectl does in it, so the calls that belong together are one fixed
// script; what differs comes as arguments and files, and is never written into a script. Scripts write to a file and not to
// their output, which ends up in logs.
type shell struct {
	c     *dagger.Client
	tools *dagger.Container
	// id tells the secrets and calls of this shell from those of others in the same session.
	id    string
	calls atomic.Int64
}

// Where scripts find their secret input. scratch is memory: nothing in it gets into a layer.
const (
	inputPath = "/run/millrace/input"
	scratch   = "/run/millrace/scratch"
	saidPath  = "/tmp/millrace/said"
)

// A script's output, its errors and its exit code come in one file: every file more would be a way to the engine and back.
const (
	prologue = `mkdir -p /tmp/millrace
(
`
	epilogue = `
) >/tmp/millrace/said 2>/tmp/millrace/errors
code=$?
{ printf '\035'; cat /tmp/millrace/errors; printf '\035%s' "$code"; } >>/tmp/millrace/said
`
)

func openShell(ctx context.Context, c *dagger.Client, cluster Cluster) (*shell, error) {
	tools, err := cluster.Tools(ctx, c)
	if err != nil {
		return nil, err
	}
	return &shell{c: c, tools: tools.WithMountedTemp(scratch), id: random()}, nil
}

// random returns a name that nobody else has.
func random() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// said is what a script left.
type said struct {
	code        int
	out, errors string
}

// parts are the outputs between the separators that a script printed with mark.
func (s said) part(n int) string {
	parts := strings.Split(s.out, "\x1e")
	if n >= len(parts) {
		return ""
	}
	return strings.TrimSpace(parts[n])
}

// run runs a script. input is secret, and lies at inputPath while the script runs; args are not.
func (s *shell) run(ctx context.Context, script, input string, args ...string) (said, error) {
	n := s.calls.Add(1)
	ctr := s.tools.WithEnvVariable("MILLRACE_CALL", fmt.Sprintf("%s-%d", s.id, n))
	if input != "" {
		ctr = ctr.WithMountedSecret(inputPath, s.c.SetSecret(fmt.Sprintf("millrace-%s-%d", s.id, n), input))
	}
	text, err := ctr.WithExec(append([]string{"sh", "-c", prologue + script + epilogue, "millrace"}, args...)).File(saidPath).Contents(ctx)
	if err != nil {
		return said{}, fmt.Errorf("run kubectl: %w", step.Explain(err))
	}
	parts := strings.Split(text, "\x1d")
	if len(parts) != 3 {
		return said{}, errors.New("run kubectl: its script did not come to an end")
	}
	code, err := strconv.Atoi(parts[2])
	if err != nil {
		return said{}, fmt.Errorf("run kubectl: read its exit code: %w", err)
	}
	return said{code: code, out: parts[0], errors: parts[1]}, nil
}

// must is run for a script that has to succeed; else the error is a *[Refusal].
func (s *shell) must(ctx context.Context, script, input string, args ...string) (said, error) {
	got, err := s.run(ctx, script, input, args...)
	if err == nil && got.code != 0 {
		err = explain(got.errors)
	}
	return got, err
}

// patience is how long what must not be left half-done is tried again while the cluster can't be reached.
const patience = 30 * time.Second

// insist is must, tried again for a while as long as the cluster can't be reached.
func (s *shell) insist(ctx context.Context, script, input string, args ...string) (said, error) {
	end := time.Now().Add(patience)
	for {
		got, err := s.must(ctx, script, input, args...)
		if err == nil || !graph.IsTransient(err) || time.Now().After(end) {
			return got, err
		}
		select {
		case <-ctx.Done():
			return got, err
		case <-time.After(2 * time.Second):
		}
	}
}
