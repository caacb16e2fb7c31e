package image

// Every image that the library pulls is named here, pinned by tag, so that an update is one edit
// and a mirror has one list to carry.
const (
	// pythonRepository and pythonVariant frame the version of Python that a project asks for.
	pythonRepository = "python"
	pythonVariant    = "-slim"

	// Golang builds and tests Go code.
	Golang = "golang:1.26"
	// GolangciLint lints Go code; its tag is the linter's own version.
	GolangciLint = "golangci/golangci-lint:v2.15.0"

	// KubeTools has kubectl, helm, kustomize and kubeconform.
	KubeTools = "alpine/k8s:1.34.4"
	// K3s is a Kubernetes cluster of one node.
	K3s = "rancher/k3s:v1.34.4-k3s1"
	// K6 tests how a service bears load.
	K6 = "grafana/k6:1.6.1"
)

// DefaultPython is the version of Python for a project that names none.
const DefaultPython = "3.11"

// Python returns the reference of the slim Python image of a version such as "3.11"; empty means [DefaultPython].
func Python(version string) string {
	if version == "" {
		version = DefaultPython
	}
	return pythonRepository + ":" + version + pythonVariant
}
