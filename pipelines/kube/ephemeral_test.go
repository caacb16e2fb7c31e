package kube

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	a, err := newAccess()
	require.NoError(t, err)
	b, err := newAccess()
	require.NoError(t, err)
	require.NotEqual(t, a.admin, b.admin, "every cluster has certificates of its own")

	files := a.authorities()
	for _, name := range []string{"server-ca", "client-ca"} {
		_, err := tls.X509KeyPair([]byte(files[name+".crt"]), []byte(files[name+".key"]))
		require.NoError(t, err, "the key of %s is not that of its certificate", name)
	}
	admin, err := tls.X509KeyPair([]byte(a.admin.certificate), []byte(a.admin.key))
	require.NoError(t, err)
	require.Equal(t, []string{"system:masters"}, admin.Leaf.Subject.Organization)
	verify := func(authority string) error {
		roots := x509.NewCertPool()
		require.True(t, roots.AppendCertsFromPEM([]byte(authority)))
		_, err := admin.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}
	require.NoError(t, verify(files["client-ca.crt"]))
	require.Error(t, verify(files["server-ca.crt"]))
	require.Error(t, verify(b.authorities()["client-ca.crt"]))

	var config struct {
		Clusters []struct {
			Cluster struct {
				Server    string
				Authority []byte `json:"certificate-authority-data"`
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(a.kubeconfig("https://cluster:6443")), &config))
	require.Equal(t, "https://cluster:6443", config.Clusters[0].Cluster.Server)
	require.Equal(t, files["server-ca.crt"], string(config.Clusters[0].Cluster.Authority))
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	text, err := Registry{For: []string{"docker.io", "127.0.0.1:5000"}}.mirrors()
	require.NoError(t, err)
	require.JSONEq(t, `{"mirrors": {
		"docker.io":      {"endpoint": ["http://registry:5000"]},
		"127.0.0.1:5000": {"endpoint": ["http://registry:5000"]}
	}}`, text)
	_, err = Registry{}.mirrors()
	require.ErrorContains(t, err, "set For")
}

func TestHostRegistryWantsAnAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1", "127.0.0.1:http"} {
		_, err := HostRegistry(nil, address)
		require.ErrorContains(t, err, `"`+address+`"`)
	}
}
