package kube

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/project"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Smoke asks a deployed service whether it does what it is there for, from inside the cluster's network.
//
// The first check is tried again for as long as the service may take to start. Once one has passed nothing is tried twice:
// a service that answers every second time is broken.
type Smoke struct {
	// Namespace of the service.
	Namespace string
	// URL of the service as pods reach it, such as http://api; checks with a path alone begin with it.
	URL string
	// Checks to make, in this order.
	Checks []project.Smoke
	// Startup is how long the first check may fail; 30 seconds by default.
	Startup time.Duration
	// Source has the files for checks with pytest.
	Source *dagger.Directory
	// Python is the version of Python for checks with pytest that name none.
	Python string
}

// SmokeResult is what the checks said.
type SmokeResult struct {
	step.Result
	// Checks are in the order in which they were made.
	Checks []SmokeCheck
}

// SmokeCheck is what came of one check.
type SmokeCheck struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	// Seconds that the answer, or the command, took.
	Seconds float64 `json:"seconds"`
	// Tries counts more than one only while the service started.
	Tries int `json:"tries"`
	// Wrong is what was not as it must be.
	Wrong []Difference `json:"wrong,omitempty"`
	// Body is the beginning of the answer, or the end of what a command printed, when it is not as it must be.
	Body string `json:"body,omitempty"`
}

// Difference is what was expected, and what came.
type Difference struct {
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

//go:embed smoke.py
var smokeScript string

// endChecks is the last line that the script prints.
const endChecks = "-----END CHECKS-----"

// smokeTask is what the pods of smoke tests are called.
const smokeTask = "millrace-smoke"

// Run makes the checks.
//
// Reports: junit.xml, checks.json. Metrics: checks, failures, slowest_ms (of the answers that passed).
func (s Smoke) Run(ctx context.Context, c *dagger.Client, cluster Cluster) (SmokeResult, error) {
	if len(s.Checks) == 0 {
		return SmokeResult{Result: step.Skip("no smoke tests: add some to the environment in millrace.yaml")}, nil
	}
	s.Startup = cmp.Or(s.Startup, 30*time.Second)
	var all []SmokeCheck
	up := false
	for at := 0; at < len(s.Checks); {
		group := s.group(at)
		checks, err := s.make(ctx, c, cluster, group, up)
		if err != nil {
			return SmokeResult{}, fmt.Errorf("smoke tests: %w", err)
		}
		for _, check := range checks {
			up = up || check.Passed
		}
		all = append(all, checks...)
		at += len(group)
	}
	return s.judge(c, all)
}

// group returns the checks from one on that are made in one pod: HTTP checks that follow each other.
func (s Smoke) group(at int) []project.Smoke {
	end := at + 1
	for end < len(s.Checks) && s.Checks[at].HTTP != nil && s.Checks[end].HTTP != nil {
		end++
	}
	return s.Checks[at:end]
}

// make makes the checks of a group; up says that the service has already answered as it must.
func (s Smoke) make(ctx context.Context, c *dagger.Client, cluster Cluster, group []project.Smoke, up bool) ([]SmokeCheck, error) {
	if group[0].HTTP != nil {
		return s.ask(ctx, c, cluster, group, up)
	}
	check := group[0]
	task, err := s.task(ctx, c, check)
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(s.Startup)
	for tries := 1; ; tries++ {
		began := time.Now()
		done, err := task.Run(ctx, c, cluster)
		if err != nil {
			return nil, err
		}
		result := SmokeCheck{Name: title(check), Passed: done.ExitCode == 0 && !done.Late, Seconds: time.Since(began).Seconds(), Tries: tries}
		if result.Passed {
			return []SmokeCheck{result}, nil
		}
		got := fmt.Sprintf("exit code %d", done.ExitCode)
		switch {
		case done.Late:
			got = fmt.Sprintf("no end within %s", task.Timeout)
		case done.OutOfMemory:
			got += ", because it took more memory than its limit"
		}
		result.Wrong = []Difference{{Expected: "exit code 0", Got: got}}
		result.Body = strings.TrimSpace(done.Log[max(0, len(done.Log)-4000):])
		if up || time.Now().After(until) {
			return []SmokeCheck{result}, nil
		}
	}
}

// ask makes HTTP checks, all in one pod.
func (s Smoke) ask(ctx context.Context, c *dagger.Client, cluster Cluster, group []project.Smoke, up bool) ([]SmokeCheck, error) {
	type request struct {
		Name       string            `json:"name"`
		URL        string            `json:"url"`
		Method     string            `json:"method"`
		Headers    map[string]string `json:"headers"`
		Body       string            `json:"body"`
		Status     int               `json:"status"`
		Contains   string            `json:"contains"`
		Matches    string            `json:"matches"`
		JSON       map[string]any    `json:"json"`
		MaxLatency float64           `json:"max_latency"`
		Timeout    float64           `json:"timeout"`
		Secrets    []string          `json:"secrets"`
	}
	var plan struct {
		Startup float64   `json:"startup"`
		Checks  []request `json:"checks"`
	}
	plan.Startup = s.Startup.Seconds()
	if up {
		plan.Startup = 0
	}
	secrets := map[string]string{}
	longest := s.Startup
	for _, check := range group {
		h := check.HTTP
		method := h.Method
		if method == "" {
			method = "GET"
			if h.Body != "" {
				method = "POST"
			}
		}
		address, err := s.address(h.URL)
		if err != nil {
			return nil, err
		}
		r := request{
			Name: title(check), URL: address, Method: strings.ToUpper(method), Headers: map[string]string{}, Body: h.Body,
			Status: cmp.Or(h.Status, 200), Contains: h.Contains, Matches: h.Matches, JSON: h.JSON,
			MaxLatency: h.MaxLatency.Seconds(), Timeout: cmp.Or(check.Timeout, 10*time.Second).Seconds(), Secrets: []string{},
		}
		for name, value := range h.Headers {
			r.Headers[name] = value
		}
		for name, value := range check.Secrets {
			if held, ok := secrets[name]; ok && held != value {
				return nil, fmt.Errorf("two checks name different secrets %s: give one of them another name", name)
			}
			secrets[name] = value
			r.Secrets = append(r.Secrets, name)
		}
		plan.Checks = append(plan.Checks, r)
		longest += cmp.Or(check.Timeout, 10*time.Second)
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("write the checks: %w", err)
	}
	done, err := Task{
		Name: smokeTask, Namespace: s.Namespace, Image: image.Python(""), Argv: []string{"python", "-u", "/millrace/smoke.py", "/millrace/checks.json"},
		Files: map[string]string{"smoke.py": smokeScript, "checks.json": string(text)}, Secrets: secrets,
		Timeout: longest + time.Minute, Memory: "128Mi", LogEnd: endChecks,
	}.Run(ctx, c, cluster)
	if err != nil {
		return nil, err
	}
	var checks []SmokeCheck
	for line := range strings.Lines(done.Log) {
		var check SmokeCheck
		if json.Unmarshal([]byte(line), &check) == nil && check.Name != "" {
			checks = append(checks, check)
		}
	}
	if len(checks) != len(group) || done.ExitCode != 0 {
		return nil, fmt.Errorf("the checks broke off after %d of %d, with exit code %d\n%s", len(checks), len(group), done.ExitCode, strings.TrimSpace(done.Log))
	}
	return checks, nil
}

// address puts the service's URL before a path.
func (s Smoke) address(url string) (string, error) {
	if !strings.HasPrefix(url, "/") {
		return url, nil
	}
	if s.URL == "" {
		return "", fmt.Errorf("the check of %s has a path alone, and the environment has no url: add one, such as http://api", url)
	}
	return strings.TrimSuffix(s.URL, "/") + url, nil
}

// title is what a check is called.
func title(check project.Smoke) string {
	switch {
	case check.Name != "":
		return check.Name
	case check.HTTP != nil:
		return strings.TrimSpace(check.HTTP.Method + " " + check.HTTP.URL)
	case check.Command != nil:
		return cmp.Or(strings.Join(check.Command.Argv, " "), check.Command.Image)
	default:
		return "pytest " + check.Pytest.Path
	}
}

// environment is what commands are told.
func (s Smoke) environment(check project.Smoke) map[string]string {
	env := map[string]string{"BASE_URL": s.URL, "NAMESPACE": s.Namespace}
	for name, value := range check.Env {
		env[name] = value
	}
	return env
}

// task is the task of a check that is no HTTP check.
func (s Smoke) task(ctx context.Context, c *dagger.Client, check project.Smoke) (Task, error) {
	if check.Pytest != nil {
		return s.pytest(ctx, c, check)
	}
	if check.Command == nil {
		return Task{}, errors.New("a check is neither http nor command nor pytest")
	}
	return Task{
		Name: smokeTask, Namespace: s.Namespace, Image: check.Command.Image, Argv: check.Command.Argv, User: check.Command.User,
		Env: s.environment(check), Secrets: check.Secrets, Timeout: cmp.Or(check.Timeout, 5*time.Minute),
	}, nil
}

// judge makes the result of what the checks said.
func (s Smoke) judge(c *dagger.Client, checks []SmokeCheck) (SmokeResult, error) {
	result := SmokeResult{Checks: checks, Result: step.Result{
		Verdict: graph.Passed, Metrics: map[string]float64{"checks": float64(len(checks)), "failures": 0, "slowest_ms": 0},
		Tools: map[string]string{"python": image.DefaultPython},
	}}
	var failed, output []string
	for _, check := range checks {
		if check.Passed {
			result.Metrics["slowest_ms"] = max(result.Metrics["slowest_ms"], 1000*check.Seconds)
			continue
		}
		result.Metrics["failures"]++
		differences := make([]string, len(check.Wrong))
		for i, d := range check.Wrong {
			differences[i] = fmt.Sprintf("expected %s, and got %s", d.Expected, d.Got)
		}
		message := check.Name + ": " + strings.Join(differences, "; ")
		if check.Tries > 1 {
			message += fmt.Sprintf(" (tried for %s)", s.Startup)
		}
		failed = append(failed, message)
		result.Findings = append(result.Findings, report.Finding{Tool: "smoke", Rule: check.Name, Severity: report.High, Message: strings.Join(differences, "; ")})
		if check.Body != "" {
			output = append(output, check.Name+":\n"+check.Body)
		}
	}
	report.SortFindings(result.Findings)
	if len(failed) > 0 {
		result.Verdict = graph.Failed
		result.Reason = failed[0]
		if len(failed) > 1 {
			result.Reason = fmt.Sprintf("%d of %d smoke tests failed; first %s", len(failed), len(checks), failed[0])
		}
	}
	result.Output = strings.Join(output, "\n\n")
	if len(result.Output) > step.MaxOutput {
		result.Output = result.Output[:step.MaxOutput]
	}
	junit, err := smokeJUnit(checks)
	if err != nil {
		return SmokeResult{}, err
	}
	record, err := json.MarshalIndent(checks, "", "  ")
	if err != nil {
		return SmokeResult{}, fmt.Errorf("write the record of the smoke tests: %w", err)
	}
	result.Reports = c.Directory().WithNewFile("junit.xml", junit).WithNewFile("checks.json", string(record)+"\n")
	return result, nil
}
