package kube

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// schemaFolder is where kubeconform finds the schemas, a file a kind.
const schemaFolder = "/manifests/schemas"

// schemaLocation is the pattern by which kubeconform finds the file of a kind. To it, the group of the core kinds is v1.
const schemaLocation = schemaFolder + "/{{.Group}}/{{.ResourceAPIVersion}}/{{.ResourceKind}}.json"

func schemaFile(apiVersion, kind string) string {
	group, version, found := strings.Cut(apiVersion, "/")
	if !found {
		version = group
	}
	return path.Join(group, version, strings.ToLower(kind)+".json")
}

// openAPI is a cluster's own description of the kinds that it knows, those of custom resources included.
type openAPI struct {
	definitions map[string]any
	kinds       map[[2]string]string
}

func openAPIOf(text []byte) (openAPI, error) {
	document, err := decode(text)
	if err != nil {
		return openAPI{}, fmt.Errorf("read the cluster's OpenAPI document: %w", err)
	}
	api := openAPI{definitions: document.object("definitions"), kinds: map[[2]string]string{}}
	for name, v := range api.definitions {
		m, _ := v.(map[string]any)
		for _, gvk := range Object(m).list("x-kubernetes-group-version-kind") {
			version := gvk.text("version")
			if group := gvk.text("group"); group != "" {
				version = group + "/" + version
			}
			api.kinds[[2]string{version, gvk.text("kind")}] = name
		}
	}
	if len(api.kinds) == 0 {
		return api, fmt.Errorf("the cluster's OpenAPI document names no kinds")
	}
	return api, nil
}

// schema returns the JSON Schema of a kind, with all that it refers to, that allows no field which does not exist.
func (a openAPI) schema(id ID) (string, bool) {
	name, found := a.kinds[[2]string{id.APIVersion, id.Kind}]
	if !found {
		return "", false
	}
	definitions := map[string]any{}
	for queue := []string{name}; len(queue) > 0; queue = queue[1:] {
		next := queue[0]
		if _, done := definitions[next]; done {
			continue
		}
		definitions[next] = strict(a.definitions[next], next, func(ref string) { queue = append(queue, ref) })
	}
	text, err := json.Marshal(map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/" + name, "definitions": definitions,
	})
	if err != nil {
		panic(err) // it came from JSON
	}
	return string(text), true
}

// strict turns a part of the OpenAPI document into JSON Schema. found is told of what it refers to.
func strict(v any, name string, found func(string)) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	o := Object(m)
	if ref := o.text("$ref"); ref != "" {
		found(strings.TrimPrefix(ref, "#/definitions/"))
		return map[string]any{"$ref": ref}
	}
	switch {
	case strings.HasSuffix(name, ".resource.Quantity"), o.text("format") == "int-or-string", o.at("x-kubernetes-int-or-string") == true:
		return map[string]any{"type": []any{"string", "integer", "number"}}
	}
	out := map[string]any{}
	for _, key := range []string{"type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "required"} {
		if value, has := m[key]; has {
			out[key] = value
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if value, has := m[key]; has {
			out[key] = strict(value, "", found)
		}
	}
	properties := o.object("properties")
	if properties == nil {
		return out
	}
	converted := map[string]any{}
	for key, value := range properties {
		converted[key] = strict(value, "", found)
	}
	out["properties"] = converted
	if _, open := m["additionalProperties"]; !open && o.at("x-kubernetes-preserve-unknown-fields") != true {
		out["additionalProperties"] = false
	}
	return out
}
