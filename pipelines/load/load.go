// Package load tests how a deployed service bears load, with k6, and measures two versions side by side.
package load

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/report"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Test puts a deployed service under load and compares it with the runs that were accepted before.
//
// k6 runs as a pod in the service's namespace: there it takes the way that other pods take, through the service to all of
// its pods, which no tunnel does. With External it runs on the engine instead, against an address that is reached from there.
type Test struct {
	// Namespace of the service.
	Namespace string
	// URL of the service as pods reach it, such as http://api: the script's BASE_URL.
	URL string
	// External is a URL that the engine reaches, such as an ingress; then k6 runs there.
	External string
	// Script is the k6 script's path in the source. Its folder is taken along; what lies elsewhere is not.
	Script string
	// Env are environment variables for the script.
	Env map[string]string
	// Thresholds are k6's, by metric, on top of the script's own.
	Thresholds map[string][]string
	// Tolerance says how much worse than the baseline a run may be.
	Tolerance Tolerance
	// Commit is what the service was built from, for the record.
	Commit string
	// Accept makes this run the baseline although it is worse: what got slower did so on purpose.
	Accept bool
	// Timeout of the whole test; 30 minutes by default.
	Timeout time.Duration
}

// Result is what a load test measured.
type Result struct {
	step.Result
	// Comparison is the run beside its baseline.
	Comparison Comparison
	// Profiles are what each pod of the namespace used.
	Profiles []Profile
}

// Run runs the test on the script in src. cluster may be the zero value with External: then nothing is compared or profiled.
//
// Reports: index.html, k6.html (k6's own, for tests of some seconds), summary.json, comparison.json, profile.json, k6.log.
// Metrics: requests, requests_per_second, error_percent, p50_ms, p95_ms, p99_ms.
func (t Test) Run(ctx context.Context, c *dagger.Client, src *dagger.Directory, cluster kube.Cluster) (Result, error) {
	if t.Script == "" {
		return Result{Result: step.Skip("no load test: put a k6 script into a folder loadtest, or name one under load_tests in millrace.yaml")}, nil
	}
	t.Timeout = cmp.Or(t.Timeout, 30*time.Minute)
	s := shot{
		script: t.Script, source: src, env: t.Env, thresholds: t.Thresholds, timeout: t.Timeout, cluster: cluster,
		namespace: t.Namespace, targets: []target{{"target", t.URL}},
	}
	if t.External != "" {
		s.namespace, s.targets = "", []target{{"target", t.External}}
	} else if t.URL == "" {
		return Result{}, errors.New("the load test has no address: give the environment a url, such as http://api")
	}
	digest, err := s.digest(ctx)
	if err != nil {
		return Result{}, err
	}
	var held []Record
	known := cluster.Kubeconfig != nil
	if known {
		if held, err = baseline(ctx, c, cluster, t.Namespace, t.Script); err != nil {
			return Result{}, err
		}
	}
	y, used, unread, err := t.fire(ctx, c, s, cluster)
	if err != nil {
		return Result{}, fmt.Errorf("load test %s: %w", t.Script, err)
	}
	verdict, reason, err := y.verdict()
	if err != nil {
		return Result{}, fmt.Errorf("load test %s: %w", t.Script, err)
	}
	run := record(y.samples)
	run.Script, run.Commit, run.When = digest, t.Commit, time.Now().UTC().Truncate(time.Second)
	result := Result{Profiles: profiles(used)}
	result.Verdict, result.Reason = verdict, reason
	if verdict == graph.Passed {
		result.Comparison = t.compare(&result, run, held, known)
	}
	if result.Verdict == graph.Passed && known && usable(run) {
		if err := accept(ctx, c, cluster, t.Namespace, t.Script, held, run, t.Accept); err != nil {
			// The service did well; only the next run has less to be compared with.
			result.Reason = strings.TrimPrefix(result.Reason+"; warning: "+err.Error(), "; ")
		}
	}
	result.Metrics = metrics(run, y)
	result.Tools = map[string]string{"k6": image.K6[strings.LastIndexByte(image.K6, ':')+1:]}
	result.Findings = findings(y, result.Comparison)
	result.Output = t.text(y, result, unread)
	result.Reports, err = t.reports(c, y, run, result, unread)
	return result, err
}

// digest tells one script from another, by all that it reads.
func (s shot) digest(ctx context.Context) (string, error) {
	files, err := s.files(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, "script/") && name != "script/"+wrapperName {
			fmt.Fprintf(sum, "%d %s %d %s", len(name), name, len(files[name]), files[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.env)) {
		fmt.Fprintf(sum, "%d %s %d %s", len(name), name, len(s.env[name]), s.env[name])
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// fire runs k6 while what the pods use is read.
func (t Test) fire(ctx context.Context, c *dagger.Client, s shot, cluster kube.Cluster) (yield, []Reading, string, error) {
	done, watched := make(chan struct{}), make(chan struct{})
	var readings []Reading
	unread := "there is no cluster to ask"
	go func() {
		defer close(watched)
		if cluster.Kubeconfig != nil {
			readings, unread = watch(ctx, c, cluster, t.Namespace, done)
		}
	}()
	yields, err := s.fire(ctx, c)
	close(done)
	<-watched
	if err != nil {
		return yield{}, nil, "", err
	}
	return yields["target"], readings, unread, nil
}

// compare puts the comparison's part into the result.
func (t Test) compare(result *Result, run Record, held []Record, known bool) Comparison {
	if !known {
		return Comparison{Reason: "not compared: without a kubeconfig there is no baseline"}
	}
	comparison := Compare(run, held, t.Tolerance)
	note := func(text string) { result.Reason = strings.TrimPrefix(result.Reason+"; "+text, "; ") }
	switch {
	case comparison.Worse && t.Accept:
		note("accepted although " + comparison.Reason)
	case comparison.Worse:
		result.Verdict = graph.Failed
		note(comparison.Reason + " (if that is meant, accept it with: ci load-test --accept)")
	case !comparison.Compared:
		note("not compared: " + comparison.Reason)
	}
	return comparison
}

// metrics are the figures that machines read.
func metrics(run Record, y yield) map[string]float64 {
	m := map[string]float64{"requests": float64(run.requests())}
	if run.requests() == 0 {
		return m
	}
	d := y.summary.Metrics["http_req_duration"].Values
	m["p50_ms"], m["p95_ms"], m["p99_ms"] = d["med"], d["p(95)"], d["p(99)"]
	failed := 0
	for _, b := range run.Blocks {
		failed += b.Failed
	}
	m["error_percent"] = 100 * float64(failed) / float64(run.requests())
	if took := y.summary.State.Milliseconds; took > 0 {
		m["requests_per_second"] = float64(run.requests()) / took * 1000
	}
	return m
}

func findings(y yield, comparison Comparison) []report.Finding {
	var all []report.Finding
	for _, text := range y.summary.crossed() {
		all = append(all, report.Finding{Tool: "k6", Rule: "threshold", Severity: report.High, Message: text})
	}
	for _, f := range comparison.Figures {
		if f.Worse {
			all = append(all, report.Finding{Tool: "k6", Rule: "baseline", Severity: report.High,
				Message: fmt.Sprintf("%s is %s, and was %s", f.Name, figure(f.Current), figure(f.Baseline))})
		}
	}
	report.SortFindings(all)
	return all
}

// text is what a person reads first.
func (t Test) text(y yield, result Result, unread string) string {
	var b strings.Builder
	m := result.Metrics
	fmt.Fprintf(&b, "%s: %.0f requests, %.1f a second, %.2f %% failed, p50 %.1f ms, p95 %.1f ms, p99 %.1f ms\n",
		t.Script, m["requests"], m["requests_per_second"], m["error_percent"], m["p50_ms"], m["p95_ms"], m["p99_ms"])
	for _, f := range result.Comparison.Figures {
		fmt.Fprintf(&b, "%s: %s, baseline %s\n", f.Name, figure(f.Current), figure(f.Baseline))
	}
	for _, p := range result.Profiles {
		fmt.Fprintf(&b, "%s: %.2f cores (%.2f at most), %.0f MiB (%.0f at most)\n", p.Pod, p.MeanCores, p.MaxCores, p.MeanMemory, p.MaxMemory)
	}
	if len(result.Profiles) == 0 && unread != "" {
		fmt.Fprintf(&b, "what the pods used is not known: %s\n", unread)
	}
	if y.exit != 0 && len(y.log) > 0 {
		b.WriteString(y.log[max(0, len(y.log)-8<<10):])
	}
	return strings.TrimSpace(b.String())
}

// reports are the files for people and machines.
func (t Test) reports(c *dagger.Client, y yield, run Record, result Result, unread string) (*dagger.Directory, error) {
	dir := c.Directory().WithNewFile("k6.log", strings.ToValidUTF8(y.log, "\uFFFD")+"\n")
	for name, value := range map[string]any{"comparison.json": result.Comparison, "profile.json": result.Profiles} {
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		dir = dir.WithNewFile(name, string(text)+"\n")
	}
	if text := y.files["summary.json"]; len(text) > 0 {
		dir = dir.WithNewFile("summary.json", string(text))
	}
	own := y.files["k6.html"]
	if len(own) > 0 {
		dir = dir.WithNewFile("k6.html", string(own))
	}
	page, err := t.page(run, result, unread, len(own) > 0)
	if err != nil {
		return nil, err
	}
	return dir.WithNewFile("index.html", page), nil
}
