package kube

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// state is what a namespace's workloads, pods and events were at one moment.
type state struct {
	workloads, sets, pods, events []Object
}

// stateOf reads what kubectl get printed of all of them.
func stateOf(text string) (state, error) {
	all, err := items(text)
	if err != nil {
		return state{}, fmt.Errorf("read the state of the workloads: %w", err)
	}
	var s state
	for _, o := range all {
		switch o.text("kind") {
		case "Deployment", "StatefulSet", "DaemonSet", "Job":
			s.workloads = append(s.workloads, o)
		case "ReplicaSet":
			s.sets = append(s.sets, o)
		case "Pod":
			s.pods = append(s.pods, o)
		case "Event":
			s.events = append(s.events, o)
		}
	}
	return s, nil
}

func (s state) find(id ID) Object {
	for _, o := range s.workloads {
		if o.text("kind") == id.Kind && o.ID().Name == id.Name {
			return o
		}
	}
	return nil
}

// condition returns an object's condition of a type; nil if it has none.
func (o Object) condition(kind string) Object {
	for _, c := range o.list("status", "conditions") {
		if c.text("type") == kind {
			return c
		}
	}
	return nil
}

// owned reports whether o belongs to the object of that uid.
func (o Object) owned(uid string) bool {
	return slices.ContainsFunc(o.list("metadata", "ownerReferences"), func(r Object) bool { return r.text("uid") == uid })
}

func (o Object) uid() string { return o.text("metadata", "uid") }

// wanted returns how many pods a workload is to have.
func (o Object) wanted() int {
	switch o.text("kind") {
	case "DaemonSet":
		return o.number("status", "desiredNumberScheduled")
	case "Job":
		if o.at("spec", "completions") != nil {
			return o.number("spec", "completions")
		}
		return 1
	}
	if o.at("spec", "replicas") == nil {
		return 1
	}
	return o.number("spec", "replicas")
}

// observed reports whether the controller has seen the workload as it is now.
func (o Object) observed() bool {
	return o.text("kind") == "Job" || o.number("status", "observedGeneration") >= o.number("metadata", "generation")
}

// up reports whether all pods of a workload are of its present revision and ready, and how many are.
func (o Object) up() (int, bool) {
	want := o.wanted()
	switch o.text("kind") {
	case "Deployment":
		updated, available := o.number("status", "updatedReplicas"), o.number("status", "availableReplicas")
		n := min(updated, available)
		return n, o.observed() && updated == want && o.number("status", "replicas") == want && available == want
	case "StatefulSet":
		ready := o.number("status", "readyReplicas")
		if o.text("spec", "updateStrategy", "type") == "OnDelete" || o.number("spec", "updateStrategy", "rollingUpdate", "partition") > 0 {
			return ready, o.observed() && ready == want // its owner moves the pods over
		}
		n := min(ready, o.number("status", "updatedReplicas"))
		return n, o.observed() && n == want && (want == 0 || o.text("status", "updateRevision") == o.text("status", "currentRevision"))
	case "DaemonSet":
		available := o.number("status", "numberAvailable")
		if o.text("spec", "updateStrategy", "type") == "OnDelete" {
			return available, o.observed() && available == want
		}
		n := min(available, o.number("status", "updatedNumberScheduled"))
		return n, o.observed() && n == want
	case "Job":
		return o.number("status", "succeeded"), o.condition("Complete").text("status") == "True"
	}
	return 0, true
}

// revision returns the ReplicaSet of a Deployment's present template; nil until there is one.
func (s state) revision(deployment Object) Object {
	var newest Object
	number := func(o Object) int {
		n, _ := strconv.Atoi(o.text("metadata", "annotations", "deployment.kubernetes.io/revision"))
		return n
	}
	for _, set := range s.sets {
		if set.owned(deployment.uid()) && (newest == nil || number(set) > number(newest)) {
			newest = set
		}
	}
	return newest
}

// owners returns the uids of the objects that make a workload's pods.
func (s state) owners(workload Object) []string {
	if workload.text("kind") == "Deployment" {
		if set := s.revision(workload); set != nil {
			return []string{set.uid()}
		}
		return nil
	}
	return []string{workload.uid()}
}

// podsOf returns the pods of a workload's present revision that are not on their way out.
func (s state) podsOf(workload Object) []Object {
	var all []Object
	owners := s.owners(workload)
	for _, p := range s.pods {
		if p.at("metadata", "deletionTimestamp") != nil || !slices.ContainsFunc(owners, p.owned) {
			continue
		}
		hash := p.text("metadata", "labels", "controller-revision-hash")
		if workload.text("kind") == "StatefulSet" && hash != "" && workload.text("status", "updateRevision") != "" && hash != workload.text("status", "updateRevision") {
			continue
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Object) int { return strings.Compare(a.ID().Name, b.ID().Name) })
	return all
}

// eventsOf returns the events of objects by their uids, the newest last.
func (s state) eventsOf(uids ...string) []Object {
	var all []Object
	for _, e := range s.events {
		if slices.Contains(uids, e.text("involvedObject", "uid")) {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b Object) int { return strings.Compare(eventTime(a), eventTime(b)) })
	return all
}

// eventTime is when an event last happened, by the cluster's clock.
func eventTime(e Object) string {
	for _, path := range [][]string{{"series", "lastObservedTime"}, {"lastTimestamp"}, {"eventTime"}, {"metadata", "creationTimestamp"}} {
		if t := e.text(path...); t != "" {
			return t
		}
	}
	return ""
}

// statuses returns the statuses of a pod's containers, those that run before the others first.
func statuses(pod Object) []Object {
	return slices.Concat(pod.list("status", "initContainerStatuses"), pod.list("status", "containerStatuses"))
}
