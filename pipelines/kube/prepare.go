package kube

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// The labels and annotations that a release leaves on its objects.
const (
	managedBy          = "app.kubernetes.io/managed-by"
	manager            = "millrace"
	revisionAnnotation = "millrace.dev/revision"
	commitAnnotation   = "millrace.dev/commit"
	configAnnotation   = "millrace.dev/config-checksum"
)

// Placed says which image a container got.
type Placed struct {
	// Workload and Container name the container.
	Workload  string `json:"workload"`
	Container string `json:"container"`
	// Reference is the image that it runs.
	Reference string `json:"reference"`
	// Built is the name of the image of this run; empty where the manifest's own was kept.
	Built string `json:"built,omitempty"`
}

// home returns the namespace that most objects name; empty if none does.
func home(objects []Object) string {
	counts := map[string]int{}
	for _, o := range objects {
		if o.text("kind") == "Namespace" {
			counts[o.ID().Name]++
		} else if ns := o.ID().Namespace; ns != "" {
			counts[ns]++
		}
	}
	best := ""
	for ns, n := range counts {
		if n > counts[best] || n == counts[best] && ns < best {
			best = ns
		}
	}
	return best
}

// settle moves objects from the namespace that they were written for to the environment's. Those that name a third one stay.
func settle(objects []Object, from, to string) {
	for _, o := range objects {
		id := o.ID()
		switch {
		case id.Kind == "Namespace" && id.Name == from:
			o.set(to, "metadata", "name")
		case slices.Contains(clusterScoped, id.Kind):
		case id.Namespace == "" || id.Namespace == from:
			o.set(to, "metadata", "namespace")
		}
		for _, subject := range o.list("subjects") {
			if subject.text("namespace") == from && from != "" {
				subject["namespace"] = to
			}
		}
	}
}

// place puts the images of a run in the containers that are meant for them, and says which container has which.
//
// A container is meant for an image when its repository is the image's, or ends in the image's name.
func place(objects []Object, images map[string]string) []Placed {
	var all []Placed
	for _, o := range objects {
		template := o.template()
		if template == nil {
			continue
		}
		for _, container := range template.containers() {
			p := Placed{Workload: o.ID().String(), Container: container.text("name"), Reference: container.text("image")}
			if name := match(p.Reference, images); name != "" {
				p.Built, p.Reference = name, images[name]
				container["image"] = p.Reference
			}
			all = append(all, p)
		}
	}
	return all
}

// match returns the name of the image that a reference means; empty if it means none of them.
func match(ref string, images map[string]string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "" // the server will say what is wrong with it
	}
	_, pinned := named.(reference.Digested)
	last := ""
	for name, built := range images {
		other, err := reference.ParseNormalizedNamed(built)
		if err == nil && other.Name() == named.Name() {
			return name
		}
		if name == path.Base(reference.Path(named)) && !pinned {
			last = name // who pins the digest of an image of another repository means that one
		}
	}
	return last
}

// scale sets the replicas of workloads by their names. It returns the names that fit none.
func scale(objects []Object, replicas map[string]int) (unknown []string) {
	for name, n := range replicas {
		found := false
		for _, o := range objects {
			id := o.ID()
			if (id.Kind == "Deployment" || id.Kind == "StatefulSet" || id.Kind == "ReplicaSet") && (id.Name == name || id.String() == name) {
				o.set(json.Number(strconv.Itoa(n)), "spec", "replicas")
				found = true
			}
		}
		if !found {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// yieldToAutoscalers leaves the number of replicas to the autoscalers of the same release.
func yieldToAutoscalers(objects []Object) {
	for _, scaler := range objects {
		if scaler.text("kind") != "HorizontalPodAutoscaler" {
			continue
		}
		for _, o := range objects {
			if o.text("kind") == scaler.text("spec", "scaleTargetRef", "kind") && o.ID().Name == scaler.text("spec", "scaleTargetRef", "name") &&
				o.ID().Namespace == scaler.ID().Namespace {
				o.drop("spec", "replicas")
			}
		}
	}
}

// checksum marks pod templates with what is in the ConfigMaps and Secrets that they read, so that a change to those
// rolls the pods. What is not part of the release does not count: nothing is known of it.
func checksum(objects []Object) {
	contents := map[ID]string{}
	for _, o := range objects {
		if kind := o.text("kind"); kind == "ConfigMap" || kind == "Secret" {
			text, err := json.Marshal([]any{o.at("data"), o.at("binaryData"), o.at("stringData")})
			if err != nil {
				panic(err) // it came from JSON
			}
			id := o.ID()
			contents[ID{Kind: kind, Namespace: id.Namespace, Name: id.Name}] = string(text)
		}
	}
	for _, o := range objects {
		template := o.template()
		if template == nil || o.text("kind") == "Pod" || o.text("kind") == "Job" {
			continue
		}
		sum := sha256.New()
		found := false
		for _, ref := range reads(template) {
			ref.Namespace = o.ID().Namespace
			if text, ok := contents[ref]; ok {
				found = true
				fmt.Fprintf(sum, "%s %s %d\n%s\n", ref.Kind, ref.Name, len(text), text)
			}
		}
		if found {
			template.set(hex.EncodeToString(sum.Sum(nil)), "metadata", "annotations", configAnnotation)
		}
	}
}

// reads lists the ConfigMaps and Secrets that a pod template reads, each once, in order.
func reads(template Object) []ID {
	var all []ID
	add := func(kind, name string) {
		if name != "" {
			all = append(all, ID{Kind: kind, Name: name})
		}
	}
	for _, c := range template.containers() {
		for _, from := range c.list("envFrom") {
			add("ConfigMap", from.text("configMapRef", "name"))
			add("Secret", from.text("secretRef", "name"))
		}
		for _, env := range c.list("env") {
			add("ConfigMap", env.text("valueFrom", "configMapKeyRef", "name"))
			add("Secret", env.text("valueFrom", "secretKeyRef", "name"))
		}
	}
	for _, v := range template.list("spec", "volumes") {
		add("ConfigMap", v.text("configMap", "name"))
		add("Secret", v.text("secret", "secretName"))
		for _, part := range v.list("projected", "sources") {
			add("ConfigMap", part.text("configMap", "name"))
			add("Secret", part.text("secret", "name"))
		}
	}
	slices.SortFunc(all, func(a, b ID) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return slices.Compact(all)
}

// stamp marks objects as a release's own.
func stamp(objects []Object, revision int, commit string) {
	for _, o := range objects {
		o.set(manager, "metadata", "labels", managedBy)
		o.set(strconv.Itoa(revision), "metadata", "annotations", revisionAnnotation)
		if commit != "" {
			o.set(commit, "metadata", "annotations", commitAnnotation)
		}
	}
}

// secretsApart returns the Secrets among objects, and the others.
func secretsApart(objects []Object) (secrets, others []Object) {
	for _, o := range objects {
		if o.isSecret() {
			secrets = append(secrets, o)
		} else {
			others = append(others, o)
		}
	}
	return secrets, others
}

// redacted returns a Secret whose values say no more than that there are some, and anything else as it is.
func redacted(o Object) Object {
	if !o.isSecret() {
		return o
	}
	c := o.clone()
	for _, key := range []string{"data", "stringData"} {
		for name, value := range c.object(key) {
			if _, isText := value.(string); isText {
				c.set("", key, name)
			}
		}
	}
	c.drop("metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration")
	return c
}

// digestOf returns the digest of a reference; the whole reference where it has none.
func digestOf(ref string) string {
	if _, digest, found := strings.Cut(ref, "@"); found {
		return digest
	}
	return ref
}
