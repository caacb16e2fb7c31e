package project

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Environment is a place that the project is deployed to.
type Environment struct {
	// Name of the environment, such as staging.
	Name string `yaml:"name" jsonschema:"required,pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=40"`
	// Namespace that takes the objects; the one that the manifests name if left out.
	Namespace string `yaml:"namespace,omitempty" jsonschema:"pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=63"`
	// Kubeconfig is the environment variable that holds the kubeconfig, raw or in base64; KUBE_CONFIG_ and the name if left out.
	Kubeconfig string `yaml:"kubeconfig,omitempty" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$"`
	// Manifests is a folder of manifests, a Kustomize overlay or a Helm chart; the one that was detected if left out.
	Manifests string `yaml:"manifests,omitempty"`
	// Values are the values files of a Helm chart, the last of which wins.
	Values []string `yaml:"values,omitempty"`
	// Release is the name of the Helm release; the chart's folder if left out.
	Release string `yaml:"release,omitempty"`
	// Replicas are numbers of pods by workload, instead of the manifests'.
	Replicas map[string]int `yaml:"replicas,omitempty"`
	// Branches whose pushes are deployed: develop for staging and main for production if left out, none for others.
	Branches []string `yaml:"branches,omitempty"`
	// Deadline is how long a release may take to come up; 5m if left out.
	Deadline time.Duration `yaml:"deadline,omitempty"`
	// Strategy is rolling, the default, or canary.
	Strategy string `yaml:"strategy,omitempty" jsonschema:"enum=rolling,enum=canary,default=rolling"`
	// Steps of a canary: the share of the traffic that the new version gets, and for how long.
	Steps []CanaryStep `yaml:"steps,omitempty"`
	// Analysis says how a canary is compared with the stable version.
	Analysis *Analysis `yaml:"analysis,omitempty"`
	// URL of the service as pods reach it, such as http://api: what checks and load tests begin with.
	URL string `yaml:"url,omitempty" jsonschema:"format=uri"`
	// Smoke lists the checks of a release; one that does not pass is rolled back.
	Smoke []Smoke `yaml:"smoke,omitempty"`
	// Gates are the conditions for a deployment.
	Gates *Gates `yaml:"gates,omitempty"`
	// Load is the environment's load test.
	Load *Load `yaml:"load,omitempty"`
}

// CanaryStep is a step on the way of the traffic to a new version.
type CanaryStep struct {
	// Weight is the share of the traffic in percent.
	Weight int `yaml:"weight" jsonschema:"required,minimum=1,maximum=100"`
	// Pause is how long the step lasts at least; what the analysis takes comes on top.
	Pause time.Duration `yaml:"pause,omitempty"`
}

// Variable returns the environment variable that holds the kubeconfig.
func (e Environment) Variable() string {
	return cmp.Or(e.Kubeconfig, "KUBE_CONFIG_"+strings.ToUpper(strings.ReplaceAll(e.Name, "-", "_")))
}

// Environment returns the environment of that name.
func (p *Project) Environment(name string) (Environment, bool) {
	i := slices.IndexFunc(p.Environments, func(e Environment) bool { return e.Name == name })
	if i < 0 {
		return Environment{}, false
	}
	return p.Environments[i], true
}

// The strategies by which a release takes over.
const (
	Rolling       = "rolling"
	CanaryRollout = "canary"
)

// defaultBranches are the branches of environments by their names.
var defaultBranches = map[string][]string{"staging": {"develop"}, "production": {"main"}, "prod": {"main"}}

// defaultSteps are those of a canary that names none.
var defaultSteps = []CanaryStep{{Weight: 20}, {Weight: 50}}

var (
	labelPattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// The longest names: that of an environment is part of others, that of a namespace is Kubernetes' own bound.
const (
	maxEnvironment = 40
	maxNamespace   = 63
)

// validateEnvironments checks what types alone can't, and fills in what is left out.
func (c *config) validateEnvironments(p *Project, l *listing) error {
	names := make([]string, 0, len(p.Environments))
	for _, e := range p.Environments {
		names = append(names, e.Name)
	}
	for i := range p.Environments {
		e := &p.Environments[i]
		at := fmt.Sprintf("environments[%d]", i)
		switch {
		case e.Name == "":
			return c.atPath(at, "name is missing: name the environment, such as staging")
		case !labelPattern.MatchString(e.Name) || len(e.Name) > maxEnvironment:
			return c.atPath(at+".name", "%q can't name an environment: use up to %d lower-case letters, digits and - between them", e.Name, maxEnvironment)
		case slices.Contains(names[:i], e.Name):
			return c.atPath(at+".name", "a second environment %q: put both into one", e.Name)
		case e.Namespace != "" && (!labelPattern.MatchString(e.Namespace) || len(e.Namespace) > maxNamespace):
			return c.atPath(at+".namespace", "%q can't name a namespace: use up to %d lower-case letters, digits and - between them", e.Namespace, maxNamespace)
		case e.Kubeconfig != "" && !variablePattern.MatchString(e.Kubeconfig):
			return c.atPath(at+".kubeconfig", "%q can't name an environment variable: put the kubeconfig into a variable, and its name here", clip(e.Kubeconfig))
		case e.Deadline < 0:
			return c.atPath(at+".deadline", "%v is too short: use a duration such as 5m", e.Deadline)
		case e.URL != "" && !webAddress(e.URL):
			return c.atPath(at+".url", "%q is no web address: use the service's, such as http://api", e.URL)
		}
		if err := c.validateManifests(p, l, at, e); err != nil {
			return err
		}
		for name, n := range e.Replicas {
			if n < 0 {
				return c.atPath(at+".replicas."+name, "%d is no number of pods: use 0 or more", n)
			}
		}
		if err := c.validateStrategy(at, e); err != nil {
			return err
		}
		if e.Branches == nil {
			e.Branches = defaultBranches[e.Name]
		}
		if err := c.validateSmoke(l, at+".smoke", e.Smoke); err != nil {
			return err
		}
		if err := c.validateGates(at+".gates", e.Name, e.Gates, names); err != nil {
			return err
		}
		if err := c.validateLoad(l, at+".load", e.Load); err != nil {
			return err
		}
		if err := c.validateAnalysis(l, at+".analysis", e.Analysis); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) validateManifests(p *Project, l *listing, at string, e *Environment) error {
	if e.Manifests == "" {
		switch len(p.Manifests) {
		case 0:
			return c.atPath(at, "manifests is missing, and none were found: name a folder of manifests, a Kustomize overlay or a Helm chart")
		case 1:
			e.Manifests = p.Manifests[0]
		default:
			return c.atPath(at, "manifests is missing, and there are several: name one of %s", strings.Join(p.Manifests, ", "))
		}
	}
	e.Manifests = clean(e.Manifests)
	if err := c.mustExist(l, at+".manifests", e.Manifests); err != nil {
		return err
	}
	chart := l.exists[clean(e.Manifests+"/Chart.yaml")]
	if !chart && (len(e.Values) > 0 || e.Release != "") {
		return c.atPath(at, "values and release are for a Helm chart, and %s has no Chart.yaml", showPath(e.Manifests))
	}
	for j := range e.Values {
		e.Values[j] = clean(e.Values[j])
		if err := c.mustExist(l, fmt.Sprintf("%s.values[%d]", at, j), e.Values[j]); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) validateStrategy(at string, e *Environment) error {
	if e.Strategy == "" {
		e.Strategy = Rolling
	}
	if err := c.mustBeOf(at+".strategy", "strategy", e.Strategy, []string{Rolling, CanaryRollout}); err != nil {
		return err
	}
	if e.Strategy == Rolling {
		if len(e.Steps) > 0 || e.Analysis != nil {
			return c.atPath(at, "steps and analysis are for a canary: add strategy: canary, or remove them")
		}
		return nil
	}
	if len(e.Steps) == 0 {
		e.Steps = slices.Clone(defaultSteps)
	}
	before := 0
	for j, s := range e.Steps {
		at := fmt.Sprintf("%s.steps[%d]", at, j)
		switch {
		case s.Weight < 1 || s.Weight > 100:
			return c.atPath(at, "weight %d is no share of the traffic: use 1 to 100", s.Weight)
		case s.Weight <= before:
			return c.atPath(at, "weight %d does not go up: the step before has %d", s.Weight, before)
		case s.Pause < 0:
			return c.atPath(at, "a pause can't be below zero")
		}
		before = s.Weight
	}
	return nil
}

// clip keeps a message short, and what was put into the wrong place out of it.
func clip(text string) string {
	if r := []rune(text); len(r) > 12 {
		return string(r[:12]) + "…"
	}
	return text
}
