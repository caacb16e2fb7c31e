package load

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/canary"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Canary puts two versions of a service under the same load at the same time, and decides by what they did with it.
//
// Each version has a k6 of its own, with the whole script, in one pod: scripts need not know that there are two, and what
// disturbs the one disturbs the other.
type Canary struct {
	// Namespace of both versions.
	Namespace string
	// Stable and New are the URLs of the versions as pods reach them: the BASE_URL of the script.
	Stable, New string
	// Script is the k6 script's path in the source. Its thresholds don't count here.
	Script string
	// Env are environment variables for the script.
	Env map[string]string
	// Rules say what counts as worse.
	Rules canary.Rules
	// Prometheus is a further source, asked after the load; nil if there is none.
	Prometheus *Prometheus
	// Timeout of the load; 30 minutes by default.
	Timeout time.Duration
}

// CanaryResult is what was decided, and from what.
type CanaryResult struct {
	step.Result
	Decision canary.Decision
}

// Run sends the load of the script in src, and decides: passed is promote, failed is abort.
//
// Reports: decision.json, and a folder for each version with k6.log, summary.json and k6.html.
// Metrics: stable_… and canary_…: requests, error_percent, p50_ms, p95_ms, p99_ms.
func (t Canary) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory, cluster kube.Cluster) (CanaryResult, error) {
	if t.Script == "" {
		return CanaryResult{}, errors.New("the canary has no load: name a k6 script in its analysis, or put one into a folder loadtest")
	}
	s := shot{
		script: t.Script, source: src, env: t.Env, timeout: cmp.Or(t.Timeout, 30*time.Minute), cluster: cluster, namespace: t.Namespace,
		targets: []target{{"stable", t.Stable}, {"canary", t.New}},
	}
	yields, err := s.fire(ctx, c)
	if err != nil {
		return CanaryResult{}, fmt.Errorf("canary: %w", err)
	}
	result := CanaryResult{Result: step.Result{
		Metrics: map[string]float64{}, Reports: c.Directory(),
		Tools: map[string]string{"k6": image.K6[strings.LastIndexByte(image.K6, ':')+1:]},
	}}
	var checks []canary.Check
	sides := map[string]canary.Sample{}
	for _, name := range []string{"stable", "canary"} {
		y := yields[name]
		if y.exit != 0 && y.exit != thresholdsCrossed {
			checks = append(checks, canary.Check{Name: "load", Outcome: canary.Inconclusive,
				Reason: fmt.Sprintf("the load on the %s version broke off, with exit code %d of k6: %s", name, y.exit, complaints(y.log))})
		}
		sides[name] = side(y.samples)
		put(result.Metrics, name, sides[name])
		result.Reports = result.Reports.WithNewFile(name+"/k6.log", strings.ToValidUTF8(y.log, "\uFFFD")+"\n")
		for _, file := range []string{"summary.json", "k6.html"} {
			if text := y.files[file]; len(text) > 0 {
				result.Reports = result.Reports.WithNewFile(name+"/"+file, string(text))
			}
		}
	}
	if len(checks) == 0 {
		checks = canary.Decide(sides["stable"], sides["canary"], t.Rules).Checks
	}
	if t.Prometheus != nil {
		more, err := t.Prometheus.ask(ctx, c, cluster, t.Namespace)
		if err != nil {
			// Not to know is no reason to revert, nor to go on.
			more = []canary.Check{{Name: "prometheus", Outcome: canary.Inconclusive, Reason: err.Error()}}
		}
		checks = append(checks, more...)
	}
	result.Decision = canary.Join(checks...)
	result.Verdict, result.Reason = result.Decision.Outcome.Verdict(), result.Decision.Reason
	var lines []string
	for _, check := range result.Decision.Checks {
		lines = append(lines, fmt.Sprintf("%s: %s: %s", check.Name, check.Outcome, check.Reason))
		if check.Outcome == canary.Abort {
			result.Findings = append(result.Findings, report.Finding{Tool: "canary", Rule: check.Name, Severity: report.High, Message: check.Reason})
		}
	}
	report.SortFindings(result.Findings)
	result.Output = strings.Join(lines, "\n")
	text, err := json.MarshalIndent(result.Decision, "", "  ")
	if err != nil {
		return CanaryResult{}, fmt.Errorf("write the decision: %w", err)
	}
	result.Reports = result.Reports.WithNewFile("decision.json", string(text)+"\n")
	return result, nil
}

// side is what a version did.
func side(samples []sample) canary.Sample {
	var s canary.Sample
	for _, one := range samples {
		s.Latencies = append(s.Latencies, one.ms)
		if one.failed {
			s.Errors++
		}
	}
	return s
}

// put puts a version's figures among the metrics.
func put(m map[string]float64, name string, s canary.Sample) {
	m[name+"_requests"] = float64(s.Requests())
	if s.Requests() == 0 {
		return
	}
	m[name+"_error_percent"] = 100 * s.ErrorRate()
	sorted := slices.Sorted(slices.Values(s.Latencies))
	for suffix, q := range map[string]float64{"_p50_ms": 0.5, "_p95_ms": 0.95, "_p99_ms": 0.99} {
		m[name+suffix] = canary.Quantile(sorted, q)
	}
}
