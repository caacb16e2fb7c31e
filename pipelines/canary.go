package pipelines

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-ci/millrace/pipelines/canary"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/load"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// canaryOf returns how an environment's canary goes; nil for one that has none.
func canaryOf(in Inputs, e project.Environment) *kube.Canary {
	if e.Strategy != project.CanaryRollout {
		return nil
	}
	c := &kube.Canary{Analyse: analysis(in, e)}
	for _, s := range e.Steps {
		c.Steps = append(c.Steps, kube.CanaryStep{Weight: s.Weight, Pause: s.Pause})
	}
	return c
}

// analysis puts both versions under the same load and compares them. Without a load there is nothing to compare, and a canary
// only has to stay up for its pauses.
func analysis(in Inputs, e project.Environment) kube.Analysis {
	a := project.Analysis{}
	if e.Analysis != nil {
		a = *e.Analysis
	}
	with := script(in.Project, a.Script)
	if with == "" {
		return nil
	}
	return func(ctx context.Context, r kube.Rollout, stable, track kube.Track) (step.Result, error) {
		done, err := load.Canary{
			Namespace: r.Namespace, Stable: trackURL(stable), New: trackURL(track), Script: with, Env: a.Env,
			Rules: canary.Rules{
				MinRequests: a.MinRequests, Margin: a.Margin, ErrorMargin: a.ErrorMargin, MaxErrorRate: a.MaxErrorRate,
				MaxP95: milliseconds(a.MaxP95), MaxP99: milliseconds(a.MaxP99),
			},
			Prometheus: prometheus(a.Prometheus),
		}.Run(ctx, in.Client, in.Source, r.Cluster)
		return done.Result, err
	}
}

func trackURL(t kube.Track) string { return fmt.Sprintf("http://%s:%d", t.Service, t.Port) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func prometheus(p *project.Prometheus) *load.Prometheus {
	if p == nil {
		return nil
	}
	source := &load.Prometheus{URL: p.URL}
	for _, q := range p.Queries {
		source.Queries = append(source.Queries, canary.Query{Name: q.Name, Expression: q.Query, Max: q.Max, MaxRatio: q.MaxRatio})
	}
	return source
}
