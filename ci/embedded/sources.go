// Package embedded holds what the embedded engine is made of: the modules that its programs are built from,
// and the recipes of the images that stand in for those of a registry.
//
// The modules' files end in .txt: a folder with a go.mod of its own would be missing from this module's zip,
// and so from a binary that was installed with go install.
package embedded

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// EngineVersion is the version of the Dagger engine, CLI and SDK that everything is pinned to.
const EngineVersion = "v0.19.10"

//go:embed sources
var sources embed.FS

// Module names a module whose sources are embedded.
type Module string

const (
	// EngineModule builds Dagger's engine and the programs that it calls.
	EngineModule Module = "engine"
	// RegistryModule builds the registry that the embedded engine pulls from and pushes to.
	RegistryModule Module = "registry"
)

// Packages returns the main packages of m to build, as go build takes them.
func (m Module) Packages() []string {
	if m == RegistryModule {
		return []string{"."}
	}
	packages := make([]string, 0, 6)
	for _, name := range []string{"engine", "dagger", "init", "codegen", "dnsname", "dialstdio"} {
		packages = append(packages, "github.com/dagger/dagger/cmd/"+name)
	}
	return packages
}

// LinkerFlags returns the value of go build's -ldflags for m.
func (m Module) LinkerFlags() string {
	flags := "-s -w"
	if m == EngineModule {
		for _, name := range []string{"Version", "Tag"} {
			flags += " -X github.com/dagger/dagger/engine." + name + "=" + EngineVersion
		}
	}
	return flags
}

// Extract writes m's sources to dir, which it makes.
func (m Module) Extract(dir string) error {
	return m.walk(func(name string, data []byte) error {
		target := filepath.Join(dir, filepath.FromSlash(strings.TrimSuffix(name, ".txt")))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}

// Digest identifies m's sources and how they are built, as 12 hexadecimal digits.
func (m Module) Digest() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, m, m.Packages(), m.LinkerFlags())
	err := m.walk(func(name string, data []byte) error {
		fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(data))
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))[:12], err
}

func (m Module) walk(visit func(name string, data []byte) error) error {
	root := path.Join("sources", string(m))
	return fs.WalkDir(sources, root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := sources.ReadFile(p)
		if err != nil {
			return err
		}
		return visit(strings.TrimPrefix(p, root+"/"), data)
	})
}
