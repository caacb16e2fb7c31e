package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

func runSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.RunJSONSchema()))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("run.schema.json", doc))
	schema, err := compiler.Compile("run.schema.json")
	require.NoError(t, err)
	return schema
}

func validate(t testing.TB, schema *jsonschema.Schema, data []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	return schema.Validate(doc)
}

// TestRunOfGraph runs a real graph, so that the record holds what the runner really says.
func TestRunOfGraph(t *testing.T) {
	t.Parallel()
	g := graph.New("demo")
	build := graph.Add(g, "build", func(context.Context) (outcome, error) {
		return outcome{Metrics: map[string]float64{"images": 2, "nan": math.NaN(), "inf": math.Inf(1)}, HasReports: true}, nil
	})
	broken := graph.Add(g, "broken", func(context.Context) (outcome, error) {
		return outcome{}, errors.New("the registry is down\ntry again later")
	}, graph.Needs(build))
	graph.Add(g, "crash", func(context.Context) (int, error) { panic("boom") }, graph.Needs(build))
	graph.Add(g, "deploy", func(context.Context) (int, error) { return 1, nil }, graph.Needs(broken))
	graph.Add(g, "plain", func(context.Context) (int, error) { return 1, nil })

	run := report.NewRun(g.Run(t.Context(), graph.KeepGoing()), ref, engine)
	data, err := run.Encode()
	require.NoError(t, err)
	require.NoError(t, validate(t, runSchema(t), data))

	require.Equal(t, graph.Errored, run.Verdict)
	require.Len(t, run.Nodes, 5)
	node := func(name string) report.Node {
		n, ok := run.Node(name)
		require.True(t, ok)
		return n
	}
	require.Equal(t, map[string]float64{"images": 2}, node("build").Metrics, "a metric that is no number can't be in JSON")
	require.Equal(t, "reports/build", node("build").Reports)
	require.Equal(t, "the registry is down", node("broken").Reason)
	require.Contains(t, node("broken").Error, "try again later")
	require.NotNil(t, node("broken").Started)
	require.Contains(t, node("crash").Stack, "goroutine")
	require.Equal(t, graph.Skipped, node("deploy").Verdict)
	require.Nil(t, node("deploy").Started)
	require.Zero(t, node("deploy").Attempts)
	require.Equal(t, graph.Passed, node("plain").Verdict)
	require.Empty(t, node("plain").Reports)
	_, ok := run.Node("none")
	require.False(t, ok)
}

func TestRunWithoutNodes(t *testing.T) {
	t.Parallel()
	g := graph.New("demo")
	graph.Add(g, "build", func(context.Context) (int, error) { return 1, nil })
	run := report.NewRun(g.Run(t.Context(), graph.Only("biuld")), report.Ref{}, report.Engine{})
	require.Equal(t, graph.Errored, run.Verdict)
	require.NotEmpty(t, run.Error)
	require.Equal(t, "demo", run.Causes()[0].Name)
	for name, text := range map[string]string{"text": report.Text(run, 80), "markdown": report.Markdown(run)} {
		require.Contains(t, text, "biuld", name)
	}
	data, err := report.Run{Schema: report.RunSchema, Graph: "none", Verdict: graph.Skipped}.Encode()
	require.NoError(t, err)
	require.NoError(t, validate(t, runSchema(t), data))
}

func randomText(r *rand.Rand) string {
	alphabet := []rune("ab Z/.\\\"'<>&|`*@#\n\r\t\x00\x1bé漢\u202e\uFFFD💥")
	var b strings.Builder
	for range r.IntN(12) {
		b.WriteRune(alphabet[r.IntN(len(alphabet))])
	}
	if r.IntN(8) == 0 {
		b.WriteString("\xff\xfe")
	}
	return b.String()
}

func randomResult(r *rand.Rand) *graph.Result {
	verdicts := []graph.Verdict{graph.Passed, graph.Skipped, graph.Inconclusive, graph.Cancelled, graph.Failed, graph.Errored}
	texts := func() map[string]string {
		m := map[string]string{}
		for range r.IntN(3) {
			m[randomText(r)] = randomText(r)
		}
		return m
	}
	result := &graph.Result{
		Graph: randomText(r), Verdict: verdicts[r.IntN(len(verdicts))],
		Started: began.Add(time.Duration(r.Int64N(int64(time.Hour)))), Duration: time.Duration(r.Int64N(int64(time.Hour))),
	}
	for i := range r.IntN(7) {
		n := graph.Record{
			Name: string(rune('a'+i)) + randomText(r), Verdict: verdicts[r.IntN(len(verdicts))], Reason: randomText(r), Stack: randomText(r),
		}
		if r.IntN(2) == 0 {
			n.Started = result.Started.Add(time.Duration(r.Int64N(int64(time.Hour))))
			n.Duration = time.Duration(r.Int64N(int64(time.Hour)))
			n.Attempts = 1 + r.IntN(3)
		}
		if r.IntN(3) == 0 {
			n.Err = errors.New(randomText(r))
		}
		if r.IntN(3) > 0 {
			o := outcome{Tools: texts(), Output: randomText(r), HasReports: r.IntN(2) == 0, Metrics: map[string]float64{}}
			for name := range texts() {
				o.Metrics[name] = r.NormFloat64() * 1e6
			}
			for range r.IntN(4) {
				o.Artifacts = append(o.Artifacts, report.Artifact{Name: randomText(r), Reference: randomText(r), Digest: randomText(r)})
				o.Findings = append(o.Findings, report.Finding{
					Tool: randomText(r), Rule: randomText(r), Severity: report.Severities[r.IntN(5)], File: randomText(r),
					Line: r.IntN(100), Column: r.IntN(100), Message: randomText(r), URL: randomText(r),
				})
			}
			n.Value = o
		}
		result.Nodes = append(result.Nodes, n)
	}
	return result
}

// TestEveryRecordIsValid checks that whatever a run holds, its record satisfies the schema and survives being read again,
// and that every form of report can be made of it.
func TestEveryRecordIsValid(t *testing.T) {
	t.Parallel()
	schema := runSchema(t)
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		run := report.NewRun(randomResult(r), report.Ref{Event: randomText(r), Branch: randomText(r), PullRequest: r.IntN(2), SHA: randomText(r), URL: randomText(r)},
			report.Engine{Kind: randomText(r), Version: randomText(r)})
		data, err := run.Encode()
		require.NoError(t, err, "seed %d", seed)
		require.NoError(t, validate(t, schema, data), "seed %d: %s", seed, data)

		decoded, err := report.DecodeRun(data)
		require.NoError(t, err, "seed %d: %s", seed, data)
		again, err := decoded.Encode()
		require.NoError(t, err)
		require.JSONEq(t, string(data), string(again), "seed %d", seed)

		checkText(t, run)
		checkMarkdown(t, run)
		checkHTML(t, run)
		checkJUnit(t, run)
		checkSARIF(t, run)
	}
}

// TestSchemaRefuses changes one thing in a good record at a time.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	good, err := failedRun().Encode()
	require.NoError(t, err)
	schema := runSchema(t)
	require.NoError(t, validate(t, schema, good))

	node := func(doc map[string]any) map[string]any { return doc["nodes"].([]any)[2].(map[string]any) }
	cases := map[string]func(doc map[string]any){
		"another schema":          func(d map[string]any) { d["schema"] = "millrace/run/v2" },
		"unknown verdict":         func(d map[string]any) { d["verdict"] = "green" },
		"verdict of wrong type":   func(d map[string]any) { d["verdict"] = 1 },
		"negative time":           func(d map[string]any) { d["seconds"] = -1 },
		"time as text":            func(d map[string]any) { d["seconds"] = "65s" },
		"started is no time":      func(d map[string]any) { d["started"] = "today" },
		"nodes are no list":       func(d map[string]any) { d["nodes"] = map[string]any{} },
		"null nodes":              func(d map[string]any) { d["nodes"] = nil },
		"ref is no object":        func(d map[string]any) { d["ref"] = "main" },
		"pull request as text":    func(d map[string]any) { d["ref"].(map[string]any)["pullRequest"] = "12" },
		"node without a name":     func(d map[string]any) { node(d)["name"] = "" },
		"node's unknown verdict":  func(d map[string]any) { node(d)["verdict"] = "" },
		"reason of several lines": func(d map[string]any) { node(d)["reason"] = "a\nb" },
		"half an attempt":         func(d map[string]any) { node(d)["attempts"] = 1.5 },
		"findings as a list":      func(d map[string]any) { node(d)["findings"] = []any{} },
		"metric as text":          func(d map[string]any) { node(d)["metrics"] = map[string]any{"tests": "43"} },
		"null metrics":            func(d map[string]any) { node(d)["metrics"] = nil },
		"reports elsewhere":       func(d map[string]any) { node(d)["reports"] = "/etc" },
		"reports outside":         func(d map[string]any) { node(d)["reports"] = "reports/../../etc" },
		"nameless artifact":       func(d map[string]any) { node(d)["artifacts"] = []any{map[string]any{"digest": "sha256:00"}} },
		"tool without version":    func(d map[string]any) { node(d)["tools"] = map[string]any{"black": nil} },
	}
	for _, key := range []string{"schema", "graph", "verdict", "started", "seconds", "ref", "engine", "nodes"} {
		cases["no "+key] = func(d map[string]any) { delete(d, key) }
	}
	for _, key := range []string{"name", "verdict", "reason", "started", "seconds", "attempts", "metrics", "findings", "reports"} {
		cases["node without "+key] = func(d map[string]any) { delete(node(d), key) }
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var doc map[string]any
			require.NoError(t, json.Unmarshal(good, &doc))
			change(doc)
			require.Error(t, schema.Validate(doc))
		})
	}
}

// TestSchemaNamesEveryField compares the schema's properties with the fields of the types, both ways.
func TestSchemaNamesEveryField(t *testing.T) {
	t.Parallel()
	var doc map[string]any
	require.NoError(t, json.Unmarshal(report.RunJSONSchema(), &doc))
	defs := doc["$defs"].(map[string]any)
	node := defs["node"].(map[string]any)
	artifact := node["properties"].(map[string]any)["artifacts"].(map[string]any)["items"].(map[string]any)
	for _, c := range []struct {
		of     any
		schema map[string]any
	}{{report.Run{}, doc}, {report.Ref{}, defs["ref"].(map[string]any)}, {report.Engine{}, defs["engine"].(map[string]any)}, {report.Node{}, node}, {report.Artifact{}, artifact}} {
		var fields, properties []string
		for f := range reflect.TypeOf(c.of).NumField() {
			if name, _, _ := strings.Cut(reflect.TypeOf(c.of).Field(f).Tag.Get("json"), ","); name != "-" {
				fields = append(fields, name)
			}
		}
		for name := range c.schema["properties"].(map[string]any) {
			properties = append(properties, name)
		}
		require.ElementsMatch(t, fields, properties, "%T", c.of)
	}
}

func TestDecodeRunRefuses(t *testing.T) {
	t.Parallel()
	good, err := passedRun().Encode()
	require.NoError(t, err)
	for name, c := range map[string]struct{ data, want string }{
		"empty":          {"", "empty"},
		"truncated":      {string(good[:len(good)/2]), "ends in the middle"},
		"no JSON":        {"<html>", "invalid character"},
		"a list":         {"[]", "cannot unmarshal"},
		"another schema": {strings.Replace(string(good), "run/v1", "run/v9", 1), `"millrace/run/v9"`},
		"wrong verdict":  {strings.Replace(string(good), `"passed"`, `"green"`, 1), `unknown verdict "green"`},
		"no verdict":     {`{"schema":"millrace/run/v1","nodes":[]}`, "no verdict"},
		"no nodes":       {`{"schema":"millrace/run/v1","verdict":"passed"}`, "no nodes"},
		"nameless node":  {`{"schema":"millrace/run/v1","verdict":"passed","nodes":[{"verdict":"passed"}]}`, "node 0"},
		"two records":    {string(good) + string(good), "more in the file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := report.DecodeRun([]byte(c.data))
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err = report.DecodeRun([]byte(strings.Replace(string(good), `"graph"`, `"new": {"field": 1}, "graph"`, 1)))
	require.NoError(t, err, "a field that a later version adds is passed over")
}

func TestEncodeRefusesWhatJSONCannotHold(t *testing.T) {
	t.Parallel()
	run := passedRun()
	run.Nodes[0].Metrics["ratio"] = math.NaN()
	_, err := run.Encode()
	require.ErrorContains(t, err, "encode run record")
}

func TestReportsPath(t *testing.T) {
	t.Parallel()
	require.Equal(t, "reports/lint", report.ReportsPath("lint"))
	require.Equal(t, "reports/deploy-staging_2", report.ReportsPath("deploy-staging_2"))
	names := []string{
		"", ".", "..", "../etc", "/etc/passwd", "a/b", "a_b", "a b", "A", "a", "é", "è", "lint", "Lint", "a\x00b", `a\b`, "con.x",
		strings.Repeat("x", 300), strings.Repeat("x", 301), strings.Repeat("漢", 100),
	}
	seen := map[string]string{}
	for _, name := range names {
		got := report.ReportsPath(name)
		require.Regexp(t, `^reports/[a-z0-9_.-]+$`, got)
		require.Equal(t, "reports", path.Dir(path.Clean(got)), "%q must not lead elsewhere", name)
		require.Less(t, len(got), 120)
		require.NotContains(t, seen, got, "%q shares its folder with %q", name, seen[got])
		seen[got] = name
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	var names []string
	for _, n := range failedRun().Causes() {
		names = append(names, n.Name)
	}
	// build ended before test, although test stands first and started with it; what is inconclusive comes last.
	require.Equal(t, []string{"build", "test", "load"}, names)
	require.Empty(t, passedRun().Causes())
}

func TestRefString(t *testing.T) {
	t.Parallel()
	for want, ref := range map[string]report.Ref{
		"":                                    {},
		"push to main at 4f1c2d3 by Ada":      {Event: "push", Branch: "main", SHA: "4f1c2d3e5a6b", Author: "Ada"},
		"pull request 12 from fix at abc":     {Event: "pull_request", PullRequest: 12, Branch: "fix", SHA: "abc"},
		"tag v1.2.0":                          {Event: "tag", Tag: "v1.2.0", Branch: "main"},
		"schedule run on main":                {Event: "schedule", Branch: "main"},
		"push at 4f1c2d3":                     {Event: "push", SHA: "4f1c2d3e5a6b"},
		"on main":                             {Branch: "main"},
		"manual run on a\uFFFDb by Ada \"x\"": {Event: "manual", Branch: "a\u202eb\nc", Author: "Ada \"x\""},
	} {
		require.Equal(t, want, ref.String())
	}
}

func TestPinned(t *testing.T) {
	t.Parallel()
	require.Equal(t, "r/api:main@sha256:00", report.Artifact{Reference: "r/api:main", Digest: "sha256:00"}.Pinned())
	require.Equal(t, "r/api@sha256:00", report.Artifact{Reference: "r/api@sha256:00", Digest: "sha256:00"}.Pinned())
	require.Equal(t, "sha256:00", report.Artifact{Digest: "sha256:00"}.Pinned())
	require.Equal(t, "r/api", report.Artifact{Reference: "r/api"}.Pinned())
}
