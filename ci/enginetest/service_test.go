package enginetest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// A way to this machine does not end between two commands that need it: see [step.WithService] for what would happen. Only the
// engine's own log tells.
func TestServicesAreHeld(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) }))
	t.Cleanup(server.Close)
	port := server.Listener.Addr().(*net.TCPAddr).Port
	service := client(t).Host().Service([]dagger.PortForward{{Backend: port, Frontend: 80}})
	name, err := service.Hostname(t.Context())
	require.NoError(t, err)
	ask := func() {
		t.Helper()
		ctr := client(t).Container().From(image.Python("")).WithEnvVariable("NOW", time.Now().String())
		out, err := step.WithService(t.Context(), ctr, "machine", service).
			WithExec([]string{"python3", "-c", `import urllib.request; print(urllib.request.urlopen("http://machine").read().decode(), end="")`}).Stdout(t.Context())
		require.NoError(t, err)
		require.Equal(t, "here", out)
	}
	ask()

	own, err := embedded()
	require.NoError(t, err)
	said := func(what string) bool {
		log, err := os.ReadFile(filepath.Join(own.Cache, "log", "engine.log"))
		require.NoError(t, err)
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, what) && strings.Contains(line, name) {
				return true
			}
		}
		return false
	}
	require.Eventually(t, func() bool { return said("detach: service still has binders") }, time.Minute, time.Second, "the container does not let go of it")
	require.False(t, said("detach: stopping"))
	ask()
}
