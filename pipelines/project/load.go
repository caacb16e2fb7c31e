package project

import (
	"fmt"
	"net/url"
	"time"
)

// Load says how an environment's load test runs, and when it counts as passed.
type Load struct {
	// Script is the k6 script's path; the first of load_tests if left out.
	Script string `yaml:"script,omitempty"`
	// Env are environment variables for the script; BASE_URL is set.
	Env map[string]string `yaml:"env,omitempty"`
	// Thresholds are k6's, by metric, on top of the script's own: http_req_duration: ["p(95)<100"].
	Thresholds map[string][]string `yaml:"thresholds,omitempty"`
	// URL to test from the engine, such as an ingress; by default k6 runs in the cluster against the environment's url.
	URL string `yaml:"url,omitempty" jsonschema:"format=uri"`
	// Margin is how much slower than the baseline a run may be, as a share; 0.10 by default.
	Margin float64 `yaml:"margin,omitempty" jsonschema:"minimum=0,maximum=10,default=0.1"`
	// Timeout of the whole test; 30m by default.
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// Analysis says how a canary is compared with the stable version. What is left out has its default.
type Analysis struct {
	// Script is the k6 script that both versions get; the first of load_tests if left out.
	Script string `yaml:"script,omitempty"`
	// Env are environment variables for the script; BASE_URL is set.
	Env map[string]string `yaml:"env,omitempty"`
	// MinRequests is how many requests each version must have had; 500 by default.
	MinRequests int `yaml:"min_requests,omitempty" jsonschema:"minimum=1,default=500"`
	// Margin is how much slower a canary may be and still count as equal, as a share; 0.10 by default.
	Margin float64 `yaml:"margin,omitempty" jsonschema:"minimum=0,maximum=10,default=0.1"`
	// ErrorMargin is how much higher its error rate may be, as a share of the requests; 0.005 by default.
	ErrorMargin float64 `yaml:"error_margin,omitempty" jsonschema:"minimum=0,maximum=1,default=0.005"`
	// MaxErrorRate is the error rate above which a canary is worse whatever the stable version does; no bound if left out.
	MaxErrorRate float64 `yaml:"max_error_rate,omitempty" jsonschema:"minimum=0,maximum=1"`
	// MaxP95 and MaxP99 are latencies above which a canary is worse, such as 250ms; no bound if left out.
	MaxP95 time.Duration `yaml:"max_p95,omitempty"`
	MaxP99 time.Duration `yaml:"max_p99,omitempty"`
	// Prometheus is a further source of figures.
	Prometheus *Prometheus `yaml:"prometheus,omitempty"`
}

// Prometheus is a Prometheus server that knows both versions.
type Prometheus struct {
	// URL of the server as pods reach it.
	URL string `yaml:"url" jsonschema:"required,format=uri"`
	// Queries to ask.
	Queries []PrometheusQuery `yaml:"queries" jsonschema:"required,minItems=1"`
}

// PrometheusQuery is an instant query whose value is better the lower it is.
type PrometheusQuery struct {
	// Name of the figure in reports.
	Name string `yaml:"name" jsonschema:"required,minLength=1"`
	// Query in PromQL. ${version} in it becomes stable and canary, ${namespace} the environment's namespace.
	Query string `yaml:"query" jsonschema:"required,minLength=1"`
	// Max is the value above which a canary is worse; no bound if left out.
	Max float64 `yaml:"max,omitempty"`
	// MaxRatio is how many times the stable version's value the canary's may be; no bound if left out.
	MaxRatio float64 `yaml:"max_ratio,omitempty" jsonschema:"minimum=0"`
}

// validateLoad checks what types alone can't, and brings the script's path into its plain form.
func (c *config) validateLoad(l *listing, at string, load *Load) error {
	if load == nil {
		return nil
	}
	if err := c.validateScript(l, at+".script", &load.Script); err != nil {
		return err
	}
	switch {
	case load.URL != "" && !webAddress(load.URL):
		return c.atPath(at+".url", "%q is no web address: use one such as https://staging.example.com", load.URL)
	case !(load.Margin >= 0 && load.Margin <= 10):
		return c.atPath(at+".margin", "%v is no share: write 10 %% as 0.1", load.Margin)
	case load.Timeout < 0:
		return c.atPath(at+".timeout", "%v is too short: use a duration such as 10m", load.Timeout)
	}
	for metric, all := range load.Thresholds {
		if len(all) == 0 {
			return c.atPath(at+".thresholds."+metric, "has no threshold: write one such as \"p(95)<100\", or remove it")
		}
	}
	return nil
}

// validateAnalysis checks what types alone can't.
func (c *config) validateAnalysis(l *listing, at string, a *Analysis) error {
	if a == nil {
		return nil
	}
	if err := c.validateScript(l, at+".script", &a.Script); err != nil {
		return err
	}
	switch {
	case a.MinRequests < 0:
		return c.atPath(at+".min_requests", "%d is too few: use 1 or more", a.MinRequests)
	case !(a.Margin >= 0 && a.Margin <= 10):
		return c.atPath(at+".margin", "%v is no share: write 10 %% as 0.1", a.Margin)
	case !(a.ErrorMargin >= 0 && a.ErrorMargin <= 1):
		return c.atPath(at+".error_margin", "%v is no share: write 0.5 %% as 0.005", a.ErrorMargin)
	case !(a.MaxErrorRate >= 0 && a.MaxErrorRate <= 1):
		return c.atPath(at+".max_error_rate", "%v is no share: write 1 %% as 0.01", a.MaxErrorRate)
	case a.MaxP95 < 0 || a.MaxP99 < 0:
		return c.atPath(at, "a latency can't be below zero")
	}
	if a.Prometheus == nil {
		return nil
	}
	if !webAddress(a.Prometheus.URL) {
		return c.atPath(at+".prometheus.url", "%q is no web address: use one such as http://prometheus.monitoring:9090", a.Prometheus.URL)
	}
	for i, q := range a.Prometheus.Queries {
		at := fmt.Sprintf("%s.prometheus.queries[%d]", at, i)
		switch {
		case q.Name == "":
			return c.atPath(at, "name is missing: name the figure, such as p99")
		case q.Query == "":
			return c.atPath(at, "query is missing: write it in PromQL")
		case q.Max == 0 && q.MaxRatio == 0:
			return c.atPath(at, "it has no bound: give it max, max_ratio or both")
		case q.MaxRatio < 0:
			return c.atPath(at+".max_ratio", "%v is too small: 1.1 allows 10 %% more than the stable version has", q.MaxRatio)
		}
	}
	return nil
}

func (c *config) validateScript(l *listing, at string, script *string) error {
	if *script == "" {
		return nil
	}
	*script = clean(*script)
	return c.mustExist(l, at, *script)
}

func webAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}
