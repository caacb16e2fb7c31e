package notify_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/notify"
	"github.com/millrace-ci/millrace/pipelines/notify/notifytest"
	"github.com/millrace-ci/millrace/pipelines/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to write it")
	require.Equal(t, string(want), string(got), "run the test with -update, and look at the difference")
}

var began = time.Date(2026, 3, 14, 3, 9, 26, 0, time.UTC)

func node(name string, verdict graph.Verdict, reason string) report.Node {
	n := report.Node{Name: name, Verdict: verdict, Reason: reason, Seconds: 10}
	if verdict != graph.Skipped {
		started := began
		n.Started = &started
	}
	return n
}

func run(name string, verdict graph.Verdict, nodes ...report.Node) report.Run {
	return report.Run{
		Schema: report.RunSchema, Graph: name, Verdict: verdict, Started: began, Seconds: 185,
		Ref: report.Ref{
			Event: "push", Branch: "main", SHA: "4f1c2d3e5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d", Repository: "acme/shop",
			Author: "Ada Lovelace", URL: "https://ci.example.com/runs/77?a=1&b=2",
		},
		Nodes: nodes,
	}
}

func failed() report.Run {
	test := node("test", graph.Failed, "3 of 40 tests failed")
	test.Details = []report.Finding{
		{Tool: "pytest", Rule: "pytest", Severity: report.High, File: "tests/test_api.py", Line: 12, Message: "assert 503 == 200"},
		{Tool: "pytest", Rule: "pytest", Severity: report.High, File: "tests/test_api.py", Line: 31, Message: "KeyError: 'churn'"},
	}
	return run("ci-cd", graph.Failed, node("lint", graph.Passed, ""), test, node("publish", graph.Skipped, "test failed"))
}

func deployed() report.Run {
	publish := node("publish", graph.Passed, "")
	publish.Artifacts = []report.Artifact{{Name: "api", Reference: "ghcr.io/acme/api:main", Digest: "sha256:" + strings.Repeat("a1", 32)}}
	return run("ci-cd", graph.Passed, publish, node("deploy-staging", graph.Skipped, "only on develop"), node("deploy-production", graph.Passed, ""))
}

func rolledBack() report.Run {
	smoke := node("smoke", graph.Failed, "GET /health answered 503; rolled back to revision 7, which serves")
	smoke.Output = "GET http://api/health\n503 Service Unavailable\n"
	return run("ci-cd", graph.Failed, node("deploy-production", graph.Passed, ""), smoke)
}

func drifted() report.Run {
	detect := node("alerts", graph.Passed, "")
	detect.Details = []report.Finding{
		{Tool: "drift", Rule: "psi", Severity: report.Medium, Message: "tenure: PSI 0.12"},
		{Tool: "drift", Rule: "psi", Severity: report.Critical, Message: "monthly_charges: PSI 0.41 since 3 runs"},
	}
	return run("drift", graph.Passed, detect)
}

func trained() report.Run {
	register := node("register", graph.Passed, "")
	register.Artifacts = []report.Artifact{{Name: "churn", Reference: "s3://models/churn/2026-03-14", Digest: "sha256:" + strings.Repeat("c3", 32)}}
	return run("training", graph.Failed, register, node("gate-clv", graph.Failed, "MAE 31.2 is above 30, and the champion's is 29.8: the champion stays"))
}

// hostile is a run that a tool and an author have filled with all that may break a message.
func hostile() report.Run {
	const evil = "<!channel> *b* & <https://evil.example|click> ```` \x1b[31mred\x00 \xff 👩‍👩‍👧‍👦\nSubject: x"
	test := node("te<st>", graph.Errored, strings.Repeat(evil, 50))
	test.Output = strings.Repeat("``` <@U123> & "+strings.Repeat("👨‍👩‍👦é", 40)+"\n", 500)
	r := run("ci-cd", graph.Errored, test, test, test, test)
	for range 30 {
		test.Artifacts = append(test.Artifacts, report.Artifact{Name: evil, Reference: strings.Repeat("&<>", 2000)})
	}
	r.Nodes = append(r.Nodes, test)
	r.Ref.Author, r.Ref.Repository, r.Ref.Branch = evil+strings.Repeat("é", 3000), strings.Repeat("&", 3000), "main\r\nBcc: eve@example.com"
	r.Ref.URL = `https://ci.example.com/"><script>|a>?x=<!here>`
	return r
}

func runs() map[string]report.Run {
	return map[string]report.Run{
		"failed": failed(), "deployed": deployed(), "rolled-back": rolledBack(), "drifted": drifted(), "trained": trained(), "hostile": hostile(),
		"nothing-known": {Graph: "ci-cd", Verdict: graph.Errored, Error: "the engine is gone"},
	}
}

func TestMessages(t *testing.T) {
	schema := messageSchema(t)
	for name, r := range runs() {
		t.Run(name, func(t *testing.T) {
			m := notify.Of(r)
			slack, err := notify.Slack{}.Payload(m)
			require.NoError(t, err)
			require.Empty(t, notifytest.CheckSlack(slack))
			var indented bytes.Buffer
			require.NoError(t, json.Indent(&indented, slack, "", "  "))
			golden(t, name+".slack.json", indented.Bytes())

			hook, err := notify.Webhook{}.Payload(m)
			require.NoError(t, err)
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(hook))
			require.NoError(t, err)
			require.NoError(t, schema.Validate(doc))
			indented.Reset()
			require.NoError(t, json.Indent(&indented, hook, "", "  "))
			golden(t, name+".json", indented.Bytes())

			page, err := m.HTML()
			require.NoError(t, err)
			require.NotContains(t, page, "<script>")
			golden(t, name+".html", []byte(page))
			golden(t, name+".txt", []byte(m.Text()))
		})
	}
}

func messageSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(notify.MessageJSONSchema()))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("message.schema.json", doc))
	schema, err := compiler.Compile("message.schema.json")
	require.NoError(t, err)
	return schema
}

func TestNews(t *testing.T) {
	t.Parallel()
	passed := run("ci-cd", graph.Passed, node("lint", graph.Passed, ""))
	for name, c := range map[string]struct {
		m      notify.Message
		title  string
		where  string
		events []notify.Event
	}{
		"failed":      {notify.Of(failed()), "ci-cd failed: acme/shop, main", "", []notify.Event{notify.Failure}},
		"passed":      {notify.Of(passed), "ci-cd passed: acme/shop, main", "", []notify.Event{notify.Success}},
		"deployed":    {notify.Of(deployed()), "deployed to production: acme/shop, main", "production", []notify.Event{notify.Success, notify.Deploy}},
		"rolled back": {notify.Of(rolledBack()), "deploy to production failed: acme/shop, main", "production", []notify.Event{notify.Failure, notify.Deploy}},
		"drifted":     {notify.Of(drifted()), "critical drift: acme/shop, main", "", []notify.Event{notify.Success, notify.Drift}},
		"trained":     {notify.Of(trained()), "training failed: acme/shop, main", "", []notify.Event{notify.Failure, notify.Training}},
		"recovered":   {notify.Of(passed).After(failed()), "ci-cd passes again: acme/shop, main", "", []notify.Event{notify.Success, notify.Recovered}},
		"passed on":   {notify.Of(passed).After(passed), "ci-cd passed: acme/shop, main", "", []notify.Event{notify.Success}},
		"other graph": {notify.Of(passed).After(trained()), "ci-cd passed: acme/shop, main", "", []notify.Event{notify.Success}},
		"interrupted": {notify.Of(run("ci-cd", graph.Cancelled)), "ci-cd cancelled: acme/shop, main", "", nil},
		"a test":      {notify.Try(passed.Ref, began), "this is a test: acme/shop, main", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.title, c.m.Title)
			require.Equal(t, c.where, c.m.Where)
			require.Equal(t, c.events, c.m.Events)
		})
	}
}

func TestOfIsPure(t *testing.T) {
	t.Parallel()
	for name, r := range runs() {
		require.Equal(t, notify.Of(r), notify.Of(r), name)
	}
	other := failed()
	other.Started = began.Add(time.Second)
	require.NotEqual(t, notify.Of(failed()).ID, notify.Of(other).ID)
}

func TestWants(t *testing.T) {
	t.Parallel()
	usual := []notify.Event{notify.Failure, notify.Deploy}
	staged := deployed()
	staged.Nodes[1], staged.Nodes[2] = node("deploy-staging", graph.Passed, ""), node("deploy-production", graph.Skipped, "")
	for name, c := range map[string]struct {
		target notify.Target
		run    report.Run
		want   bool
	}{
		"a failure":                        {notify.Target{On: usual}, failed(), true},
		"a success that nobody asked for":  {notify.Target{On: usual}, run("ci-cd", graph.Passed), false},
		"a success":                        {notify.Target{On: []notify.Event{notify.Success}}, run("ci-cd", graph.Passed), true},
		"a deploy":                         {notify.Target{On: usual}, deployed(), true},
		"a deploy elsewhere":               {notify.Target{On: usual, Environments: []string{"production"}}, staged, false},
		"a deploy there":                   {notify.Target{On: usual, Environments: []string{"production"}}, deployed(), true},
		"a failure, whatever environments": {notify.Target{On: usual, Environments: []string{"production"}}, failed(), true},
		"another branch":                   {notify.Target{On: usual, Branches: []string{"develop"}}, failed(), false},
		"the branch":                       {notify.Target{On: usual, Branches: []string{"develop", "main"}}, failed(), true},
		"interrupted":                      {notify.Target{On: notify.Events}, run("ci-cd", graph.Cancelled), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, c.target.Wants(notify.Of(c.run)))
		})
	}
}

// FuzzSlack looks for texts that make a message which Slack would refuse.
func FuzzSlack(f *testing.F) {
	f.Add("main", "3 tests failed", "<!channel> & ```", "https://ci.example.com/1")
	f.Add(strings.Repeat("é", 2999)+"&", strings.Repeat("```", 2000), strings.Repeat("👩‍👩‍👧‍👦", 700), "http://a|b")
	f.Fuzz(func(t *testing.T, name, reason, output, link string) {
		n := node("n"+name, graph.Failed, reason)
		n.Output = output
		r := run("g"+name, graph.Failed, n)
		r.Ref.URL, r.Ref.Branch, r.Ref.Author = link, name, reason
		r.Nodes[0].Artifacts = []report.Artifact{{Name: reason, Reference: output}}
		body, err := notify.Slack{}.Payload(notify.Of(r))
		require.NoError(t, err)
		require.Empty(t, notifytest.CheckSlack(body))
	})
}
