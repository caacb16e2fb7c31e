package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stage prepares the namespaces that it was started in, and becomes the program argv.
// It hides the host's folders that the engine would write to behind layers that lie in scratch and vanish with it;
// only the runtime folder, which has the engine's socket, stays the host's.
func Stage(runtimeDir, scratch string, argv []string) error {
	// The root may be that of this thread alone, and the signal at the parent's death belongs to a thread: it becomes the engine.
	runtime.LockOSThread()
	if err := cover(runtimeDir, scratch); err != nil {
		return fmt.Errorf("prepare the engine's namespaces: %w", err)
	}
	// What the engine makes must be readable by the users of its containers.
	syscall.Umask(0o022)
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tie the engine to its parent: %w", err)
	}
	return fmt.Errorf("start %s: %w", argv[0], syscall.Exec(argv[0], argv, os.Environ()))
}

func cover(runtimeDir, scratch string) error {
	err := private("/")
	if errors.Is(err, syscall.EINVAL) {
		err = mountRoot()
	}
	if err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", scratch, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", scratch, err)
	}
	keep, err := syscall.Open(runtimeDir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", runtimeDir, err)
	}
	// It may be a link into /run.
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	for _, dir := range []string{"/etc", "/usr/local", "/run"} {
		name := strings.ReplaceAll(dir[1:], "/", "-")
		upper, work := filepath.Join(scratch, name+"-upper"), filepath.Join(scratch, name+"-work")
		if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
			return err
		}
		if err := syscall.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)); err != nil {
			return fmt.Errorf("cover %s: %w", dir, err)
		}
	}
	if err := errors.Join(os.Remove("/etc/resolv.conf"), os.WriteFile("/etc/resolv.conf", resolv, 0o644)); err != nil {
		return err
	}
	if err := os.MkdirAll(runtimeDir, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(fmt.Sprintf("/proc/self/fd/%d", keep), runtimeDir, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s: %w", runtimeDir, err)
	}
	return nil
}

// private keeps what is mounted from here on below a mount to this namespace.
func private(mount string) error {
	return syscall.Mount("", mount, "", syscall.MS_REC|syscall.MS_PRIVATE, "")
}

// mountRoot makes the root of a chroot that of the whole namespace. A chroot is not known to who enters the namespace later,
// as threads of the engine do, and runc takes no root that isn't a mount. It changes the root of the calling thread alone.
func mountRoot() error {
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	namespace, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	defer namespace.Close()
	// Who enters a namespace gets its root, so this leads out of the chroot, to where that can be mounted.
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS)); err != nil {
		return fmt.Errorf("leave the chroot: %w", err)
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root.Fd()))
	if err != nil {
		return fmt.Errorf("find the chroot: %w", err)
	}
	for _, step := range []func() error{
		func() error { return private("/") },
		func() error { return unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "") },
		func() error { return unix.Chdir(path) },
		// The old root comes to lie upon the new one, and is taken off.
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
		func() error { return unix.Chdir("/") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("mount the chroot %s as root: %w", path, err)
		}
	}
	return nil
}
