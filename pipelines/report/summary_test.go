package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
)

// unsafe finds what must stand in no report: control characters that drive terminals, and marks that reorder text.
var unsafe = regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f-\x9f\x{202a}-\x{202e}\x{2066}-\x{2069}]`)

func checkText(t *testing.T, run report.Run) {
	t.Helper()
	const width = 72
	text := report.Text(run, width)
	require.True(t, utf8.ValidString(text))
	require.NotRegexp(t, unsafe, text)
	require.True(t, strings.HasSuffix(text, "\n"))
	lines := strings.Split(text, "\n")
	blank := 0
	for blank < len(lines) && lines[blank] != "" {
		blank++
	}
	for _, line := range lines[:min(len(lines), blank+1+len(run.Nodes))] {
		require.LessOrEqual(t, displaywidth.String(line), width, "%q", line)
	}
}

func checkMarkdown(t *testing.T, run report.Run) {
	t.Helper()
	text := report.Markdown(run)
	require.True(t, utf8.ValidString(text))
	require.NotRegexp(t, unsafe, text)
	require.Less(t, utf8.RuneCountInString(text), 65_536)
}

var (
	anchors = regexp.MustCompile(`^(https?://|reports/[a-z0-9_.-]+/?$|#findings$)`)
)

// checkHTML parses the page as a browser does and looks for anything that the template did not put there.
func checkHTML(t *testing.T, run report.Run) *html.Node {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, report.WriteHTML(&b, run))
	require.NotRegexp(t, unsafe, b.String())
	doc, err := html.Parse(&b)
	require.NoError(t, err)
	scripts := 0
	var policy, script string
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		require.NotContains(t, []string{"img", "iframe", "object", "embed", "link", "base"}, n.Data)
		if n.Data == "script" {
			scripts++
			script = n.FirstChild.Data
		}
		attributes := map[string]string{}
		for _, a := range n.Attr {
			attributes[a.Key] = a.Val
			require.False(t, strings.HasPrefix(a.Key, "on"), "%s has %s", n.Data, a.Key)
			require.NotEqual(t, "src", a.Key)
			if a.Key == "href" {
				require.Regexp(t, anchors, a.Val)
			}
		}
		if n.Data == "meta" && attributes["http-equiv"] == "Content-Security-Policy" {
			policy = attributes["content"]
		}
	}
	require.LessOrEqual(t, scripts, 1)
	if scripts == 1 {
		sum := sha256.Sum256([]byte(script))
		require.Contains(t, policy, "script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", "a browser runs the script only so")
	}
	return doc
}

func TestReportsOfHostileText(t *testing.T) {
	t.Parallel()
	run := hostileRun()
	checkText(t, run)
	checkMarkdown(t, run)
	checkHTML(t, run)
	checkJUnit(t, run)
	checkSARIF(t, run)

	markdown := report.Markdown(run)
	outside := regexp.MustCompile("(?s)(`{4,})text\n.*?\n````").ReplaceAllString(markdown, "")
	for i, line := range strings.Split(outside, "\n") {
		plain := regexp.MustCompile("``.*?``").ReplaceAllString(line, "")
		require.NotContains(t, plain, "<script", "line %d", i)
		require.NotContains(t, plain, "<img", "line %d", i)
		require.NotContains(t, plain, "@acme", "line %d would mention people", i)
		require.NotContains(t, plain, "](", "line %d would link", i)
		require.NotContains(t, plain, "https://", "line %d would link", i)
	}
	for _, row := range regexp.MustCompile(`(?m)^\| ✗.*$`).FindAllString(markdown, -1) {
		require.Len(t, regexp.MustCompile(`[^\\]\|`).FindAllString(row, -1), 4, "a cell must not become two: %s", row)
	}
}

func TestHTMLShows(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, report.WriteHTML(&b, failedRun()))
	page := b.String()
	require.Less(t, strings.Index(page, "panic: assignment"), strings.Index(page, ">Nodes<"), "the cause comes before the nodes")
	require.Less(t, strings.Index(page, "build <small"), strings.Index(page, "test <small"), "the first cause comes first")
	require.Contains(t, page, `href="reports/test/"`)
	require.Contains(t, page, "left:19.38%;width:80.59%")
	require.Contains(t, page, "coverage 81.2 %")
	require.NotContains(t, page, "\x1b")

	b.Reset()
	require.NoError(t, report.WriteHTML(&b, passedRun()))
	page = b.String()
	require.NotContains(t, page, "Why it")
	require.Contains(t, page, "registry.example.com/acme/api:main")
	require.Contains(t, page, `href="https://bandit.readthedocs.io/b101"`)
}

// bigRun has more of everything than a report shows.
func bigRun() report.Run {
	result := &graph.Result{Graph: "big", Verdict: graph.Failed, Started: began, Duration: time.Hour}
	findings := make([]report.Finding, 5000)
	for i := range findings {
		findings[i] = report.Finding{Tool: "t", Rule: "r", Severity: report.High, File: "f.py", Line: i + 1, Message: strings.Repeat("| <m> ", 40)}
	}
	for i := range 1200 {
		verdict := graph.Passed
		var value any
		if i >= 600 {
			verdict = graph.Failed
		}
		if i == 600 {
			value = outcome{Findings: findings, Output: strings.Repeat("output\n", 10000), Artifacts: make([]report.Artifact, 700)}
		}
		r := record(fmt.Sprintf("node %d", i), verdict, strings.Repeat("<reason> ", 100), float64(i), 1, value)
		result.Nodes = append(result.Nodes, r)
	}
	return report.NewRun(result, ref, engine)
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	run := bigRun()
	checkMarkdown(t, run)
	checkHTML(t, run)
	checkJUnit(t, run)

	var page bytes.Buffer
	require.NoError(t, report.WriteHTML(&page, run))
	require.Less(t, page.Len(), 8<<20)
	require.Contains(t, page.String(), "… and 3000 more")
	require.Contains(t, page.String(), "… and 700 more nodes")

	markdown := report.Markdown(run)
	require.Contains(t, markdown, "… and 595 more nodes that did not pass.")
	require.Contains(t, markdown, "node 600", "what failed is kept, what passed is left out")
	require.NotContains(t, markdown, "node 5 ")
	require.Contains(t, report.Text(run, 100), "… and 4995 more findings")
	require.Contains(t, report.Text(run, 100), "… and 595 more nodes that did not pass")
}

// TestMarkdownIsCut gives a text that escaping makes four times as long in every cell.
func TestMarkdownIsCut(t *testing.T) {
	t.Parallel()
	result := &graph.Result{Graph: "big", Verdict: graph.Failed, Started: began, Duration: time.Hour}
	for i := range 150 {
		result.Nodes = append(result.Nodes, record(fmt.Sprintf("node %d", i), graph.Failed, strings.Repeat("<", 900), 0, 1, nil))
	}
	run := report.NewRun(result, ref, engine)
	checkMarkdown(t, run)
	markdown := report.Markdown(run)
	require.True(t, strings.HasSuffix(markdown, "|\n\n… The rest is left out: run.json and the reports have it all.\n"), "cut between two rows")
}

func TestTextWithoutBound(t *testing.T) {
	t.Parallel()
	run := failedRun()
	run.Engine = report.Engine{}
	text := report.Text(run, 0)
	require.NotContains(t, text, "…")
	require.Contains(t, text, run.Nodes[2].Reason)
	for kind, want := range map[string]string{
		"session": "engine of the session v1", "runner": "engine of the environment v1", "runtime": "engine in a container v1",
		"embedded": "embedded engine v1", "other": "other engine v1", "": "engine v1",
	} {
		run.Engine = report.Engine{Kind: kind, Version: "v1"}
		require.Contains(t, report.Text(run, 0), want+"\n")
	}
}

func TestFormatSeconds(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{
		0: "0.0s", 0.04: "0.0s", 0.05: "0.1s", 12.44: "12.4s", 59.94: "59.9s", 59.96: "1m00s", 60: "1m00s", 65.4: "1m05s",
		3599.4: "59m59s", 3599.6: "1h00m", 3600: "1h00m", 7805: "2h10m",
	} {
		require.Equal(t, want, report.FormatSeconds(seconds), "%v", seconds)
	}
}

func TestSymbolsTakeOneColumn(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range []graph.Verdict{graph.Passed, graph.Failed, graph.Errored, graph.Inconclusive, graph.Cancelled, graph.Skipped} {
		s := report.Symbol(v)
		require.Equal(t, 1, displaywidth.String(s))
		require.False(t, seen[s], "two verdicts share %q", s)
		seen[s] = true
	}
}

// A reason that says it all is not said twice.
// Who asks for one step reads its name, and not that of the graph that it is a part of.
func TestSummariesBeginWithWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	run := report.Run{Schema: report.RunSchema, Graph: "ci-cd", Verdict: graph.Passed, Seconds: 29}
	require.True(t, strings.HasPrefix(report.Text(run, 80), "ci-cd passed in 29.0s\n"))
	run.Asked = "deploy staging"
	require.True(t, strings.HasPrefix(report.Text(run, 80), "deploy staging passed in 29.0s\n"))
	require.True(t, strings.HasPrefix(report.Markdown(run), "## ✓ deploy staging passed\n"))
	var page strings.Builder
	require.NoError(t, report.WriteHTML(&page, run))
	require.Contains(t, page.String(), "<title>deploy staging passed")
	require.NotContains(t, page.String(), "ci-cd")
}

func TestTextSaysTheOnlyFindingOnce(t *testing.T) {
	t.Parallel()
	f := report.Finding{Tool: "dockerfile", Rule: "build", File: "Dockerfile", Line: 4, Message: "RUN make ended with exit code 2"}
	node := report.Node{Name: "build", Verdict: graph.Failed, Reason: "api: Dockerfile:4: RUN make ended with exit code 2", Details: []report.Finding{f}}
	count := func(n report.Node) int {
		return strings.Count(report.Text(report.Run{Graph: "g", Verdict: graph.Failed, Nodes: []report.Node{n}}, 0), f.Message)
	}
	require.Equal(t, 2, count(node), "in the table, and as the cause")
	node.Reason = "1 finding: RUN make ended with exit code 2"
	require.Equal(t, 3, count(node), "the reason does not say where")
	node.Reason, node.Details = "api: Dockerfile:4: RUN make ended with exit code 2", []report.Finding{f, f}
	require.Equal(t, 4, count(node), "there are others")
}
