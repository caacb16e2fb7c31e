package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

const (
	maxPageNodes     = 500
	maxPageFindings  = 2000
	maxPageCauses    = 20
	maxPageArtifacts = 500
	causeFindings    = 10
)

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
		"symbol": Symbol, "duration": FormatSeconds, "place": place, "rule": rule,
	}).Parse(pageHTML))
)

type page struct {
	Run          Run
	Policy       string
	Style        template.CSS
	Script       template.JS
	Where        string
	Started      string
	Stamp        string
	Engine       string
	Link         string
	Half         float64
	Counts       []pageCount
	Causes       []pageCause
	MoreCauses   int
	Nodes        []pageNode
	MoreNodes    int
	Artifacts    []Artifact
	Findings     []pageFinding
	MoreFindings int
	Severities   []Severity
	FindingNodes []string
	Tools        []string
}

type pageCount struct {
	Verdict graph.Verdict
	Number  int
}

type pageCause struct {
	Node
	Top  []Finding
	More int
}

type pageNode struct {
	Node
	Time, Remark, Metrics string
	Ran                   bool
	// From and To are in seconds since the run's start, Left and Width in percent of its length.
	From, To, Left, Width float64
}

type pageFinding struct {
	Finding
	Node, Link string
}

// WriteHTML writes run as one page that needs nothing else: no script, style, font or picture from elsewhere.
// It says first what failed and why, then shows the nodes along the time, what was made, and the findings with a filter.
// Without scripts the page has everything but the filter.
func WriteHTML(w io.Writer, run Run) error {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, newPage(legible(run))); err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	return nil
}

// legible returns run with what could deceive a reader taken out of its texts; markup is the template's business.
func legible(run Run) Run {
	run.Graph, run.Asked = flat(run.Graph), flat(run.Asked)
	run.Ref.SHA = flat(run.Ref.SHA)
	run.Nodes = slices.Clone(run.Nodes)
	for i := range run.Nodes {
		n := &run.Nodes[i]
		n.Name, n.Reason = flat(n.Name), flat(n.Reason)
		n.Details = slices.Clone(n.Details)
		for j := range n.Details {
			f := &n.Details[j]
			f.Tool, f.Rule, f.File, f.Message = flat(f.Tool), flat(f.Rule), flat(f.File), flat(f.Message)
		}
		n.Artifacts = slices.Clone(n.Artifacts)
		for j := range n.Artifacts {
			a := &n.Artifacts[j]
			a.Name, a.Reference, a.Digest = flat(a.Name), flat(a.Reference), flat(a.Digest)
		}
		tools, figures := map[string]string{}, map[string]float64{}
		for name, version := range n.Tools {
			tools[flat(name)] = flat(version)
		}
		for name, value := range n.Metrics {
			figures[flat(name)] = value
		}
		n.Tools, n.Metrics = tools, figures
	}
	return run
}

func newPage(run Run) page {
	// Only our own script may run, whatever else got into the page.
	sum := sha256.Sum256([]byte(pageJS))
	p := page{
		Run: run,
		Policy: "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; " +
			"script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		Style:   template.CSS(pageCSS), // our own constant: nothing to escape
		Script:  template.JS(pageJS),   // our own constant: nothing to escape
		Where:   strings.Join(nonEmpty(oneLine(run.Ref.Repository), run.Ref.String()), " · "),
		Started: run.Started.UTC().Format("2006-01-02 15:04:05") + " UTC",
		Stamp:   run.Started.UTC().Format(time.RFC3339),
		Engine:  run.Engine.describe(),
		Link:    webLink(run.Ref.URL),
		Half:    run.Seconds / 2,
	}
	counts := map[graph.Verdict]int{}
	for _, n := range run.Nodes {
		counts[n.Verdict]++
	}
	for _, v := range []graph.Verdict{graph.Errored, graph.Failed, graph.Inconclusive, graph.Cancelled, graph.Passed, graph.Skipped} {
		if counts[v] > 0 {
			p.Counts = append(p.Counts, pageCount{v, counts[v]})
		}
	}
	p.addCauses(run)
	p.addNodes(run)
	p.Artifacts = artifactsOf(run)
	p.Artifacts = p.Artifacts[:min(len(p.Artifacts), maxPageArtifacts)]
	p.addFindings(run)
	tools := run.Tools()
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		p.Tools = append(p.Tools, strings.TrimSpace(name+" "+tools[name]))
	}
	return p
}

func (p *page) addCauses(run Run) {
	causes := run.Causes()
	p.MoreCauses = max(0, len(causes)-maxPageCauses)
	for _, n := range causes[:len(causes)-p.MoreCauses] {
		n.Error, n.Stack, n.Output = errorRest(n), readable(n.Stack), readable(n.Output)
		n.Reason = orNoReason(n.Reason)
		p.Causes = append(p.Causes, pageCause{Node: n, Top: worst(n.Details, causeFindings), More: max(0, len(n.Details)-causeFindings)})
	}
}

func (p *page) addNodes(run Run) {
	nodes := run.Nodes
	p.MoreNodes = max(0, len(nodes)-maxPageNodes)
	for _, n := range nodes[:len(nodes)-p.MoreNodes] {
		row := pageNode{Node: n, Time: elapsed(n), Remark: remark(n), Metrics: metrics(n)}
		if n.Started != nil && run.Seconds > 0 {
			row.Ran = true
			row.From = max(0, n.Started.Sub(run.Started).Seconds())
			row.To = row.From + n.Seconds
			row.Left = min(row.From/run.Seconds*100, 99.5)
			row.Width = min(n.Seconds/run.Seconds*100, 100-row.Left)
			row.Left, row.Width = math.Round(row.Left*100)/100, math.Round(row.Width*100)/100
		}
		p.Nodes = append(p.Nodes, row)
	}
}

func (p *page) addFindings(run Run) {
	for _, n := range run.Nodes {
		if len(n.Details) > 0 {
			p.FindingNodes = append(p.FindingNodes, n.Name)
		}
		for _, f := range n.Details {
			p.Findings = append(p.Findings, pageFinding{Finding: f, Node: n.Name, Link: webLink(f.URL)})
		}
	}
	slices.SortStableFunc(p.Findings, func(a, b pageFinding) int {
		return slices.Index(Severities, b.Severity) - slices.Index(Severities, a.Severity)
	})
	p.MoreFindings = max(0, len(p.Findings)-maxPageFindings)
	p.Findings = p.Findings[:len(p.Findings)-p.MoreFindings]
	for _, s := range slices.Backward(Severities) {
		if slices.ContainsFunc(p.Findings, func(f pageFinding) bool { return f.Severity == s }) {
			p.Severities = append(p.Severities, s)
		}
	}
}

// metrics lists a node's figures for a person: "coverage 87.5 %, tests 41".
func metrics(n Node) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(n.Metrics)) {
		value := strconv.FormatFloat(math.Round(n.Metrics[name]*100)/100, 'f', -1, 64)
		label, unit := name, ""
		for suffix, symbol := range map[string]string{"_percent": " %", "_seconds": " s", "_bytes": " B"} {
			if cut, ok := strings.CutSuffix(name, suffix); ok {
				label, unit = cut, symbol
			}
		}
		parts = append(parts, strings.ReplaceAll(label, "_", " ")+" "+value+unit)
	}
	return strings.Join(parts, ", ")
}

func readable(s string) string { return strings.TrimSpace(printable(s)) }

// webLink returns address if it is one that a page may link to.
func webLink(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return ""
	}
	return address
}
