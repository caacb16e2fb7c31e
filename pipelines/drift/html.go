package drift

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// What a page shows at most; drift.json has all.
const (
	maxPageAlerts  = 50
	maxPageColumns = 500
	maxPageRuns    = 120
)

var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
		"stamp": stamp, "chance": Chance, "link": webLink,
		"interval": func(i Interval) string {
			return fmt.Sprintf("%s (%s to %s)", figure(i.Value), figure(i.Low), figure(i.High))
		},
		"correction": func(name string) string {
			return map[string]string{"bh": "Benjamini and Hochberg's method", "holm": "Holm's method", "none": "nothing"}[name]
		},
	}).Parse(pageHTML))
)

type page struct {
	Name, Word, Pill, Answer string
	Style                    template.CSS
	Result                   Result
	Tables                   []pageTable
	Notes                    []string
	Alerts, Watched          []card
	MoreAlerts               int
	History                  *chart
	Columns                  []pageColumn
	MoreColumns              int
	Floors                   []string
	Sampling                 string
}

type pageTable struct{ Name, Rows, Digest string }

type card struct {
	Subject, Said, Sure, Effect, Since, Note, Owner, Class string
	Level                                                  Level
	Plot                                                   *plot
}

type pageColumn struct {
	Column
	Spark                                                *plot
	Sure, KS, Chi, PSI, Wasserstein, JS, Missing, Weight string
}

type chart struct {
	Width            int
	Top, First, Last string
	Runs             []chartRun
	Marks            []chartMark
}

type chartRun struct {
	bar
	Severity Level
	Title    string
}

type chartMark struct {
	X     float64
	Title string
}

// WriteHTML writes what was found about the table or model called name as one page that needs nothing else: no script,
// style, font or picture from elsewhere. history ends with this run; notes are said at the top.
func WriteHTML(w io.Writer, name string, found Result, history History, notes ...string) error {
	p := page{
		Name: name, Word: string(found.Severity), Pill: string(found.Severity), Style: template.CSS(pageCSS), // our own constant: nothing to escape
		Result: found, Notes: notes, History: newChart(history.Entries),
	}
	if found.Status != "measured" {
		p.Word, p.Pill = found.Status, "warn"
		if found.Status == "unusable" {
			p.Pill = "critical"
		}
	}
	p.Answer = answer(found)
	for _, which := range []string{"reference", "current"} {
		if t, ok := found.Tables[which]; ok {
			p.Tables = append(p.Tables, pageTable{which, fmt.Sprintf("%d rows", t.Rows), t.SHA256[:min(12, len(t.SHA256))]})
			if t.KSError > 0 {
				p.Sampling = fmt.Sprintf("Statistics are of a random sample of %d rows, whose distribution lies within %s of the table's with 99 %%; counts of rows, missing values and categories are exact.", t.Sampled, figure(t.KSError))
			}
		}
	}
	p.addAlerts(found)
	p.addColumns(found)
	for _, test := range []string{"distribution", "shape", "missing", "invalid", "new-categories"} {
		if pair := found.Settings.Effects[test]; len(pair) == 2 {
			p.Floors = append(p.Floors, fmt.Sprintf("%s %s, critical %s", unit(test), figure(pair[0]), figure(pair[1])))
		}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return fmt.Errorf("write the drift report: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the drift report: %w", err)
	}
	return nil
}

// answer says in one line how things stand.
func answer(found Result) string {
	if found.Status != "measured" {
		return "Nothing can be told: " + found.Reason + "."
	}
	if len(found.Alerts) == 0 {
		if n := len(found.Watched()); n > 0 {
			return fmt.Sprintf("No alert. %s moved, which is watched.", counted(n, "column has", "columns have"))
		}
		return "No alert. Nothing has moved beyond what chance does."
	}
	return Headline(found)
}

// Headline sums up the alerts in one line.
func Headline(found Result) string {
	var names []string
	for _, a := range found.Alerts {
		name := a.Subject
		switch {
		case a.Kind == "performance":
			name = "the model's performance"
		case a.Contract():
			name = a.Subject + " (" + a.Said + ")"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	more := ""
	if len(names) > 5 {
		more = fmt.Sprintf(" and %d more", len(names)-5)
		names = names[:5]
	}
	return fmt.Sprintf("%s: %s%s.", counted(len(found.Alerts), "alert", "alerts"), strings.Join(names, ", "), more)
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// unit says what an effect is measured in.
func unit(test string) string {
	switch test {
	case "distribution":
		return "KS distance, or share of rows in another category,"
	case "shape":
		return "PSI beyond that of noise"
	case "missing":
		return "change of the share missing"
	case "invalid":
		return "change of the share infinite or not of the type"
	case "new-categories":
		return "share of rows in new categories"
	case "brier", "mae":
		return "relative rise"
	default:
		return "fall"
	}
}

func since(at string) string {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return "this run"
	}
	return stamp(t)
}

func (p *page) addAlerts(found Result) {
	columns := map[string]Column{}
	for _, c := range found.Columns {
		columns[c.Name] = c
	}
	p.MoreAlerts = max(0, len(found.Alerts)-maxPageAlerts)
	for _, a := range found.Alerts[:len(found.Alerts)-p.MoreAlerts] {
		k := card{Subject: a.Subject, Said: a.Said, Level: a.Level, Class: string(a.Level), Since: since(a.Since), Owner: a.Owner}
		if a.Kind == "performance" {
			k.Subject = "performance of the model"
		}
		if a.Contract() {
			k.Note = "the table is unfit for the model, which training does not cure"
		} else {
			k.Sure, k.Effect = Chance(a.Q), effect(a.Test, a.Method, a.Effect)
		}
		if a.Minor {
			k.Note = "it hardly matters to the model, and so is no more than a warning"
		}
		if c, ok := columns[a.Subject]; ok && a.Kind != "performance" {
			k.Plot = picture(c.Name, c.Plot, false)
		}
		p.Alerts = append(p.Alerts, k)
	}
	for _, c := range found.Watched() {
		p.Watched = append(p.Watched, card{
			Subject: c.Name, Said: c.Worst.Said, Level: c.Level, Class: "watch", Since: since(c.Since), Owner: c.Owner,
			Sure: Chance(c.Worst.Q), Effect: effect(c.Worst.Name, c.Worst.Method, c.Worst.Effect), Plot: picture(c.Name, c.Plot, false),
		})
	}
}

func effect(test, method string, size float64) string {
	of := unit(test)
	if test == "distribution" {
		of = "KS distance"
		if method != "KS" {
			of = "share of rows in another category"
		}
	}
	return of + " " + figure(size)
}

func (p *page) addColumns(found Result) {
	columns := slices.Clone(found.Columns)
	rank := map[Level]int{Critical: 0, Warn: 1, OK: 2}
	slices.SortStableFunc(columns, func(a, b Column) int { return rank[a.Level] - rank[b.Level] })
	p.MoreColumns = max(0, len(columns)-maxPageColumns)
	for _, c := range columns[:len(columns)-p.MoreColumns] {
		row := pageColumn{
			Column: c, Spark: picture(c.Name, c.Plot, true), Weight: figure(c.Weight),
			KS: c.statistic("ks"), Chi: c.statistic("chi_squared"), PSI: c.statistic("psi"),
			Wasserstein: c.statistic("wasserstein_in_sd"), JS: c.statistic("jensen_shannon"),
			Missing: fmt.Sprintf("%s, %s", percent(c.Current.Missing, c.Current.Rows), percent(c.Reference.Missing, c.Reference.Rows)),
		}
		least := 1.0
		for _, t := range c.Tests {
			least = min(least, t.Q)
		}
		if len(c.Tests) > 0 {
			row.Sure = Chance(least)
		}
		p.Columns = append(p.Columns, row)
	}
}

func (c Column) statistic(name string) string {
	if v := c.Statistics[name]; v != nil {
		return figure(*v)
	}
	return ""
}

func percent(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	if part == 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f %%", float64(part)/float64(whole)*100)
}

// newChart draws the share of columns that had moved, a bar a run; nil without runs.
func newChart(entries []Entry) *chart {
	entries = entries[max(0, len(entries)-maxPageRuns):]
	if len(entries) == 0 {
		return nil
	}
	const left, height = 34.0, 94.0
	c := &chart{Width: 760, First: entries[0].Time.UTC().Format(time.DateOnly), Last: entries[len(entries)-1].Time.UTC().Format(time.DateOnly)}
	top := 0.1
	for _, e := range entries {
		top = max(top, e.Score)
	}
	c.Top = fmt.Sprintf("%.0f %%", top*100)
	w := min(28, (float64(c.Width)-left)/float64(len(entries)))
	for i, e := range entries {
		x, h := left+float64(i)*w, max(2, e.Score/top*height)
		c.Runs = append(c.Runs, chartRun{
			bar: bar{round(x), round(104 - h), round(max(1, w-2)), round(h)}, Severity: e.Severity,
			Title: fmt.Sprintf("%s: %s, %.0f %% moved, %d rows", stamp(e.Time), e.Severity, e.Score*100, e.Rows),
		})
		if e.Retraining != nil && e.Retraining.Started {
			c.Marks = append(c.Marks, chartMark{round(x + w/2), fmt.Sprintf("retraining (%s): %s", e.Retraining.Mode, e.Retraining.State)})
		}
	}
	return c
}

// webLink returns address if it is one that a page may link to.
func webLink(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return address
}
