package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/millrace-ci/millrace/ci/engine"
)

type clusterCmd struct {
	Up         clusterUpCmd         `cmd:"" help:"Start a throw-away Kubernetes cluster of one node, and leave it running."`
	Kubeconfig clusterKubeconfigCmd `cmd:"" help:"Print the cluster's kubeconfig, for kubectl on this machine."`
	Down       clusterDownCmd       `cmd:"" help:"Stop the cluster; nothing of it stays."`
	Status     clusterStatusCmd     `cmd:"" help:"Say whether the cluster runs, and where."`
	Hold       clusterHoldCmd       `cmd:"" hidden:""`
}

type clusterUpCmd struct {
	engineFlag
	Port int `default:"0" placeholder:"N" help:"Port of the API server on this machine (default: one that is free)."`
}

func (c *clusterUpCmd) Run(ctx context.Context, s *streams) error {
	k, err := newKeeper()
	if err != nil {
		return err
	}
	state, err := k.status()
	if err != nil {
		return err
	}
	if state == nil {
		e, err := c.choose(ctx, s)
		if err != nil {
			return err
		}
		// Here, where its progress is seen; the process that stays finds it ready.
		if err := e.Ready(ctx); err != nil {
			return err
		}
		task := s.progress().Start("start the cluster")
		state, err = k.spawn(ctx, c.Engine, c.Port)
		task.End(err)
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(s.stdout, "the cluster takes pods at https://%s\nexport KUBECONFIG=%s\nfor an environment of millrace.yaml: export KUBE_CONFIG_STAGING=%[2]s\n", state.Address, k.kubeconfig())
	return nil
}

type clusterKubeconfigCmd struct{}

func (clusterKubeconfigCmd) Run(s *streams) error {
	k, err := newKeeper()
	if err != nil {
		return err
	}
	state, err := k.status()
	if err != nil {
		return err
	}
	if state == nil {
		return usagef("no cluster is running: start one with: ci cluster up")
	}
	text, err := os.ReadFile(k.kubeconfig())
	if err != nil {
		return err
	}
	_, err = s.stdout.Write(text)
	return err
}

type clusterDownCmd struct{}

func (clusterDownCmd) Run(ctx context.Context, s *streams) error {
	k, err := newKeeper()
	if err != nil {
		return err
	}
	stopped, err := k.stop(ctx)
	if err != nil {
		return err
	}
	if stopped {
		fmt.Fprintln(s.stdout, "the cluster is stopped")
	} else {
		fmt.Fprintln(s.stdout, "no cluster was running")
	}
	return nil
}

type clusterStatusCmd struct{}

func (clusterStatusCmd) Run(ctx context.Context, s *streams) error {
	k, err := newKeeper()
	if err != nil {
		return err
	}
	state, err := k.status()
	if err != nil {
		return err
	}
	if state == nil {
		fmt.Fprintln(s.stdout, "cluster    not running")
		return nil
	}
	answers := "answers"
	if err := k.probe(ctx, state.Address); err != nil {
		answers = err.Error()
	}
	for _, line := range [][2]string{
		{"cluster", fmt.Sprintf("running since %s (pid %d)", state.Started.Local().Format(time.DateTime), state.PID)},
		{"address", "https://" + state.Address + ", " + answers},
		{"engine", string(state.Engine)},
		{"start", fmt.Sprintf("took pods after %.1f s", state.Ready.Seconds())},
		{"kubeconfig", k.kubeconfig()},
		{"log", k.log()},
	} {
		fmt.Fprintf(s.stdout, "%-10s %s\n", line[0], line[1])
	}
	return nil
}

// clusterHoldCmd is the process that stays: a cluster lives only as long as the session that started it.
type clusterHoldCmd struct {
	Engine engine.Kind `arg:""`
	Port   int         `arg:""`
}

func (c *clusterHoldCmd) Run(ctx context.Context, s *streams) error {
	k, err := newKeeper()
	if err != nil {
		return err
	}
	e, err := engineFlag{c.Engine}.choose(ctx, s)
	if err != nil {
		return err
	}
	return k.hold(ctx, e, c.Port)
}
