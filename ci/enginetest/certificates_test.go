package enginetest

import (
	"testing"

	"dagger.io/dagger"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/image"
)

// What the stand-ins have in the place of Debian's update-ca-certificates leaves the same files as that does, whatever the
// user adds, removes or rules out.
func TestCertificatesOfStandIns(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	const script = `
authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -days 1 -subj "/CN=$1" 2>/dev/null; }
bundle=/etc/ssl/certs/ca-certificates.crt
same() {
	update-ca-certificates >/dev/null
	(cd /etc/ssl/certs && ls -l --time-style=+ && cat $bundle) >/tmp/quick
	/usr/sbin/update-ca-certificates >/dev/null
	(cd /etc/ssl/certs && ls -l --time-style=+ && cat $bundle) >/tmp/debian
	cmp /tmp/quick /tmp/debian || { echo "$1: not what Debian's leaves"; diff /tmp/quick /tmp/debian | head -20; exit 1; }
}
test "$(command -v update-ca-certificates)" = /usr/local/sbin/update-ca-certificates
same "as it is"
mkdir -p "/usr/local/share/ca-certificates/of a team"
# No new line at its end, and a name that a link can't have as it is.
printf %s "$(authority team)" >"/usr/local/share/ca-certificates/of a team/root (old), 1.crt"
same "an authority is added"
grep -qF "$(sed -n 2p "/usr/local/share/ca-certificates/of a team/root (old), 1.crt")" $bundle || { echo "not in the bundle"; exit 1; }
authority other >"/usr/local/share/ca-certificates/of a team/root (old), 1.crt"
same "it is replaced"
rm -r "/usr/local/share/ca-certificates/of a team"
same "it is removed"
sed -i '3,$ { /^[^#!]/ { s/^/!/; :rest n; b rest } }' /etc/ca-certificates.conf
grep -q '^!' /etc/ca-certificates.conf
same "one of Debian's is ruled out"
update-ca-certificates --fresh >/dev/null
same "after --fresh"
start=$(date +%s%N); update-ca-certificates >/dev/null; middle=$(date +%s%N); /usr/sbin/update-ca-certificates >/dev/null; end=$(date +%s%N)
echo "quick $(( (middle - start) / 1000000 )) ms, Debian's $(( (end - middle) / 1000000 )) ms"
`
	done := client(t).Container().From(image.Python("")).WithExec([]string{"bash", "-euc", script}, dagger.ContainerWithExecOpts{Expect: dagger.ReturnTypeAny})
	out, err := done.CombinedOutput(t.Context())
	require.NoError(t, err)
	code, err := done.ExitCode(t.Context())
	require.NoError(t, err)
	require.Zero(t, code, "%s", out)
	t.Log(out)
}
