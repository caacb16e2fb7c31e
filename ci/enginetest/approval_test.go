package enginetest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/millrace-ci/millrace/pipelines/gate"
	"github.com/millrace-ci/millrace/pipelines/image"
)

// An approval that ssh-keygen signed is as good, and ssh-keygen takes one of ours.
func TestApprovalIsOpenSSHs(t *testing.T) {
	needsEngine(t)
	t.Parallel()
	s, err := gate.NewStatement(gate.Request{
		Environment: "production", Images: []string{"registry.example/api@sha256:" + strings.Repeat("a", 64)}, Commit: "0123456789abcdef", Now: time.Now(),
	}, time.Hour)
	require.NoError(t, err)
	text, err := s.Text()
	require.NoError(t, err)
	signed := client(t).Container().From(image.Golang).
		WithWorkdir("/approval").
		WithNewFile("approval", string(text)).
		WithExec([]string{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada", "-f", "key"}).
		WithExec([]string{"ssh-keygen", "-q", "-Y", "sign", "-n", "millrace-approval", "-f", "key", "approval"})
	read := func(name string) string {
		got, err := signed.File(name).Contents(t.Context())
		require.NoError(t, err)
		return got
	}
	public := read("key.pub")
	_, who, err := gate.Verify(append(text, read("approval.sig")...), []gate.Approver{{Name: "Ada", Key: public}})
	require.NoError(t, err)
	require.Equal(t, "Ada", who.Name)

	signer, err := ssh.ParsePrivateKey([]byte(read("key")))
	require.NoError(t, err)
	ours, err := gate.Sign(s, signer)
	require.NoError(t, err)
	out, err := signed.
		WithNewFile("ours.sig", string(ours[len(text):])).
		WithNewFile("signers", "ada "+public).
		WithExec([]string{"sh", "-c", "ssh-keygen -Y verify -n millrace-approval -f signers -I ada -s ours.sig <approval"}).
		Stdout(t.Context())
	require.NoError(t, err)
	require.Contains(t, out, "Good")
}
