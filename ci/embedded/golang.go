package embedded

import (
	"strings"

	"dagger.io/dagger"
)

// GoVersion is the Go that Dagger modules are built with, and that stands in for golang:1.26.
const GoVersion = "1.26.8"

func golang() Recipe {
	return Recipe{
		file:    "golang.go",
		MadeOf:  "Go " + GoVersion + " from the Go module proxy, and gcc, git, make of Debian " + DebianSuite,
		Base:    "library/debian:" + DebianSuite + "-slim",
		NeedsGo: true,
		Build: func(base *dagger.Container, in Inputs) *dagger.Container {
			return withPackages(base, "gcc", "g++", "libc6-dev", "make", "pkg-config", "git", "openssh-client", "curl").
				WithDirectory("/usr/local/go", in.Go).
				// A module's zip, which is what Go comes in here, keeps no modes.
				WithExec([]string{"chmod", "-R", "a+x", "/usr/local/go/bin", "/usr/local/go/pkg/tool"}).
				WithEnvVariable("GOLANG_VERSION", GoVersion).
				WithEnvVariable("GOTOOLCHAIN", "local").
				WithEnvVariable("GOPATH", "/go").
				WithEnvVariable("PATH", "/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").
				WithExec([]string{"mkdir", "-p", "/go/src", "/go/bin"}).
				WithWorkdir("/go").
				WithDefaultArgs([]string{"bash"})
		},
	}
}

func golangciLint(match []string) Recipe {
	version := match[1]
	return Recipe{
		file:   "golang.go",
		MadeOf: "golangci-lint " + version + " from the Go module proxy, on golang:1.26",
		Base:   "library/golang:1.26",
		Build: func(base *dagger.Container, in Inputs) *dagger.Container {
			bin := base.
				WithMountedCache("/go/pkg/mod", in.Client.CacheVolume("millrace-go-mod")).
				WithMountedCache("/root/.cache/go-build", in.Client.CacheVolume("millrace-go-build")).
				WithEnvVariable("GOGC", CompilerGC).
				WithEnvVariable("GOMEMLIMIT", CompilerMemory).
				// Compiled as the steps for Go compile, which then find the standard library in the cache that they share.
				WithExec([]string{"go", "install", CompilerFlags, "-ldflags", "-s -w -X main.version=" + strings.TrimPrefix(version, "v"), "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@" + version}).
				File("/go/bin/golangci-lint")
			return base.WithFile("/usr/bin/golangci-lint", bin).WithDefaultArgs([]string{"golangci-lint"})
		},
	}
}
