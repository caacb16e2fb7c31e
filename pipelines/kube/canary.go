package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Canary gives the new version a growing share of the traffic beside the stable one, and goes on only while it is no worse.
//
// The new version runs as a Deployment of its own, <name>-canary, whose pods the same Services select: the shares are those of the
// pods. Where the release has an HTTPRoute of the Gateway API, its weights are the shares. In either case the Services <service>-stable
// and <service>-canary reach one version alone. Only Deployments that run already and whose pods change take part; the rest of
// the release follows when the canary is promoted, but for ConfigMaps, Secrets and the like, which the canary's pods need.
type Canary struct {
	// Steps are the shares, which must go up.
	Steps []CanaryStep
	// Analyse compares the versions after each step's pause; nil only waits.
	Analyse Analysis
}

// CanaryStep is a share of the traffic.
type CanaryStep struct {
	// Weight is the canary's share in percent.
	Weight int
	// Pause is how long it has that share before it is judged.
	Pause time.Duration
}

// Track is one of the two versions.
type Track struct {
	// Service is the name of the Service that reaches this version alone.
	Service string
	// Port is the Service's first port.
	Port int
	// Pods is how many pods it has.
	Pods int
	// Share is its part of the traffic, from 0 to 1.
	Share float64
}

// Analysis compares the two versions of a service. The verdict passed promotes, failed aborts and reverts, and
// inconclusive pauses: the canary keeps its share until somebody decides.
type Analysis func(ctx context.Context, r Rollout, stable, canary Track) (step.Result, error)

// trackLabel tells the canary's pods from the stable ones.
const trackLabel = "millrace.dev/track"

const canarySuffix = "-canary"

// candidate is a Deployment of which a canary is made.
type candidate struct {
	object Object
	// pods is how many the stable version has, and hash what tells them from others.
	pods     int
	hash     string
	services []Object
}

// canaryRoll moves the traffic over step by step, and then rolls out the release as a whole.
func (r *release) canaryRoll(ctx context.Context, jobs []string) (awaited, error) {
	if len(r.candidates) == 0 {
		r.note("no canary: no Deployment that runs already gets new pods")
		return r.apply(ctx, jobs, time.Now().Add(r.deadline))
	}
	for i, s := range r.canary.Steps {
		waited, err := r.canaryStep(ctx, s, i == 0)
		if err != nil || waited.trouble != nil || waited.judged != nil {
			return waited, err
		}
	}
	r.say("promoting the canary")
	waited, err := r.apply(ctx, jobs, time.Now().Add(r.deadline))
	if err != nil || waited.trouble != nil {
		return waited, err
	}
	_, err = r.shell.insist(ctx, deleteScript, encode(stubs(r.passing)))
	return waited, err
}

// planCanary finds the Deployments that get a canary, and notes the objects that come with it: they have to go if it is reverted.
func (r *release) planCanary(ctx context.Context) error {
	got, err := r.shell.must(ctx, waitScript, "", "0", r.namespace)
	if err != nil {
		return err
	}
	now, err := stateOf(got.out)
	if err != nil {
		return err
	}
	templates := map[ID]string{}
	if r.previous.Revision > 0 {
		c, err := r.content(ctx, r.previous.Revision)
		if err != nil {
			return err
		}
		for _, o := range c.Manifests {
			if o.text("kind") == "Deployment" {
				templates[o.ID()] = templateText(o)
			}
		}
	}
	r.candidates = r.findCandidates(now, templates)
	for _, c := range r.candidates {
		id := c.object.ID()
		id.Name += canarySuffix
		r.passing = append(r.passing, id)
		for _, service := range c.services {
			for _, suffix := range []string{"-stable", canarySuffix} {
				id := service.ID()
				id.Name += suffix
				r.passing = append(r.passing, id)
			}
		}
	}
	for _, id := range r.passing {
		r.before = append(r.before, before{ID: id})
	}
	return nil
}

// findCandidates returns the Deployments of the release that run with other pods. templates are those of the release before.
func (r *release) findCandidates(now state, templates map[ID]string) []candidate {
	var all []candidate
	for _, o := range r.objects {
		if o.text("kind") != "Deployment" || o.ID().Namespace != r.namespace {
			continue
		}
		live := now.find(o.ID())
		if live == nil || live.number("spec", "replicas") == 0 || templates[o.ID()] == templateText(o) {
			continue
		}
		set := now.revision(live)
		if set == nil {
			continue
		}
		c := candidate{object: o, pods: live.number("spec", "replicas"), hash: set.text("metadata", "labels", "pod-template-hash")}
		for _, service := range r.objects {
			if service.text("kind") == "Service" && service.ID().Namespace == r.namespace && selects(service, o.object("spec", "template", "metadata", "labels")) {
				c.services = append(c.services, service)
			}
		}
		all = append(all, c)
	}
	return all
}

func templateText(o Object) string {
	text, err := json.Marshal(o.template())
	if err != nil {
		panic(err) // it came from JSON
	}
	return string(text)
}

// selects reports whether a Service selects pods with these labels.
func selects(service, labels Object) bool {
	selector := service.object("spec", "selector")
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// canaryStep gives the canaries one more share, waits for them, and has them compared.
func (r *release) canaryStep(ctx context.Context, s CanaryStep, first bool) (awaited, error) {
	var objects []Object
	scaled := map[string]int{}
	if first {
		for _, o := range r.objects {
			if slices.Contains([]string{"ConfigMap", "ServiceAccount", "Role", "RoleBinding", "PersistentVolumeClaim"}, o.text("kind")) {
				objects = append(objects, o)
			}
		}
	}
	var workloads []ID
	var tracks [][2]Track
	for _, c := range r.candidates {
		canaries, stable := shares(c.pods, s.Weight)
		routed := r.routes(c, s.Weight)
		share := float64(canaries) / float64(canaries+stable)
		if len(routed) > 0 {
			stable, share = c.pods, float64(s.Weight)/100
		}
		r.say("canary of %s: %d of %d pods, %.0f%% of the traffic", c.object.ID(), canaries, canaries+stable, 100*share)
		canary := c.canary(canaries)
		objects = append(objects, canary)
		objects = append(objects, routed...)
		workloads = append(workloads, canary.ID())
		for _, service := range c.services {
			objects = append(objects, track(service, "-stable", Object{"pod-template-hash": c.hash}), track(service, canarySuffix, Object{trackLabel: "canary"}))
			port := 0
			if ports := service.list("spec", "ports"); len(ports) > 0 {
				port = ports[0].number("port")
			}
			tracks = append(tracks, [2]Track{
				{Service: service.ID().Name + "-stable", Port: port, Pods: stable, Share: 1 - share},
				{Service: service.ID().Name + canarySuffix, Port: port, Pods: canaries, Share: share},
			})
		}
		if stable != c.pods {
			scaled[c.object.ID().Name] = stable
		}
	}
	deadline := time.Now().Add(r.deadline)
	secrets, older := r.secrets, r.older
	if !first {
		secrets, older = nil, ""
	}
	args := append([]string{r.namespace, recordName(r.record.Revision), older, "3", "--"}, resources(workloads)...)
	got, err := r.shell.insist(ctx, applyScript, encode(slices.Concat(secrets, objects)), args...)
	if err != nil {
		return awaited{}, err
	}
	waited, err := r.await(ctx, workloads, deadline, got.part(1))
	if err != nil || waited.trouble != nil {
		return waited, err
	}
	// The stable version gives up pods only when the canary has taken its share.
	for name, pods := range scaled {
		if _, err := r.shell.insist(ctx, scaleScript, "", r.namespace, name, strconv.Itoa(pods)); err != nil {
			return waited, err
		}
	}
	select {
	case <-ctx.Done():
		return waited, ctx.Err()
	case <-time.After(s.Pause):
	}
	if r.canary.Analyse == nil {
		return waited, nil
	}
	for _, t := range tracks {
		result, err := r.canary.Analyse(ctx, r.rollout(graph.Passed, ""), t[0], t[1])
		if err != nil {
			return waited, fmt.Errorf("compare the canary with the stable version: %w", err)
		}
		if result.Reports != nil {
			r.reports = r.reports.WithDirectory(fmt.Sprintf("canary-%d-%s", s.Weight, t[1].Service), result.Reports)
		}
		if result.Reason != "" {
			r.note("canary at %d%%: %s", s.Weight, result.Reason)
		}
		if result.Verdict != graph.Passed && result.Verdict != graph.Skipped {
			result.Reason = fmt.Sprintf("the canary at %d%% is not promoted: %s", s.Weight, result.Reason)
			waited.judged = &result
			return waited, nil
		}
	}
	return waited, nil
}

// shares returns how many pods the canary and the stable version have, for a canary's share in percent. The stable version
// keeps all its pods as long as that gives the share: to abort is then only to take the canary away.
func shares(pods, weight int) (canary, stable int) {
	if weight >= 100 {
		return pods, 0
	}
	canary = max(1, (pods*weight+(100-weight)/2)/(100-weight))
	if canary <= pods {
		return canary, pods
	}
	return pods, max(1, (pods*(100-weight)+weight/2)/weight)
}

// canary returns the Deployment that runs the new version beside the stable one.
func (c candidate) canary(pods int) Object {
	o := c.object.clone()
	o.set(c.object.ID().Name+canarySuffix, "metadata", "name")
	o.set(json.Number(strconv.Itoa(pods)), "spec", "replicas")
	o.set("canary", "spec", "selector", "matchLabels", trackLabel)
	o.set("canary", "spec", "template", "metadata", "labels", trackLabel)
	return o
}

// track returns a Service that reaches one version alone.
func track(service Object, suffix string, only Object) Object {
	o := service.clone()
	o.set(service.ID().Name+suffix, "metadata", "name")
	for key, value := range only {
		o.set(value, "spec", "selector", key)
	}
	for _, key := range []string{"clusterIP", "clusterIPs", "externalIPs", "loadBalancerIP", "externalName", "healthCheckNodePort"} {
		o.drop("spec", key)
	}
	o.set("ClusterIP", "spec", "type")
	for _, key := range []string{"externalTrafficPolicy", "allocateLoadBalancerNodePorts", "loadBalancerClass"} {
		o.drop("spec", key)
	}
	for _, port := range o.list("spec", "ports") {
		delete(port, "nodePort")
	}
	return o
}

// routes returns the HTTPRoutes of the release that lead to a candidate's Services, with the canary's share as weights.
func (r *release) routes(c candidate, weight int) []Object {
	var all []Object
	for _, o := range r.objects {
		if o.text("kind") != "HTTPRoute" || !strings.HasPrefix(o.text("apiVersion"), "gateway.networking.k8s.io/") {
			continue
		}
		if route, changed := weighed(o, c.services, weight); changed {
			all = append(all, route)
		}
	}
	return all
}

// weighed splits the backends of a route that are one of the Services.
func weighed(route Object, services []Object, weight int) (Object, bool) {
	o := route.clone()
	changed := false
	for _, rule := range o.list("spec", "rules") {
		var backends []any
		for _, backend := range rule.list("backendRefs") {
			mine := slices.ContainsFunc(services, func(s Object) bool {
				return backend.text("name") == s.ID().Name && (backend.text("kind") == "" || backend.text("kind") == "Service")
			})
			if !mine {
				backends = append(backends, map[string]any(backend))
				continue
			}
			whole := 100
			if backend.at("weight") != nil {
				whole = 100 * backend.number("weight")
			}
			for _, part := range []struct {
				suffix string
				weight int
			}{{"-stable", whole * (100 - weight) / 100}, {canarySuffix, whole * weight / 100}} {
				split := backend.clone()
				split["name"] = backend.text("name") + part.suffix
				split["weight"] = json.Number(strconv.Itoa(part.weight))
				backends = append(backends, map[string]any(split))
			}
			changed = true
		}
		if len(backends) > 0 {
			rule["backendRefs"] = backends
		}
	}
	return o, changed
}

// pause leaves the canary at its share, for somebody to decide.
func (r *release) pause(ctx context.Context, a awaited) (Rollout, error) {
	r.describe(a)
	r.record.Status, r.record.Phase, r.record.Cause = Paused, "", a.judged.Reason
	if _, err := r.shell.insist(context.WithoutCancel(ctx), phaseScript, "", r.namespace, recordName(r.record.Revision), marked(r.record)); err != nil {
		return r.revert(ctx, a, err)
	}
	r.output = append(r.output, fmt.Sprintf("the canary of revision %d keeps its share: roll it back with rollback %s, or deploy again to judge it anew", r.record.Revision, r.environment))
	return r.rollout(graph.Inconclusive, a.judged.Reason), nil
}
