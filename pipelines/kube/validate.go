package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// fetchSchemas asks the cluster for what it knows.
const fetchSchemas = `kubectl get --raw /openapi/v2`

// validate checks objects with kubeconform against what the cluster knows, without asking it: a mistake is found before
// anything is changed, with the file it is in.
func validate(ctx context.Context, c *dagger.Client, s *shell, r rendered) ([]report.Finding, error) {
	got, err := s.must(ctx, fetchSchemas, "")
	if err != nil {
		return nil, err
	}
	api, err := openAPIOf([]byte(got.out))
	if err != nil {
		return nil, err
	}
	var findings []report.Finding
	tools := c.Container().From(image.KubeTools)
	written := map[string]bool{}
	files := map[string]Object{}
	for i, o := range r.objects {
		id := o.ID()
		schema, known := api.schema(id)
		switch {
		case known:
		case defines(r.objects, id):
			continue // it is of a kind that this very release brings
		default:
			findings = append(findings, finding(r, o, "unknown-kind", fmt.Sprintf("the cluster knows no kind %s of %s: install what brings it, or correct kind and apiVersion", id.Kind, id.APIVersion)))
			continue
		}
		if file := schemaFile(id.APIVersion, id.Kind); !written[file] {
			written[file] = true
			tools = tools.WithNewFile(schemaFolder+"/"+file, schema)
		}
		text, err := json.Marshal(withoutNulls(map[string]any(redacted(o))))
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", id, err)
		}
		name := fmt.Sprintf("/manifests/objects/%d.json", i)
		tools = tools.WithNewFile(name, string(text))
		files[name] = o
	}
	if len(files) == 0 {
		return findings, nil
	}
	run, err := step.Exec(ctx, tools, "/manifests/log", "kubeconform",
		[]string{"kubeconform", "-strict", "-output", "json", "-schema-location", schemaLocation, "/manifests/objects"})
	if err != nil {
		return nil, err
	}
	out, err := run.Stdout(ctx)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Resources []struct {
			Filename string `json:"filename"`
			Msg      string `json:"msg"`
		} `json:"resources"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		said, _ := run.Stderr(ctx)
		return nil, fmt.Errorf("read what kubeconform found: %w\n%s", err, said)
	}
	for _, resource := range answer.Resources {
		o := files[resource.Filename]
		if o == nil {
			continue
		}
		for _, message := range complaints(resource.Msg) {
			findings = append(findings, finding(r, o, "invalid", message))
		}
	}
	return findings, nil
}

// complaint matches what kubeconform says of one place of an object. Of the places above it, it only says that validation failed.
var complaint = regexp.MustCompile(`at '([^']*)': (.*?)(?: +- at '|$)`)

// complaints takes kubeconform's message apart, into what is wrong at each place.
func complaints(message string) []string {
	var all []string
	for rest := message; ; {
		m := complaint.FindStringSubmatchIndex(rest)
		if m == nil {
			break
		}
		at, what := strings.Trim(strings.ReplaceAll(rest[m[2]:m[3]], "/", "."), "."), rest[m[4]:m[5]]
		if what != "validation failed" && !strings.HasPrefix(what, "validation failed with") && what != "" {
			if at != "" {
				what = at + ": " + what
			}
			all = append(all, what)
		}
		rest = rest[m[5]:]
	}
	if len(all) == 0 && message != "" {
		all = []string{firstSentence(message)}
	}
	return all
}

// withoutNulls leaves out null fields, which the server takes for fields that are not there.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for key, value := range v {
			if value != nil {
				kept[key] = withoutNulls(value)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i, value := range v {
			kept[i] = withoutNulls(value)
		}
		return kept
	}
	return v
}

func finding(r rendered, o Object, rule, message string) report.Finding {
	id := o.ID()
	file, _, _ := strings.Cut(r.from[id], ", ")
	return report.Finding{Tool: "kubeconform", Rule: rule, Severity: report.High, File: file, Message: fmt.Sprintf("%s: %s", id, message)}
}

func firstSentence(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return first
}

// defines reports whether a release brings the kind of an object along.
func defines(objects []Object, id ID) bool {
	group, _, _ := strings.Cut(id.APIVersion, "/")
	return slices.ContainsFunc(objects, func(o Object) bool {
		return o.text("kind") == "CustomResourceDefinition" && o.text("spec", "group") == group && o.text("spec", "names", "kind") == id.Kind
	})
}
