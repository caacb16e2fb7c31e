package python

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Security looks for insecure Python code with bandit, and for dependencies with known vulnerabilities with safety.
//
// Findings below the threshold are notes: they are listed and don't fail the step. Findings that Allow accepts are left
// out until they expire. Every dependency is checked in the version that would be installed, those that others bring in
// too; where the requirements can't be met, the versions that they pin are checked.
//
// Without an account, safety checks against the free database in the package safety-db, the last one published as a
// package: its entries end in July 2021, so later vulnerabilities are not found. The result states the database's
// version and date, and its age in days as a metric. It needs no network. Its licence (CC BY-NC-SA 4.0) forbids
// commercial use. With an APIKey, safety checks against its vendor's current database.
//
// bandit runs again when a Python file or its settings change. safety runs again when a requirement changes; with an
// APIKey also at the first run of each day (UTC). Versions are resolved again only when a requirement changes.
type Security struct {
	// Python is the version of Python, for example "3.12"; empty means 3.11.
	Python string
	// Requirements are the project's requirement files; empty means those that are found, see [Test].
	Requirements []string
	// Paths are the files and folders that bandit checks; empty means all.
	Paths []string
	// Threshold is the least severity that fails the step; empty means medium.
	// A vulnerability that the database does not grade counts as high.
	Threshold report.Severity
	// Allow lists findings that are accepted for a while.
	Allow []Exception
	// APIKey is a key of the vendor of safety; nil means none.
	APIKey *dagger.Secret
	// Now is the time that exceptions expire by and the database's age is measured at; zero means now.
	Now time.Time
}

// Exception accepts a finding until a date.
type Exception struct {
	// ID is what is accepted: a rule of bandit ("B105"), or an advisory of safety by its number or CVE ("CVE-2018-18074").
	ID string `json:"id"`
	// Where narrows it to files by a pattern as in [path.Match], or to one package by its name; empty means everywhere.
	Where string `json:"where,omitempty"`
	// Expires is the last day on which it holds, in UTC, as "2006-01-02".
	Expires string `json:"expires"`
	// Reason says why, for whoever reads the list later.
	Reason string `json:"reason"`
}

// last returns the moment at which x ends.
func (x Exception) last() (time.Time, error) {
	day, err := time.Parse(time.DateOnly, x.Expires)
	if err != nil {
		return time.Time{}, fmt.Errorf("exception for %q: expires is %q: use a date such as 2026-12-31", x.ID, x.Expires)
	}
	return day.AddDate(0, 0, 1), nil
}

// risk is a finding with what exceptions can name it by.
type risk struct {
	report.Finding
	ids []string
	// pkg is the dependency at fault; empty for code.
	pkg string
}

func (x Exception) covers(r risk) bool {
	if !slices.ContainsFunc(r.ids, func(id string) bool { return strings.EqualFold(id, x.ID) }) {
		return false
	}
	if x.Where == "" || r.pkg != "" && normalize(x.Where) == normalize(r.pkg) {
		return true
	}
	ok, err := path.Match(x.Where, r.File)
	return ok && err == nil
}

// sieve sorts risks by the exceptions: what still counts, and how many are accepted.
// An expired exception accepts nothing, and the finding says so.
func sieve(risks []risk, allow []Exception, now time.Time) (kept []report.Finding, accepted int, expired []string, err error) {
	for _, x := range allow {
		if _, err := x.last(); err != nil {
			return nil, 0, nil, err
		}
		if x.ID == "" {
			return nil, 0, nil, fmt.Errorf("an exception that expires %s has no ID: say what it accepts", x.Expires)
		}
		if _, err := path.Match(x.Where, ""); err != nil {
			return nil, 0, nil, fmt.Errorf("exception for %q: where is %q: %w", x.ID, x.Where, err)
		}
	}
	for _, r := range risks {
		f, held := r.Finding, false
		for _, x := range allow {
			if !x.covers(r) {
				continue
			}
			last, _ := x.last()
			if now.Before(last) {
				held = true
				break
			}
			f.Message = r.Message + " [the exception for it expired on " + x.Expires + "]"
			if note := x.ID + " expired on " + x.Expires; !slices.Contains(expired, note) {
				expired = append(expired, note)
			}
		}
		if held {
			accepted++
			continue
		}
		kept = append(kept, f)
	}
	return kept, accepted, expired, nil
}

// Run checks src.
//
// Reports: bandit/bandit.json, safety/safety.json and requirements.txt with the versions that were checked.
// Metrics: findings (at or above the threshold), notes (below it), accepted, dependencies, database_age_days.
func (s Security) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory) (step.Result, error) {
	if s.Threshold == "" {
		s.Threshold = report.Medium
	}
	if _, err := report.ParseSeverity(string(s.Threshold)); err != nil {
		return step.Result{}, fmt.Errorf("threshold: %w", err)
	}
	if s.Now.IsZero() {
		s.Now = time.Now()
	}
	if _, _, _, err := sieve(nil, s.Allow, s.Now); err != nil {
		return step.Result{}, err // before the work, not after it
	}
	var files []string
	var needs requirements
	var base *dagger.Container
	var tree step.Source
	setup, setupCtx := errgroup.WithContext(ctx)
	setup.Go(func() (err error) { files, err = pythonFiles(setupCtx, src); return err })
	setup.Go(func() (err error) { needs, err = readRequirements(setupCtx, src, s.Requirements); return err })
	setup.Go(func() (err error) { base, err = installer(setupCtx, c, s.Python); return err })
	setup.Go(func() (err error) { tree, err = step.OpenSource(setupCtx, c, src); return err })
	if err := setup.Wait(); err != nil {
		return step.Result{}, err
	}
	if len(files) == 0 && len(needs.names) == 0 {
		return step.Skip("no Python files and no requirements to check"), nil
	}
	tools := toolbox(base, securityLock)

	var bandit, safety checked
	// Either one's result is worth having when the other breaks.
	var group errgroup.Group
	group.Go(func() error {
		if len(files) > 0 {
			bandit = s.bandit(ctx, base, tools, src, tree)
		}
		return nil
	})
	group.Go(func() error {
		if len(needs.names) > 0 {
			safety = s.safety(ctx, c, base, tools, needs)
		}
		return nil
	})
	_ = group.Wait() // each carries its own error
	if err := ctx.Err(); err != nil {
		return step.Result{}, err
	}
	return s.judge(c, map[string]checked{"bandit": bandit, "safety": safety})
}

// checked is what one of the tools found; Result is the zero value when it did not run.
type checked struct {
	step.Result
	risks []risk
}

// judge joins what the tools found.
func (s Security) judge(c *dagger.Client, tools map[string]checked) (step.Result, error) {
	parts := map[string]step.Result{}
	var risks []risk
	for name, tool := range tools {
		if tool.Verdict != "" {
			parts[name] = tool.Result
		}
		risks = append(risks, tool.risks...)
	}
	result := step.Merge(c.Directory(), parts)
	kept, accepted, expired, err := sieve(risks, s.Allow, s.Now)
	if err != nil {
		return step.Result{}, err
	}
	report.SortFindings(kept)
	severe := slices.DeleteFunc(slices.Clone(kept), func(f report.Finding) bool { return !f.Severity.AtLeast(s.Threshold) })
	result.Findings = append(result.Findings, kept...) // beside an unmet requirement
	report.SortFindings(result.Findings)
	result.Metrics["findings"] = float64(len(severe))
	result.Metrics["notes"] = float64(len(kept) - len(severe))
	result.Metrics["accepted"] = float64(accepted)
	if len(severe) > 0 {
		result.Verdict = graph.Worst(result.Verdict, graph.Failed)
		reason := count(severe)
		if len(expired) > 0 {
			reason += " (exceptions that expired: " + strings.Join(expired, ", ") + ")"
		}
		result.Reason = strings.TrimPrefix(result.Reason+"; "+reason, "; ")
	}
	return result, nil
}

// Container returns the container that bandit runs in: with bandit and safety in /tools, the Python files in /src, and
// the requirement files of the project in /requirements.
func (s Security) Container(ctx context.Context, c *dagger.Client, src *dagger.Directory) (*dagger.Container, error) {
	base, err := installer(ctx, c, s.Python)
	if err != nil {
		return nil, err
	}
	needs, err := readRequirements(ctx, src, s.Requirements)
	if err != nil {
		return nil, err
	}
	files := c.Directory()
	for _, name := range slices.Sorted(maps.Keys(needs.texts)) {
		files = files.WithNewFile(name, needs.texts[name])
	}
	tree, err := step.OpenSource(ctx, c, src)
	if err != nil {
		return nil, err
	}
	return inspector(base, toolbox(base, securityLock), tree).
		WithDirectory("/requirements", files).
		WithEnvVariable("PATH", toolsDir+"/bin:"+systemPath), nil
}

// inspector has the tools and the code that bandit looks at.
func inspector(base *dagger.Container, tools *dagger.Directory, src step.Source) *dagger.Container {
	return base.
		WithMountedDirectory(toolsDir, tools).
		WithMountedDirectory(sourceDir, code(src, "pyproject.toml", "**/.bandit")).
		WithWorkdir(sourceDir)
}

func (s Security) bandit(ctx context.Context, base *dagger.Container, tools, src *dagger.Directory, tree step.Source) checked {
	argv := []string{toolsDir + "/bin/bandit", "--quiet", "--recursive", "--exit-zero", "--format", "json", "--output", reportsDir + "/bandit.json"}
	configured, err := src.Exists(ctx, "pyproject.toml")
	if err != nil {
		return checked{Result: failure("bandit", step.Explain(err))}
	}
	if configured {
		argv = append(argv, "--configfile", "pyproject.toml")
	}
	argv = slices.Concat(argv, []string{"--"}, orDot(s.Paths))
	done, err := step.Exec(ctx, inspector(base, tools, tree).WithNewFile(reportsDir+"/command.txt", strings.Join(argv, " ")+"\n"),
		reportsDir, "bandit", argv)
	if err != nil {
		return checked{Result: failure("bandit", err)}
	}
	out := checked{Result: step.Result{
		Verdict: graph.Passed,
		Tools:   map[string]string{"bandit": pins(securityLock)["bandit"]},
		Reports: done.Container.Directory(reportsDir),
	}}
	if done.ExitCode != 0 {
		tail, _ := done.Tail(ctx)
		out.Result = failed("bandit", broke("bandit", done.ExitCode, tail), out.Reports)
		return out
	}
	text, err := done.File(ctx, reportsDir+"/bandit.json")
	if err == nil {
		out.risks, err = parseBandit(text)
	}
	if err != nil {
		out.Result = failed("bandit", err, out.Reports)
	}
	return out
}

// failed is [failure] of a tool that has left something to look at.
func failed(tool string, err error, reports *dagger.Directory) step.Result {
	result := failure(tool, err)
	result.Reports = reports
	return result
}

// parseBandit reads bandit's JSON report. A file that bandit could not parse is a finding too: nobody has checked it.
func parseBandit(text string) ([]risk, error) {
	var out struct {
		Errors  []struct{ Filename, Reason string }
		Results []struct {
			Filename string
			Line     int    `json:"line_number"`
			Column   int    `json:"col_offset"`
			Test     string `json:"test_id"`
			Severity string `json:"issue_severity"`
			Text     string `json:"issue_text"`
			URL      string `json:"more_info"`
		}
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("read bandit's report: %w", err)
	}
	severities := map[string]report.Severity{"LOW": report.Low, "MEDIUM": report.Medium, "HIGH": report.High}
	var risks []risk
	for _, e := range out.Errors {
		risks = append(risks, risk{ids: []string{"unchecked"}, Finding: report.Finding{
			Tool: "bandit", Rule: "unchecked", Severity: report.High, File: relative(e.Filename), Message: "not checked: " + e.Reason,
		}})
	}
	for _, r := range out.Results {
		severity, known := severities[r.Severity]
		if !known {
			severity = report.Medium
		}
		risks = append(risks, risk{ids: []string{r.Test}, Finding: report.Finding{
			Tool: "bandit", Rule: r.Test, Severity: severity, File: relative(r.Filename), Line: r.Line, Column: r.Column + 1,
			Message: firstLine(r.Text), URL: r.URL,
		}})
	}
	return risks, nil
}

func (s Security) safety(ctx context.Context, c *dagger.Client, base *dagger.Container, tools *dagger.Directory, needs requirements) checked {
	resolved, fault, err := resolve(ctx, c, base, needs)
	if err != nil {
		return checked{Result: failure("safety", err)}
	}
	out := checked{Result: step.Result{Verdict: graph.Passed}}
	if fault != nil {
		// An old pin may be the very reason; what is pinned can be checked all the same.
		out.Result = *fault
		resolved = c.Directory().WithNewFile("project.txt", needs.pinned()).File("project.txt")
	}
	out.Tools = map[string]string{"uv": uvVersion}
	out.Metrics = map[string]float64{}

	ctr := base.WithNewFile("/millrace/database.py", databaseScript).WithFile(reportsDir+"/requirements.txt", resolved)
	var argv []string
	if s.APIKey == nil {
		out.Tools["safety"] = pins(securityLock)["safety"]
		ctr = ctr.WithMountedDirectory(toolsDir, tools).
			WithExec([]string{toolsDir + "/bin/python", "/millrace/database.py", reportsDir + "/database"})
		argv = []string{toolsDir + "/bin/safety", "check", "--json", "--db", reportsDir + "/database", "--file", reportsDir + "/requirements.txt"}
	} else {
		out.Tools["safety"] = pins(accountLock)["safety"]
		ctr = ctr.WithMountedDirectory(toolsDir, toolbox(base, accountLock)).
			WithSecretVariable("SAFETY_API_KEY", s.APIKey).
			// The vendor's database changes without the requirements: ask once a day.
			WithEnvVariable("MILLRACE_DAY", s.Now.UTC().Format(time.DateOnly))
		argv = []string{toolsDir + "/bin/safety", "--stage", "cicd", "check", "--output", "json", "--file", reportsDir + "/requirements.txt"}
	}
	done, _, err := supervised(ctx, ctr, toolsDir+"/bin/python", "safety", argv)
	if err != nil {
		return checked{Result: failure("safety", err)}
	}
	var stdout, stderr, versions, date string
	// Each is a way to the engine and back.
	read, readCtx := errgroup.WithContext(ctx)
	read.Go(func() (err error) { stdout, err = done.Stdout(readCtx); return err })
	read.Go(func() (err error) { stderr, err = done.Stderr(readCtx); return err })
	read.Go(func() (err error) { versions, err = done.File(readCtx, reportsDir+"/requirements.txt"); return err })
	if s.APIKey == nil {
		read.Go(func() (err error) { date, err = done.File(readCtx, reportsDir+"/database/date.txt"); return err })
	}
	if err := read.Wait(); err != nil {
		return checked{Result: failure("safety", err)}
	}
	out.Metrics["dependencies"] = float64(len(pins(versions)))
	if s.APIKey == nil {
		out.risks, err = parseSafety(stdout, stderr, done.ExitCode, needs)
		if err == nil {
			err = s.stateAge(&out, strings.TrimSpace(date))
		}
	} else {
		out.risks, err = parseSafetyAccount(stdout, stderr, done.ExitCode, needs)
	}
	out.Reports = done.Container.Directory(reportsDir).
		WithoutDirectory("database").
		WithNewFile("safety.json", stdout)
	if err != nil {
		out.Result = failed("safety", err, out.Reports)
	}
	return out
}

// stateAge puts into the result how old the database is.
func (s Security) stateAge(out *checked, date string) error {
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return fmt.Errorf("read the date of safety's database: %w", err)
	}
	version := pins(securityLock)["safety-db"]
	out.Tools["safety-db"] = version + " (" + date + ")"
	out.Metrics["database_age_days"] = float64(int(s.Now.Sub(day).Hours() / 24))
	out.Output = strings.TrimSpace(fmt.Sprintf("%s\nsafety checked against safety-db %s of %s; it knows of nothing that was found later", out.Output, version, date))
	return nil
}

// pinned lists the requirements that state one version, for a check without a resolver.
func (r requirements) pinned() string {
	var b strings.Builder
	for _, text := range r.texts {
		for _, m := range exactly.FindAllStringSubmatch(text, -1) {
			fmt.Fprintf(&b, "%s==%s\n", m[1], m[2])
		}
	}
	return b.String()
}

var exactly = regexp.MustCompile(`(?m)^\s*["']?([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*([A-Za-z0-9.!+_-]+)`)

var cve = regexp.MustCompile(`CVE-\d{4}-\d{4,}`)

// parseSafety reads "safety check --json" of version 1. Its exit code is 255 for vulnerabilities and for most errors alike;
// only what it printed tells them apart.
func parseSafety(stdout, stderr string, exit int, needs requirements) ([]risk, error) {
	var rows [][]any
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || exit != 0 && len(rows) == 0 {
		return nil, broke("safety", exit, stderr, stdout)
	}
	var risks []risk
	for _, row := range rows {
		var cell [5]string
		for i := range min(len(row), len(cell)) {
			cell[i], _ = row[i].(string)
		}
		if len(row) < len(cell) {
			return nil, broke("safety", exit, fmt.Sprintf("a row of its report has %d columns: %v", len(row), row))
		}
		risks = append(risks, vulnerability(needs, cell[0], cell[2], cell[1], cell[4], cell[3], cve.FindAllString(cell[3], -1), report.High))
	}
	return risks, nil
}

// parseSafetyAccount reads "safety check --output json" of version 3. Its exit code is 64 for vulnerabilities.
func parseSafetyAccount(stdout, stderr string, exit int, needs requirements) ([]risk, error) {
	var out struct {
		Vulnerabilities []struct {
			ID       string `json:"vulnerability_id"`
			Package  string `json:"package_name"`
			Version  string `json:"analyzed_version"`
			Spec     any    `json:"vulnerable_spec"`
			Advisory string `json:"advisory"`
			CVE      string `json:"CVE"`
			Severity *struct {
				CVSS *struct {
					Score float64 `json:"base_score"`
				} `json:"cvssv3"`
			} `json:"severity"`
		} `json:"vulnerabilities"`
	}
	const vulnerable = 64
	start := strings.IndexByte(stdout, '{')
	if exit != 0 && exit != vulnerable || start < 0 || json.Unmarshal([]byte(stdout[start:]), &out) != nil {
		return nil, broke("safety", exit, stderr, stdout)
	}
	var risks []risk
	for _, v := range out.Vulnerabilities {
		severity := report.High
		if v.Severity != nil && v.Severity.CVSS != nil {
			severity = cvss(v.Severity.CVSS.Score)
		}
		var cves []string
		if v.CVE != "" {
			cves = []string{v.CVE}
		}
		spec := strings.Trim(fmt.Sprint(v.Spec), "[]")
		risks = append(risks, vulnerability(needs, v.Package, v.Version, spec, v.ID, v.Advisory, cves, severity))
	}
	return risks, nil
}

// cvss maps a score to a severity as the CVSS 3.1 specification does.
func cvss(score float64) report.Severity {
	switch {
	case score >= 9:
		return report.Critical
	case score >= 7:
		return report.High
	case score >= 4:
		return report.Medium
	default:
		return report.Low
	}
}

func vulnerability(needs requirements, pkg, version, spec, id, advisory string, cves []string, severity report.Severity) risk {
	file, line := needs.find(pkg)
	how := ""
	if file == "" {
		file = strings.Join(needs.names, ", ")
		how = ", which another requirement brings in,"
	}
	slices.Sort(cves)
	cves = slices.Compact(cves)
	named := ""
	if len(cves) > 0 {
		named = " (" + strings.Join(cves, ", ") + ")"
	}
	return risk{
		pkg: pkg, ids: append([]string{id, normalize(pkg) + "-" + id}, cves...),
		Finding: report.Finding{
			Tool: "safety", Rule: id, Severity: severity, File: file, Line: line,
			Message: fmt.Sprintf("%s %s%s is vulnerable%s, as are versions %s: %s", pkg, version, how, named, spec, strings.Join(strings.Fields(advisory), " ")),
			URL:     "https://data.safetycli.com/v/" + id + "/",
		},
	}
}
