package load

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/canary"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
)

//go:embed prometheus.py
var prometheusScript string

// endAnswers is the last line that the script prints.
const endAnswers = "-----END ANSWERS-----"

// Prometheus is a server that has figures of both versions.
type Prometheus struct {
	// URL of the server as pods reach it.
	URL string
	// Queries to ask.
	Queries []canary.Query
}

// ask makes the queries from a pod, and judges what they give.
func (p Prometheus) ask(ctx context.Context, c *dagger.Client, cluster kube.Cluster, namespace string) ([]canary.Check, error) {
	var plan struct {
		URL     string   `json:"url"`
		Queries []string `json:"queries"`
	}
	plan.URL = p.URL
	for _, q := range p.Queries {
		plan.Queries = append(plan.Queries, q.For("stable", namespace), q.For("canary", namespace))
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("write the queries: %w", err)
	}
	done, err := kube.Task{
		Name: "millrace-load", Namespace: namespace, Image: image.Python(""), Memory: "128Mi",
		Argv:  []string{"python", "/millrace/prometheus.py", "/millrace/queries.json"},
		Files: map[string]string{"prometheus.py": prometheusScript, "queries.json": string(text)}, Timeout: 2 * time.Minute,
		LogEnd: endAnswers,
	}.Run(ctx, c, cluster)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", err)
	}
	var measured []canary.Measured
	for line := range strings.Lines(done.Log) {
		var answer struct{ Query, Body, Broken string }
		if json.Unmarshal([]byte(line), &answer) != nil || answer.Query == "" {
			continue
		}
		if answer.Broken != "" {
			return nil, fmt.Errorf("ask Prometheus at %s: %s", p.URL, answer.Broken)
		}
		m, err := canary.ParsePrometheus([]byte(answer.Body))
		if err != nil {
			return nil, fmt.Errorf("ask Prometheus at %s: the query %s: %w", p.URL, answer.Query, err)
		}
		measured = append(measured, m)
	}
	if len(measured) != 2*len(p.Queries) {
		return nil, fmt.Errorf("ask Prometheus at %s: %d answers to %d queries\n%s", p.URL, len(measured), 2*len(p.Queries), last(done.Log))
	}
	var checks []canary.Check
	for i, q := range p.Queries {
		checks = append(checks, q.Judge(measured[2*i], measured[2*i+1]))
	}
	return checks, nil
}
