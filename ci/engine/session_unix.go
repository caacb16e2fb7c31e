//go:build unix

package engine

import (
	"syscall"
)

const canBeApart = true

// becomeApart replaces this process by another program, in a process group of its own.
func becomeApart(program string, argv, env []string) error {
	if err := syscall.Setpgid(0, 0); err != nil {
		return err
	}
	return syscall.Exec(program, append([]string{program}, argv[1:]...), env)
}
