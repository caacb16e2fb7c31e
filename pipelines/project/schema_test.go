package project_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

var update = flag.Bool("update", false, "write millrace.schema.json anew from the Go types")

// schemaOf generates the schema of millrace.yaml from the Go types and their doc comments.
func schemaOf(t *testing.T) []byte {
	t.Helper()
	r := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		DoNotReference:             true,
		Anonymous:                  true,
		Mapper: func(typ reflect.Type) *jsonschema.Schema {
			switch typ {
			case reflect.TypeFor[project.Date]():
				return &jsonschema.Schema{Type: "string", Format: "date", Pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`}
			case reflect.TypeFor[time.Duration]():
				return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
			}
			return nil
		},
	}
	require.NoError(t, r.AddGoComments("github.com/millrace-ci/millrace/pipelines/project", "./"))
	schema := r.Reflect(&project.Project{})
	schema.Title = "millrace.yaml"
	data, err := json.MarshalIndent(schema, "", "  ")
	require.NoError(t, err)
	return append(data, '\n')
}

func TestSchemaIsTheTypes(t *testing.T) {
	want := schemaOf(t)
	if *update {
		require.NoError(t, os.WriteFile("millrace.schema.json", want, 0o644))
		return
	}
	require.Equal(t, string(want), string(project.Schema), "the types have changed: run go test ./pipelines/project -run TestSchemaIsTheTypes -update")
}

func compiledSchema(t *testing.T) *validator.Schema {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(project.Schema))
	require.NoError(t, err)
	c := validator.NewCompiler()
	c.AssertFormat()
	require.NoError(t, c.AddResource("millrace.schema.json", doc))
	schema, err := c.Compile("millrace.schema.json")
	require.NoError(t, err)
	return schema
}

// validate checks YAML as an editor would.
func validate(t *testing.T, schema *validator.Schema, text []byte) error {
	t.Helper()
	data, err := yaml.YAMLToJSON(text)
	require.NoError(t, err)
	value, err := validator.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	return schema.Validate(value)
}
