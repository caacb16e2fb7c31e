package embedded

import "dagger.io/dagger"

// KubernetesVersion is that of the cluster and of its tools, and part of the tags of the images that they stand in for.
const KubernetesVersion = "1.34.4"

// Versions of the tools in the image with kubectl; their modules' go.mod says the same.
const (
	helmVersion        = "v3.19.5"
	kustomizeVersion   = "v5.7.1"
	kubeconformVersion = "v0.7.0"
)

func kubeTools() Recipe {
	return Recipe{
		file: "kubernetes.go",
		MadeOf: "kubectl v" + KubernetesVersion + ", helm " + helmVersion + ", kustomize " + kustomizeVersion + " and kubeconform " + kubeconformVersion +
			" from the Go module proxy, and bash, curl, jq of Debian " + DebianSuite,
		Base:     "library/debian:" + DebianSuite + "-slim",
		Programs: []Module{KubeToolsModule},
		Build: func(base *dagger.Container, in Inputs) *dagger.Container {
			c := withPackages(withoutCertificateUpdate(base), "curl", "jq")
			for _, name := range []string{"kubectl", "helm", "kustomize", "kubeconform"} {
				c = c.WithFile("/usr/bin/"+name, in.Programs[KubeToolsModule].File(name))
			}
			return c.WithWorkdir("/apps").WithDefaultArgs([]string{"bash"})
		},
	}
}

// k3s is a node that is called as that of k3s is. Its own program starts the parts, and says what it lacks.
func k3s() Recipe {
	return Recipe{
		file: "kubernetes.go",
		MadeOf: "Kubernetes v" + KubernetesVersion + ", etcd and CoreDNS from the Go module proxy, and containerd, runc, network plugins of Debian " + DebianSuite +
			", started by a program that is called as k3s is",
		Base:     "library/debian:" + DebianSuite + "-slim",
		Programs: []Module{KubernetesModule, NodeModule},
		Build: func(base *dagger.Container, in Inputs) *dagger.Container {
			c := withPackages(withoutCertificateUpdate(base), "containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "mount", "procps").
				WithFile("/usr/lib/kubernetes/kubernetes", in.Programs[KubernetesModule].File("kubernetes"))
			for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"} {
				c = c.WithSymlink("kubernetes", "/usr/lib/kubernetes/"+name)
			}
			for _, name := range []string{"coredns", "pause"} {
				c = c.WithFile("/usr/lib/kubernetes/"+name, in.Programs[NodeModule].File(name))
			}
			return c.
				WithFile("/bin/k3s", in.Programs[NodeModule].File("k3s")).
				WithEnvVariable("CRI_CONFIG_FILE", "/var/lib/rancher/k3s/agent/etc/crictl.yaml").
				WithEntrypoint([]string{"/bin/k3s"}).
				WithDefaultArgs([]string{"agent"})
		},
	}
}
