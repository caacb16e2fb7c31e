package kube

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComplaints(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{
		"spec.template.spec.containers.0: additional properties 'readynessProbe' not allowed",
		"spec.replicas: got string, want integer",
	}, complaints(`problem validating schema. Check JSON formatting: jsonschema validation failed with 'file:///manifests/schemas/apps/v1/deployment.json#' - at '': validation failed   - at '/spec': validation failed     - at '/spec/template/spec/containers/0': additional properties 'readynessProbe' not allowed     - at '/spec/replicas': got string, want integer`))
	require.Equal(t, []string{"could not find schema for X"}, complaints("could not find schema for X"))
	require.Equal(t, []string{"missing property 'spec'"}, complaints(`jsonschema validation failed with 'x#' - at '': missing property 'spec'`))
	require.Empty(t, complaints(""))
}

func TestSchemaOfAKind(t *testing.T) {
	t.Parallel()
	api, err := openAPIOf([]byte(`{"definitions": {
		"io.k8s.api.apps.v1.Deployment": {"type": "object", "description": "long",
			"x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}],
			"properties": {"spec": {"$ref": "#/definitions/Spec", "description": "x"}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}}}},
		"Spec": {"type": "object", "required": ["port"], "properties": {
			"port": {"type": "string", "format": "int-or-string"}, "self": {"$ref": "#/definitions/Spec"},
			"limits": {"type": "object", "additionalProperties": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"}}}},
		"io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
		"Unrelated": {"type": "object"}
	}}`))
	require.NoError(t, err)
	_, known := api.schema(ID{APIVersion: "apps/v1", Kind: "Unicorn"})
	require.False(t, known)
	text, known := api.schema(ID{APIVersion: "apps/v1", Kind: "Deployment"})
	require.True(t, known)
	require.Equal(t, "apps/v1/deployment.json", schemaFile("apps/v1", "Deployment"))
	require.Equal(t, "v1/v1/service.json", schemaFile("v1", "Service"))
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &got))
	require.Equal(t, map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/io.k8s.api.apps.v1.Deployment",
		"definitions": map[string]any{
			"io.k8s.api.apps.v1.Deployment": map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{
				"spec": map[string]any{"$ref": "#/definitions/Spec"},
				"free": map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"type": "string"}}},
			}},
			"Spec": map[string]any{"type": "object", "additionalProperties": false, "required": []any{"port"}, "properties": map[string]any{
				"port": map[string]any{"type": []any{"string", "integer", "number"}}, "self": map[string]any{"$ref": "#/definitions/Spec"},
				"limits": map[string]any{"type": "object", "additionalProperties": map[string]any{"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"}},
			}},
			"io.k8s.apimachinery.pkg.api.resource.Quantity": map[string]any{"type": []any{"string", "integer", "number"}},
		},
	}, got)
	require.Equal(t, map[string]any{"a": []any{map[string]any{}}}, withoutNulls(map[string]any{"a": []any{map[string]any{"b": nil}}, "c": nil}))
}
