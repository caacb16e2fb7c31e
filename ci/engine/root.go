package engine

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/millrace-ci/millrace/ci/embedded"
)

// debianRoot is the root file system of a minimal Debian.
type debianRoot struct {
	suite   string
	include []string
	// customize is a command of a shell for the root file system at $1.
	customize string
}

// sdkRoot is that of the container that Go modules are built in and run in.
var sdkRoot = debianRoot{embedded.DebianSuite, []string{"ca-certificates", "git", "openssh-client"}, embedded.WithoutCertificates}

// standInRoot is what the stand-ins for the images of Docker Hub are made on.
func standInRoot(suite string) debianRoot {
	return debianRoot{suite, []string{"ca-certificates"}, embedded.QuickCertificates}
}

// digest identifies how the file system is made, as 12 hexadecimal digits.
func (r debianRoot) digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", r, embedded.CertificateUpdate))
	return hex.EncodeToString(sum[:])[:12]
}

// makeRoot makes a root file system, and returns the path of its tar file.
func (e *Embedded) makeRoot(ctx context.Context, r debianRoot) (string, error) {
	name := r.suite + "-" + strings.Join(r.include, "+") + "-" + r.digest() + ".tar"
	target := e.path("roots", name)
	if exists(target) {
		return target, nil
	}
	if err := e.checkSpace(); err != nil {
		return "", err
	}
	for _, dir := range []string{e.path("roots"), e.path("tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	part := e.path("tmp", name)
	task := e.Progress.Start("make a root file system of Debian " + r.suite)
	argv := []string{
		"mmdebstrap", "--quiet", "--variant=minbase", "--include=" + strings.Join(r.include, ","),
		// A container's file system is thrown away when something breaks: there is nothing to sync, and nobody reads manuals.
		"--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=path-exclude=/usr/share/locale/*",
		"--customize-hook=" + r.customize,
		r.suite, part,
	}
	cmd := command(ctx, argv...)
	cmd.Env = append(cmd.Environ(), embedded.CertificateUpdateVariable+"="+embedded.CertificateUpdate)
	out, err := cmd.CombinedOutput()
	task.End(err)
	if err != nil {
		return "", fmt.Errorf("make a root file system of Debian %s: %w\n%s", r.suite, err, lastLines(out, 10))
	}
	return target, os.Rename(part, target)
}

// sdkParts are what the image that Go modules are built in is made of: nothing where the image is there.
type sdkParts struct {
	// root is a tar file of Debian, toolchain a folder with Go.
	root, toolchain string
}

func (e *Embedded) getSDKParts(ctx context.Context) (parts sdkParts, err error) {
	dir, err := e.sdkDir()
	if err != nil || exists(dir) {
		return sdkParts{}, err
	}
	if parts.root, err = e.makeRoot(ctx, sdkRoot); err != nil {
		return sdkParts{}, err
	}
	parts.toolchain, err = e.toolchain(ctx)
	return parts, err
}

// makeSDK makes the container image that Go modules are generated and built in, where the engine looks for it.
func (e *Embedded) makeSDK(parts sdkParts) error {
	dir, err := e.sdkDir()
	if err != nil || exists(dir) {
		return err
	}
	cli, err := e.CLI()
	if err != nil {
		return err
	}
	task := e.Progress.Start("make the image that Dagger modules are built in")
	part := e.path("tmp", "sdk")
	err = func() error {
		goLayer := e.path("tmp", "sdk-go.tar")
		if err := writeTar(goLayer, []treeCopy{
			{from: parts.toolchain, to: "usr/local/go"},
			{from: filepath.Join(filepath.Dir(cli), "codegen"), to: "usr/local/bin/codegen"},
			{to: "go/pkg/mod"},
			{to: "root/.cache/go-build"},
		}); err != nil {
			return err
		}
		img, err := imageOf(v1.Config{
			Env: []string{"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOPATH=/go"},
		}, parts.root, goLayer)
		if err != nil {
			return err
		}
		store, err := layout.Write(part, empty.Index)
		if err != nil {
			return err
		}
		return store.AppendImage(img)
	}()
	task.End(err)
	if err != nil {
		return fmt.Errorf("make the image that Dagger modules are built in: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

func (e *Embedded) sdkDir() (string, error) {
	digest, err := embedded.EngineModule.Digest()
	return e.path("sdk", digest+"-"+embedded.GoVersion+"-"+sdkRoot.digest()), err
}

// sdkManifest returns the digest of the SDK image's manifest.
func (e *Embedded) sdkManifest() (string, error) {
	dir, err := e.sdkDir()
	if err != nil {
		return "", err
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return "", err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", err
	}
	if len(manifest.Manifests) != 1 {
		return "", fmt.Errorf("%s holds %d images instead of one: remove it, and it is made again", dir, len(manifest.Manifests))
	}
	return manifest.Manifests[0].Digest.String(), nil
}

// toolchain downloads the Go distribution from the module proxy, and returns its folder.
func (e *Embedded) toolchain(ctx context.Context) (string, error) {
	cmd := goCommand(ctx, e.Cache, "go", "mod", "download", "-json", "golang.org/toolchain@v0.0.1-go"+embedded.GoVersion+".linux-amd64")
	task := e.Progress.Start("download Go " + embedded.GoVersion + " from the Go module proxy")
	out, err := cmd.Output()
	task.End(err)
	var got struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &got); err == nil && jsonErr != nil {
		err = jsonErr
	}
	if err != nil {
		return "", fmt.Errorf("download Go %s from the Go module proxy: %w\n%s", embedded.GoVersion, err, got.Error)
	}
	return got.Dir, nil
}

// treeCopy is a file or a folder to pack; without from it is an empty folder.
type treeCopy struct{ from, to string }

// writeTar packs trees into an uncompressed tar file, owned by root and without times, so that it depends on content alone.
func writeTar(target string, trees []treeCopy) (err error) {
	f, err := os.Create(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	for _, t := range trees {
		if t.from == "" {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: t.to + "/", Mode: 0o755}); err != nil {
				return err
			}
			continue
		}
		err := filepath.WalkDir(t.from, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(t.from, p)
			if err != nil {
				return err
			}
			return addToTar(w, p, d, filepath.ToSlash(filepath.Join(t.to, rel)))
		})
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func addToTar(w *tar.Writer, from string, d fs.DirEntry, name string) error {
	if d.IsDir() {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
	}
	info, err := d.Info()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644}
	// A module's zip keeps no modes: what lies in these folders is run.
	if info.Mode()&0o111 != 0 || strings.Contains(name, "/bin/") || strings.Contains(name, "/pkg/tool/") {
		h.Mode = 0o755
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// imageOf makes an image of layers that lie in tar files.
func imageOf(config v1.Config, tars ...string) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, path := range tars {
		layer, err := tarball.LayerFromFile(path, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
		if err != nil {
			return nil, fmt.Errorf("read layer %s: %w", filepath.Base(path), err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", config
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	return mutate.ConfigFile(img, file)
}
