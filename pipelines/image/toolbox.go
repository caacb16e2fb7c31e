package image

import (
	"context"
	"fmt"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/step"
)

const (
	// uvVersion pins the installer; what it installs is pinned by the locks.
	uvVersion = "0.13.9"
	caBundle  = "/etc/ssl/certs/ca-certificates.crt"
)

// ToolboxPython is the Python of a [Toolbox], with what its lock asks for.
const ToolboxPython = "/opt/venv/bin/python"

// Toolbox returns an image of Python, the default version if none is given, with what a lock with hashes pins, for the
// library's own programs. Its key is the lock.
func Toolbox(ctx context.Context, c *dagger.Client, python, lock string) (*dagger.Container, error) {
	base := c.Container().From(Python(python))
	trusted, err := base.Exists(ctx, caBundle)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", Python(python), step.Explain(err))
	}
	if trusted {
		// uv comes with a bundle of its own and would not know the host's authorities.
		base = base.WithEnvVariable("UV_SYSTEM_CERTS", "1").WithEnvVariable("SSL_CERT_FILE", caBundle)
	}
	return base.
		// Where the host trusts authorities of its own, the engine runs these before and after each command, which takes longer than
		// most commands of a toolbox do; without them it writes the bundle by itself.
		WithoutFiles([]string{"/usr/sbin/update-ca-certificates", "/usr/local/sbin/update-ca-certificates"}).
		WithExec([]string{"pip", "install", "--no-cache-dir", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "uv==" + uvVersion}).
		WithEnvVariable("UV_CACHE_DIR", "/cache/uv").
		WithEnvVariable("UV_LINK_MODE", "copy").
		WithEnvVariable("UV_COMPILE_BYTECODE", "1").
		WithEnvVariable("UV_PYTHON_DOWNLOADS", "never").
		WithEnvVariable("UV_NO_PROGRESS", "1").
		WithMountedCache("/cache/uv", c.CacheVolume("millrace-uv")).
		WithNewFile("/opt/requirements.txt", lock).
		WithExec([]string{"uv", "venv", "/opt/venv"}).
		WithExec([]string{"uv", "pip", "install", "--python", "/opt/venv", "--require-hashes", "-r", "/opt/requirements.txt"}).
		WithoutMount("/cache/uv").
		WithEnvVariable("PYTHONUTF8", "1"), nil
}

// Pinned returns the versions that a lock states of some libraries; of all where none is named.
func Pinned(lock string, names ...string) map[string]string {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	versions := map[string]string{}
	for line := range strings.Lines(lock) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), "==")
		if ok && (len(names) == 0 || wanted[name]) {
			versions[name] = strings.Fields(rest)[0]
		}
	}
	return versions
}
