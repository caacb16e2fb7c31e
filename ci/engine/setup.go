package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/ci/embedded"
)

// needSpace is what the first set-up takes at most, in bytes: sources and objects of the build, programs, images.
const needSpace = 8 << 30

// packages maps each system program that the embedded engine calls to the Debian package that has it.
var packages = []struct{ probe, name string }{
	{"runc", "runc"},
	{"dnsmasq", "dnsmasq-base"},
	{"iptables", "iptables"},
	{"mmdebstrap", "mmdebstrap"},
	{"git", "git"},
	{"ip", "iproute2"},
	{"update-ca-certificates", "ca-certificates"},
	{"/usr/lib/cni/bridge", "containernetworking-plugins"},
}

// setUp makes all that the engine needs and that is not there yet. A set-up that was killed leaves nothing
// that the next one would believe in: everything is made aside, and renamed when it is whole.
func (e *Embedded) setUp(ctx context.Context) error {
	if err := os.RemoveAll(e.path("tmp")); err != nil {
		return fmt.Errorf("clear the rests of an earlier set-up: %w", err)
	}
	if err := os.MkdirAll(e.path("tmp"), 0o755); err != nil {
		return err
	}
	// What is downloaded comes in beside what is compiled.
	work, within := errgroup.WithContext(ctx)
	var parts sdkParts
	work.Go(func() (err error) {
		if err = e.installPackages(ctx); err == nil { // whatever becomes of the rest: a package manager is not to be cut off
			parts, err = e.getSDKParts(within)
		}
		return err
	})
	work.Go(func() error {
		for _, m := range []embedded.Module{embedded.EngineModule, embedded.RegistryModule} {
			if err := e.buildPrograms(within, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err := work.Wait(); err != nil {
		return err
	}
	return e.makeSDK(parts)
}

// missingPackages returns the Debian packages that are not installed.
func missingPackages() []string {
	var missing []string
	for _, p := range packages {
		if _, err := exec.LookPath(p.probe); err != nil && !exists("/usr/sbin/"+p.probe) { // where the path of a user does not lead
			missing = append(missing, p.name)
		}
	}
	return missing
}

// installCommand is what installs packages, on systems that are made of Debian's.
func installCommand(names []string) []string {
	return append([]string{"apt-get", "install", "--yes", "--no-install-recommends"}, names...)
}

func (e *Embedded) installPackages(ctx context.Context) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	install := installCommand(missing)
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("the embedded engine needs Debian's packages, and this system has no apt-get: install a container runtime such as Docker, or name an engine with %s; on Debian or a relative of it: %s", runnerHostVariable, strings.Join(install, " "))
	}
	e.Progress.Note("installing system packages: %s", strings.Join(missing, " "))
	task := e.Progress.Start("install system packages")
	err := func() error {
		for _, argv := range [][]string{{"apt-get", "update", "--quiet"}, install} {
			cmd := command(ctx, argv...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("install the system packages that the embedded engine needs: %w\n%s\nrun it by hand to see more: %s", err, lastLines(out, 10), strings.Join(install, " "))
			}
		}
		return nil
	}()
	task.End(err)
	return err
}

// checkSpace refuses to begin what the disk can't hold.
func (e *Embedded) checkSpace() error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(e.Cache, &st); err != nil {
		return fmt.Errorf("look for free space in %s: %w", e.Cache, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < needSpace {
		return fmt.Errorf("the disk of %s has %.1f GiB free, and the first set-up needs up to %d: free some, or point XDG_CACHE_HOME elsewhere", e.Cache, float64(free)/(1<<30), needSpace>>30)
	}
	return nil
}

// buildPrograms builds the programs of m from the Go module proxy.
func (e *Embedded) buildPrograms(ctx context.Context, m embedded.Module) error {
	bin, err := e.programs(m)
	if err != nil {
		return err
	}
	if _, err := os.Stat(bin); err == nil {
		return nil
	}
	if err := e.checkSpace(); err != nil {
		return err
	}
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("the embedded engine is built with Go, and no go command is on PATH: install Go 1.25 or newer, or a container runtime such as Docker")
	}
	src, out := e.path("tmp", string(m)), e.path("tmp", string(m)+"-bin")
	if err := m.Extract(src); err != nil {
		return fmt.Errorf("write the sources of the %s: %w", m, err)
	}
	task := e.Progress.Start(fmt.Sprintf("build the %s from the Go module proxy", m))
	err = func() error {
		total := e.countPackages(ctx, src, m)
		argv := append([]string{"go", "build", "-v", "-trimpath", embedded.CompilerFlags, "-ldflags", m.LinkerFlags(), "-o", out + "/"}, m.Packages()...)
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
		cmd := goCommand(ctx, src, argv...)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		// go build -v prints a line a package, and everything else that it has to say.
		var said bytes.Buffer
		built := 0
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			if line := sc.Text(); strings.ContainsAny(line, " \t") {
				fmt.Fprintln(&said, line)
			} else if built++; built <= total {
				task.Update("%d of at most %d packages", built, total)
			}
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("build the %s: %w\n%s", m, err, lastLines(said.Bytes(), 20))
		}
		return nil
	}()
	task.End(err)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return err
	}
	if err := os.Rename(out, bin); err != nil {
		return fmt.Errorf("put the built programs in place: %w", err)
	}
	return os.RemoveAll(src)
}

// countPackages returns how many packages the build may have to compile. It is only for the progress: 0 if unknown.
func (e *Embedded) countPackages(ctx context.Context, src string, m embedded.Module) int {
	out, err := goCommand(ctx, src, append([]string{"go", "list", "-deps"}, m.Packages()...)...).Output()
	if err != nil {
		return 0
	}
	return bytes.Count(out, []byte("\n"))
}

func goCommand(ctx context.Context, dir string, argv ...string) *exec.Cmd {
	cmd := command(ctx, argv...)
	cmd.Dir = dir
	// A workspace or flags of the user's own modules must not leak into this build.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly -buildvcs=false", "GOOS=linux", "GOARCH=amd64")
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		cmd.Env = append(cmd.Env, "GOGC="+embedded.CompilerGC, "GOMEMLIMIT="+embedded.CompilerMemory)
	}
	return cmd
}

// command returns a command that ends with its context, and that takes its children with it.
func command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return cmd
}

func lastLines(text []byte, n int) string {
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
