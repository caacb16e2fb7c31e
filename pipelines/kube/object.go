package kube

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Object is a Kubernetes object as its JSON form says it.
type Object map[string]any

// ID names an object within one cluster.
type ID struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// String is the form that kubectl takes and prints, without the namespace: deployment/api.
func (i ID) String() string { return strings.ToLower(i.Kind) + "/" + i.Name }

// resource is the form that names the API group too, for kinds that several groups have.
func (i ID) resource() string {
	group, _, found := strings.Cut(i.APIVersion, "/")
	if !found {
		return strings.ToLower(i.Kind)
	}
	return strings.ToLower(i.Kind) + "." + strings.TrimPrefix(i.APIVersion, group+"/") + "." + group
}

// ID returns what o is called.
func (o Object) ID() ID {
	return ID{APIVersion: o.text("apiVersion"), Kind: o.text("kind"), Namespace: o.text("metadata", "namespace"), Name: o.text("metadata", "name")}
}

// at returns what lies at a path of keys; nil if there is nothing.
func (o Object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func (o Object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func (o Object) number(path ...string) int {
	switch n := o.at(path...).(type) {
	case json.Number:
		i, err := n.Int64()
		if err != nil {
			return 0
		}
		return int(i)
	case int:
		return n
	case float64:
		return int(n)
	}
	return 0
}

func (o Object) object(path ...string) Object {
	m, _ := o.at(path...).(map[string]any)
	return m
}

// list returns the objects of a list; what is none is left out.
func (o Object) list(path ...string) []Object {
	items, _ := o.at(path...).([]any)
	var all []Object
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// set puts a value at a path, and makes the maps on the way.
func (o Object) set(value any, path ...string) {
	m := map[string]any(o)
	for _, key := range path[:len(path)-1] {
		next, ok := m[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[key] = next
		}
		m = next
	}
	m[path[len(path)-1]] = value
}

// drop removes what lies at a path.
func (o Object) drop(path ...string) {
	if m := o.object(path[:len(path)-1]...); m != nil {
		delete(m, path[len(path)-1])
	}
}

// clone returns a copy that shares nothing with o.
func (o Object) clone() Object {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // o came from JSON
	}
	copied, err := decode(text)
	if err != nil {
		panic(err)
	}
	return copied
}

func (o Object) isSecret() bool { return o.text("kind") == "Secret" && o.text("apiVersion") == "v1" }

// decode reads one JSON object; numbers stay as they are written.
func decode(text []byte) (Object, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var o Object
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	return o, nil
}

// encode puts objects into one list, in one line: the form that kubectl reads fastest.
func encode(objects []Object) string {
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		panic(err) // objects came from JSON
	}
	return string(text)
}

// items returns the objects of a list, or the one object that it is instead.
func items(text string) ([]Object, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	o, err := decode([]byte(text))
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(o.text("kind"), "List") {
		return o.list("items"), nil
	}
	return []Object{o}, nil
}

// source is where an object was written.
type source struct {
	file string
	// document counts from 1.
	document int
}

func (s source) String() string {
	if s.document <= 1 {
		return s.file
	}
	return fmt.Sprintf("%s, document %d", s.file, s.document)
}

var separator = regexp.MustCompile(`(?m)^---(?:[ \t].*)?$`)

// ManifestError is a manifest that can't be used as it is written.
type ManifestError struct {
	// File is where it stands.
	File string
	// Problem says what is wrong, and what to do.
	Problem string
}

func (e *ManifestError) Error() string { return e.File + ": " + e.Problem }

// parse reads the documents of a YAML or JSON file as kubectl does; lists are taken apart.
func parse(file, text string) ([]Object, error) {
	var all []Object
	for i, document := range separator.Split(text, -1) {
		at := source{file, i + 1}
		raw, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			first, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), "\n")
			return nil, &ManifestError{at.String(), "it is no YAML: " + first}
		}
		if string(raw) == "null" {
			continue
		}
		o, err := decode(raw)
		if err != nil {
			return nil, &ManifestError{at.String(), "it holds no keys and values, as a manifest does"}
		}
		inner := []Object{o}
		if strings.HasSuffix(o.text("kind"), "List") && o.at("items") != nil {
			inner = o.list("items")
		}
		for _, o := range inner {
			for _, need := range [][]string{{"apiVersion"}, {"kind"}, {"metadata", "name"}} {
				if o.text(need...) == "" {
					return nil, &ManifestError{at.String(), fmt.Sprintf("%s is missing", strings.Join(need, "."))}
				}
			}
			all = append(all, o)
		}
	}
	return all, nil
}

// clusterScoped are the kinds that lie in no namespace.
var clusterScoped = []string{
	"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PersistentVolume", "StorageClass",
	"PriorityClass", "IngressClass", "GatewayClass", "RuntimeClass", "APIService", "Node", "CSIDriver", "CSINode", "VolumeAttachment",
	"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
	"ClusterIssuer", "FlowSchema", "PriorityLevelConfiguration",
}

// order is the place of a kind in an apply: what others refer to comes first, what starts pods last.
func order(kind string) int {
	ranks := [][]string{
		{"Namespace", "CustomResourceDefinition", "PriorityClass", "StorageClass", "IngressClass", "RuntimeClass"},
		{"ResourceQuota", "LimitRange", "NetworkPolicy", "PodDisruptionBudget"},
		{"ServiceAccount", "Role", "ClusterRole"},
		{"RoleBinding", "ClusterRoleBinding"},
		{"Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim"},
		{"Service"},
	}
	for i, kinds := range ranks {
		if slices.Contains(kinds, kind) {
			return i
		}
	}
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job", "CronJob":
		return len(ranks) + 1
	case "HorizontalPodAutoscaler", "Ingress", "HTTPRoute", "APIService", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration":
		return len(ranks) + 2
	}
	return len(ranks)
}

func sortObjects(all []Object) {
	slices.SortStableFunc(all, func(a, b Object) int {
		x, y := a.ID(), b.ID()
		return cmp.Or(order(x.Kind)-order(y.Kind), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
}

// template returns the pod template of a workload, and nil for what is none.
func (o Object) template() Object {
	switch o.text("kind") {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job":
		return o.object("spec", "template")
	case "CronJob":
		return o.object("spec", "jobTemplate", "spec", "template")
	case "Pod":
		return o
	}
	return nil
}

// containers returns the containers of a pod template, those that run before the others first.
func (o Object) containers() []Object {
	return slices.Concat(o.list("spec", "initContainers"), o.list("spec", "containers"))
}

// waitsFor reports whether a release is only up when this object is.
func (o Object) waitsFor() bool {
	switch o.text("kind") {
	case "Deployment", "StatefulSet", "DaemonSet":
		return true
	case "Job":
		return o.at("spec", "suspend") != true
	}
	return false
}

// serverOwned are what the server writes into an object.
var serverOwned = [][]string{
	{"status"}, {"metadata", "uid"}, {"metadata", "resourceVersion"}, {"metadata", "generation"}, {"metadata", "creationTimestamp"},
	{"metadata", "managedFields"}, {"metadata", "selfLink"}, {"metadata", "deletionTimestamp"}, {"metadata", "deletionGracePeriodSeconds"},
	{"metadata", "annotations", "deployment.kubernetes.io/revision"},
	{"metadata", "annotations", "deprecated.daemonset.template.generation"},
	{"metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"},
}

// cleaned returns o without what the server and its controllers write, so that it can be applied again.
func (o Object) cleaned() Object {
	c := o.clone()
	for _, path := range serverOwned {
		c.drop(path...)
	}
	if m := c.object("metadata", "annotations"); m != nil && len(m) == 0 {
		c.drop("metadata", "annotations")
	}
	if c.text("kind") == "Service" {
		for _, key := range []string{"clusterIP", "clusterIPs", "healthCheckNodePort"} {
			if key != "healthCheckNodePort" && c.text("spec", "clusterIP") == "None" {
				continue // a headless Service says so itself
			}
			c.drop("spec", key)
		}
	}
	return c
}
