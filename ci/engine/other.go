//go:build !linux

package engine

import (
	"context"
	"os/exec"
	"time"
)

// The embedded engine runs on Linux alone: elsewhere [Embedded.Up] says so before any of this is reached.

const (
	stopTimeout = 30 * time.Second

	// CacheBound bounds, in bytes, the engine's cache.
	CacheBound = 30 << 30

	DaemonCommand = "daemon"
	StageCommand  = "stage"
)

func supervisor() (string, error) { return "", supported() }

func (e *Embedded) start(context.Context) (*Running, error) { return nil, supported() }

// Daemon is for Linux alone.
func (e *Embedded) Daemon() error { return supported() }

// Stage is for Linux alone.
func Stage(string, string, []string) error { return supported() }

func restoreNetwork(string) error { return nil }

func endWithParent(*exec.Cmd) {}
