package kube

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAClusterOnTheLoopback(t *testing.T) {
	t.Parallel()
	const config = `apiVersion: v1
kind: Config
current-context: mine
contexts: [{name: other, context: {cluster: b}}, {name: mine, context: {cluster: a, user: u}}]
clusters: [{name: a, cluster: {server: "https://127.0.0.1:41234", certificate-authority-data: eA==}}, {name: b, cluster: {server: "https://10.0.0.1:6443"}}]
`
	for _, text := range []string{config, base64.StdEncoding.EncodeToString([]byte(config))} {
		moved, port, local := offLoopback(text)
		require.True(t, local)
		require.Equal(t, 41234, port)
		o, err := decode([]byte(moved))
		require.NoError(t, err)
		cluster := o.list("clusters")[0]
		require.Equal(t, "https://cluster-of-host:41234", cluster.text("cluster", "server"))
		require.Equal(t, "127.0.0.1", cluster.text("cluster", "tls-server-name"), "the certificate is made out for the loopback")
		require.Equal(t, "eA==", cluster.text("cluster", "certificate-authority-data"))
		require.Equal(t, "https://10.0.0.1:6443", o.list("clusters")[1].text("cluster", "server"))
	}
	for _, text := range []string{"", "apiVersion: [", "no base64!", `{"apiVersion":"v1","current-context":"c","contexts":[{"name":"c","context":{"cluster":"a"}}],"clusters":[{"name":"a","cluster":{"server":"https://api.example.com"}}]}`} {
		_, _, local := offLoopback(text)
		require.False(t, local, text)
	}
}

func TestWhatIsNoKubeconfig(t *testing.T) {
	t.Parallel()
	const good = "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'https://api.example.com'}}]\n"
	require.NoError(t, CheckKubeconfig(good))
	require.NoError(t, CheckKubeconfig(base64.StdEncoding.EncodeToString([]byte(good))))
	for text, want := range map[string]string{
		" \n":                       "it is empty",
		"canary":                    "it is neither a kubeconfig's text nor one in base64",
		"Y2FuYXJ5":                  "it is neither a kubeconfig's text nor one in base64",
		"apiVersion: v1\ncanary: [": "it is not valid YAML",
		"- apiVersion: canary\n":    "it is YAML, but of something else",
		"apiVersion: canary\n":      "it names no cluster",
	} {
		require.EqualError(t, CheckKubeconfig(text), want)
	}
}
