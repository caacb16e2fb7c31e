package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"time"
)

// access is what a cluster and its administrator know each other by, made for one cluster.
type access struct {
	// servers and clients sign the certificates of the API server and of its users.
	servers, clients pair
	admin            pair
}

// pair is a certificate and its key, in PEM.
type pair struct{ certificate, key string }

func newAccess() (*access, error) {
	servers, _, _, err := sign(certificate("millrace-server-ca"), nil, nil)
	if err != nil {
		return nil, err
	}
	clients, issuer, key, err := sign(certificate("millrace-client-ca"), nil, nil)
	if err != nil {
		return nil, err
	}
	template := certificate("system:admin")
	template.Subject.Organization = []string{"system:masters"}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	admin, _, _, err := sign(template, issuer, key)
	if err != nil {
		return nil, err
	}
	return &access{servers: servers, clients: clients, admin: admin}, nil
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name},
		// The clocks of the machine and of the cluster may differ.
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(90 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

// sign makes a key and its certificate; without an issuer it is an authority that signs itself.
func sign(template, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (pair, *x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return pair{}, nil, nil, err
	}
	if issuer == nil {
		template.IsCA, template.KeyUsage = true, template.KeyUsage|x509.KeyUsageCertSign
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		return pair{}, nil, nil, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return pair{}, nil, nil, err
	}
	return pair{
		certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:         string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
	}, made, key, nil
}

// authorities returns the files by which a cluster signs, by the names that k3s gives them.
func (a *access) authorities() map[string]string {
	return map[string]string{
		"server-ca.crt": a.servers.certificate, "server-ca.key": a.servers.key,
		"client-ca.crt": a.clients.certificate, "client-ca.key": a.clients.key,
	}
}

// kubeconfig returns the administrator's kubeconfig for the API server at an address. It is JSON, which is a part of YAML.
func (a *access) kubeconfig(server string) string {
	named := func(what string, value any) []any { return []any{map[string]any{"name": "millrace", what: value}} }
	// Only strings and bytes: this can't fail.
	text, _ := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "millrace",
		"clusters": named("cluster", map[string]any{"server": server, "certificate-authority-data": []byte(a.servers.certificate)}),
		"users":    named("user", map[string]any{"client-certificate-data": []byte(a.admin.certificate), "client-key-data": []byte(a.admin.key)}),
		"contexts": named("context", map[string]any{"cluster": "millrace", "user": "millrace"}),
	}, "", "  ")
	return string(text) + "\n"
}
