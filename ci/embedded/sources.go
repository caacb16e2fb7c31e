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
	// KubeToolsModule builds the tools that work on clusters.
	KubeToolsModule Module = "kubetools"
	// KubernetesModule builds all of Kubernetes that a node runs, as one program.
	KubernetesModule Module = "kubernetes"
	// NodeModule builds the program that starts a node, and what else runs on it.
	NodeModule Module = "node"
	// K6Module builds the load generator.
	K6Module Module = "k6"
)

// Packages returns the main packages of m to build, as go build takes them.
func (m Module) Packages() []string {
	switch m {
	case EngineModule:
		packages := make([]string, 0, 6)
		for _, name := range []string{"engine", "dagger", "init", "codegen", "dnsname", "dialstdio"} {
			packages = append(packages, "github.com/dagger/dagger/cmd/"+name)
		}
		return packages
	case KubeToolsModule:
		return []string{"./kubectl", "helm.sh/helm/v3/cmd/helm", "sigs.k8s.io/kustomize/kustomize/v5", "github.com/yannh/kubeconform/cmd/kubeconform"}
	case NodeModule:
		return []string{"./k3s", "./coredns", "./pause"}
	case K6Module:
		return []string{"go.k6.io/k6"}
	}
	return []string{"."}
}

// CompilerFlags leave out what only a debugger reads and the linker would drop: it takes the compiler a fifth of its time.
const CompilerFlags = "-gcflags=all=-dwarf=false"

// CompilerGC and CompilerMemory are the GOGC and the GOMEMLIMIT of large builds. With Go's defaults, a fifth of the compiler's
// processor time goes into collecting garbage: with these it collects none until it has grown to that size, as it does for a few
// packages only. The largest took 1.0 GiB so, and 1.4 with a GOGC of 400.
const (
	CompilerGC     = "off"
	CompilerMemory = "1GiB"
)

// LinkerFlags returns the value of go build's -ldflags for m.
func (m Module) LinkerFlags() string {
	var stamps []string
	switch m {
	case EngineModule:
		stamps = []string{"github.com/dagger/dagger/engine.Version=" + EngineVersion, "github.com/dagger/dagger/engine.Tag=" + EngineVersion}
	case KubeToolsModule:
		stamps = append(kubernetesStamps(), "main.version="+kubeconformVersion,
			"helm.sh/helm/v3/internal/version.version="+helmVersion, "sigs.k8s.io/kustomize/api/provenance.version="+kustomizeVersion)
	case KubernetesModule:
		stamps = kubernetesStamps()
	}
	flags := "-s -w"
	for _, stamp := range stamps {
		flags += " -X " + stamp
	}
	return flags
}

// kubernetesStamps are the variables by which Kubernetes knows its version.
func kubernetesStamps() []string {
	parts := strings.Split(KubernetesVersion, ".")
	stamps := []string{"gitVersion=v" + KubernetesVersion, "gitMajor=" + parts[0], "gitMinor=" + parts[1]}
	for i, stamp := range stamps {
		stamps[i] = "k8s.io/component-base/version." + stamp
	}
	return stamps
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
