package project

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The places where models are trained.
const (
	// EngineRunner trains in a container of the engine.
	EngineRunner = "engine"
	// KubernetesRunner trains in pods of a cluster.
	KubernetesRunner = "kubernetes"
)

// Runners are the values of models.runner.
var Runners = []string{EngineRunner, KubernetesRunner}

// Training says where models are trained that don't say it themselves.
type Training struct {
	// Runner is engine, the default, or kubernetes.
	Runner string `yaml:"runner,omitempty" jsonschema:"enum=engine,enum=kubernetes,default=engine"`
	// Kubernetes says where in a cluster.
	Kubernetes *Kubernetes `yaml:"kubernetes,omitempty"`
}

// Kubernetes says where in a cluster a model is trained.
type Kubernetes struct {
	// Namespace that the Jobs are put into. It must exist.
	Namespace string `yaml:"namespace" jsonschema:"required,pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=63"`
	// Kubeconfig is the environment variable that holds the kubeconfig, raw or in base64; KUBE_CONFIG_TRAINING if left out.
	Kubeconfig string `yaml:"kubeconfig,omitempty" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// NodeSelector are the labels of the nodes that may train.
	NodeSelector map[string]string `yaml:"node_selector,omitempty"`
	// Tolerations are the taints of nodes that are put up with.
	Tolerations []Toleration `yaml:"tolerations,omitempty"`
	// Resources are those besides cpus and memory_mib that each training gets, such as nvidia.com/gpu.
	Resources map[string]string `yaml:"resources,omitempty"`
	// PullSecrets are the Secrets of the namespace with logins for the image's registry.
	PullSecrets []string `yaml:"pull_secrets,omitempty"`
	// Parallelism is how many trainings of a grid run at the same time; all of them if left out.
	Parallelism int `yaml:"parallelism,omitempty" jsonschema:"minimum=1"`
	// StartWithin is how long the cluster may take to find a place for a training; 10m if left out.
	StartWithin time.Duration `yaml:"start_within,omitempty"`
}

// Toleration is a taint of nodes that is put up with, as Kubernetes has it.
type Toleration struct {
	// Key of the taint; any if left out.
	Key string `yaml:"key,omitempty"`
	// Operator is Equal, the default, or Exists.
	Operator string `yaml:"operator,omitempty" jsonschema:"enum=Equal,enum=Exists"`
	// Value of the taint.
	Value string `yaml:"value,omitempty"`
	// Effect is NoSchedule, PreferNoSchedule or NoExecute; any if left out.
	Effect string `yaml:"effect,omitempty" jsonschema:"enum=NoSchedule,enum=PreferNoSchedule,enum=NoExecute"`
}

// Variable returns the environment variable that holds the kubeconfig.
func (k Kubernetes) Variable() string { return cmp.Or(k.Kubeconfig, "KUBE_CONFIG_TRAINING") }

// OnKubernetes reports whether the model is trained in pods of a cluster.
func (m Model) OnKubernetes() bool { return m.Runner == KubernetesRunner }

const defaultStartWithin = 10 * time.Minute

// A name of a label or of a resource has a domain before it or not; a quantity is a number with a unit or not.
var (
	qualifiedPattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	valuePattern     = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$`)
	quantityPattern  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$`)
	objectPattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
)

// validateRunners says for each model where it is trained.
func (c *config) validateRunners(p *Project) error {
	t := &p.Training
	if err := c.validateRunner("training", &t.Runner, t.Kubernetes, nil); err != nil {
		return err
	}
	for i := range p.Models {
		m := &p.Models[i]
		if err := c.validateRunner(fmt.Sprintf("models[%d]", i), &m.Runner, m.Kubernetes, t); err != nil {
			return err
		}
		if !m.OnKubernetes() {
			continue
		}
		k := Kubernetes{}
		if from := cmp.Or(m.Kubernetes, t.Kubernetes); from != nil {
			k = *from
		}
		k.StartWithin = cmp.Or(k.StartWithin, defaultStartWithin)
		m.Kubernetes = &k
	}
	return nil
}

// validateRunner checks one place that says where to train. all is what holds for models that don't say it; nil for itself.
func (c *config) validateRunner(at string, runner *string, k *Kubernetes, all *Training) error {
	if *runner != "" {
		if err := c.mustBeOf(at+".runner", "runner", *runner, Runners); err != nil {
			return err
		}
	} else if all != nil {
		*runner = all.Runner
	}
	if k != nil {
		if *runner != KubernetesRunner && all != nil {
			return c.atPath(at+".kubernetes", "it is trained on the engine: add runner: kubernetes, or remove this")
		}
		return c.validateKubernetes(at+".kubernetes", k)
	}
	if *runner == KubernetesRunner && (all == nil || all.Kubernetes == nil) {
		return c.atPath(at+".runner", "say under kubernetes which namespace of the cluster trains")
	}
	return nil
}

func (c *config) validateKubernetes(at string, k *Kubernetes) error {
	switch {
	case k.Namespace == "":
		return c.atPath(at, "namespace is missing: name the one that the Jobs are put into")
	case !labelPattern.MatchString(k.Namespace) || len(k.Namespace) > maxNamespace:
		return c.atPath(at+".namespace", "%q can't name a namespace: use up to %d lower-case letters, digits and - between them", k.Namespace, maxNamespace)
	case k.Kubeconfig != "" && !variablePattern.MatchString(k.Kubeconfig):
		return c.atPath(at+".kubeconfig", "%q can't name an environment variable: put the kubeconfig into a variable, and its name here", clip(k.Kubeconfig))
	case k.Parallelism < 0:
		return c.atPath(at+".parallelism", "%d is no number of trainings: use 1 or more", k.Parallelism)
	case k.StartWithin < 0:
		return c.atPath(at+".start_within", "%v is too short: use a duration such as 10m", k.StartWithin)
	}
	for _, name := range slices.Sorted(maps.Keys(k.NodeSelector)) {
		if value := k.NodeSelector[name]; !qualifiedPattern.MatchString(name) || !valuePattern.MatchString(value) || len(value) > maxNamespace {
			return c.atPath(at+".node_selector."+name, "%s: %q is no label of a node: use one such as kubernetes.io/arch: amd64", name, value)
		}
	}
	for j, t := range k.Tolerations {
		below := fmt.Sprintf("%s.tolerations[%d]", at, j)
		if t.Operator != "" {
			if err := c.mustBeOf(below+".operator", "operator", t.Operator, []string{"Equal", "Exists"}); err != nil {
				return err
			}
		}
		if t.Effect != "" {
			if err := c.mustBeOf(below+".effect", "effect", t.Effect, []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}); err != nil {
				return err
			}
		}
		switch {
		case t.Operator == "Exists" && t.Value != "":
			return c.atPath(below+".value", "Exists compares no value: remove it, or use Equal")
		case t.Key == "" && t.Operator != "Exists":
			return c.atPath(below, "key is missing: name the taint, or put up with all by operator: Exists")
		case t.Key != "" && !qualifiedPattern.MatchString(t.Key):
			return c.atPath(below+".key", "%q is no taint's key", t.Key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.Resources)) {
		switch quantity := k.Resources[name]; {
		case name == "cpu" || name == "memory":
			return c.atPath(at+".resources."+name, "%s is given by %s of the model", name, map[string]string{"cpu": "cpus", "memory": "memory_mib"}[name])
		case !qualifiedPattern.MatchString(name):
			return c.atPath(at+".resources."+name, "%q is no resource: use one such as nvidia.com/gpu", name)
		case !quantityPattern.MatchString(quantity):
			return c.atPath(at+".resources."+name, "%q is no quantity: use one such as 1 or 10Gi", quantity)
		}
	}
	for j, name := range k.PullSecrets {
		if !objectPattern.MatchString(name) {
			return c.atPath(fmt.Sprintf("%s.pull_secrets[%d]", at, j), "%q can't name a Secret: use lower-case letters, digits and . - between them", strings.TrimSpace(name))
		}
	}
	return nil
}
