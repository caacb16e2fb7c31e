package kube

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"dagger.io/dagger"
	"sigs.k8s.io/yaml"
)

// hostName is the name under which containers reach a cluster on the loopback of the session's machine.
const hostName = "cluster-of-host"

// HostCluster returns the cluster of a kubeconfig, raw or in base64, as containers reach it: one whose address is the loopback of
// the machine that the session was opened on, such as that of kind, minikube and ci cluster, is reached through that machine.
// name is what the secret is called.
func HostCluster(c *dagger.Client, name, kubeconfig string) Cluster {
	text, port, local := offLoopback(kubeconfig)
	if !local {
		return Cluster{Kubeconfig: c.SetSecret(name, kubeconfig)}
	}
	return Cluster{Kubeconfig: c.SetSecret(name, text), Service: c.Host().Service([]dagger.PortForward{{Backend: port, Frontend: port}}), Host: hostName}
}

// ServiceCluster returns the cluster of a kubeconfig whose address, on the loopback, stands for a service: for a function of a Dagger
// module, which has no way to its caller's machine but the services that it is given.
func ServiceCluster(c *dagger.Client, name, kubeconfig string, api *dagger.Service) Cluster {
	text, _, local := offLoopback(kubeconfig)
	if !local {
		return Cluster{Kubeconfig: c.SetSecret(name, kubeconfig)}
	}
	return Cluster{Kubeconfig: c.SetSecret(name, text), Service: api, Host: hostName}
}

// CheckKubeconfig says what keeps a text from being a kubeconfig, raw or in base64. Whether its cluster answers is another question.
// The error holds nothing of the text, which is a secret even where it is wrong.
func CheckKubeconfig(text string) error {
	config, err := kubeconfigOf(text)
	if err == nil && len(config.list("clusters")) == 0 {
		err = errors.New("it names no cluster")
	}
	return err
}

// kubeconfigOf reads a kubeconfig, raw or in base64.
func kubeconfigOf(text string) (Object, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("it is empty")
	}
	if !strings.Contains(text, "apiVersion") {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil || !strings.Contains(string(raw), "apiVersion") {
			return nil, errors.New("it is neither a kubeconfig's text nor one in base64")
		}
		text = string(raw)
	}
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, errors.New("it is not valid YAML")
	}
	config, err := decode(raw)
	if err != nil {
		return nil, errors.New("it is YAML, but of something else")
	}
	return config, nil
}

// offLoopback moves the cluster of a kubeconfig's current context from the loopback to hostName. What can't be read is left for
// kubectl to refuse.
func offLoopback(kubeconfig string) (text string, port int, local bool) {
	config, err := kubeconfigOf(kubeconfig)
	if err != nil {
		return "", 0, false
	}
	cluster := ""
	for _, context := range config.list("contexts") {
		if context.text("name") == config.text("current-context") {
			cluster = context.text("context", "cluster")
		}
	}
	for _, entry := range config.list("clusters") {
		server, err := url.Parse(entry.text("cluster", "server"))
		if err != nil || entry.text("name") != cluster {
			continue
		}
		host := server.Hostname()
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", 0, false
		}
		if port, err = strconv.Atoi(server.Port()); err != nil {
			port = 443
		}
		if entry.at("cluster", "tls-server-name") == nil {
			entry.set(host, "cluster", "tls-server-name") // the certificate is made out for that name
		}
		server.Host = fmt.Sprintf("%s:%d", hostName, port)
		entry.set(server.String(), "cluster", "server")
		moved, err := json.Marshal(config)
		if err != nil {
			return "", 0, false
		}
		return string(moved), port, true
	}
	return "", 0, false
}
