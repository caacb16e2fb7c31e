package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"github.com/millrace-ci/millrace/ci/embedded"
)

// versionFlag prints the versions and ends the program.
type versionFlag bool

func (versionFlag) BeforeReset(k *kong.Kong) error { //nolint:unparam // kong's hooks may return an error
	info, _ := debug.ReadBuildInfo()
	fmt.Fprintf(k.Stdout, "millrace %s, Dagger engine %s, %s %s/%s\n", version(info), embedded.EngineVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	k.Exit(0)
	return nil
}

// version is that of the module which this program was built from; a build of a clone has no release's.
func version(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
