package load

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/image"
	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/step"
)

//go:embed k6.sh
var k6Script string

//go:embed wrapper.js
var wrapperText string

var wrapper = template.Must(template.New("wrapper").Parse(wrapperText))

// wrapperName is the script that k6 runs; it lies beside the user's, so that both find the same files.
const wrapperName = "millrace-wrapper.js"

// readable are the files that a script may read: they travel as text.
var readable = []string{".js", ".mjs", ".ts", ".json", ".csv", ".txt", ".proto", ".pem"}

// target is a service that k6 sends load to.
type target struct{ name, url string }

// shot is one go of k6, against one target or several at the same time.
type shot struct {
	script     string
	source     *dagger.Directory
	env        map[string]string
	thresholds map[string][]string
	targets    []target
	timeout    time.Duration
	// namespace to run in, and the cluster; without a namespace k6 runs on the engine.
	namespace string
	cluster   kube.Cluster
}

// yield is what k6 left of one target.
type yield struct {
	exit    int
	log     string
	summary summary
	samples []sample
	files   map[string][]byte
}

// sample is one request.
type sample struct {
	// at is when it ended, in milliseconds since 1970.
	at int64
	// ms is how long it took.
	ms     float64
	failed bool
}

// fire runs k6 and returns what it left, by the target's name.
func (s shot) fire(ctx context.Context, c *dagger.Client) (map[string]yield, error) {
	files, err := s.files(ctx)
	if err != nil {
		return nil, err
	}
	argv := []string{"sh", "/millrace/k6.sh", "/millrace/script/" + wrapperName}
	for _, t := range s.targets {
		argv = append(argv, t.name+"="+t.url)
	}
	var said string
	if s.namespace != "" {
		done, err := kube.Task{
			Name: "millrace-load", Namespace: s.namespace, Image: image.K6, Argv: argv, Files: files, Env: s.env, User: 12345,
			Timeout: s.timeout, LogEnd: endResults, CPU: "2", Memory: "1Gi",
		}.Run(ctx, c, s.cluster)
		switch {
		case err != nil:
			return nil, err
		case done.Late:
			return nil, fmt.Errorf("k6 did not end within %s: shorten the script's duration, or give the load test a longer timeout", s.timeout)
		case done.OutOfMemory:
			return nil, errors.New("k6 took more memory than the 1 GiB that its pod may have: use fewer virtual users, or test a URL from the engine")
		}
		said = done.Log
	} else {
		ctr := c.Container().From(image.K6).WithUser("0")
		for name, text := range files {
			ctr = ctr.WithNewFile("/millrace/"+name, text)
		}
		for name, value := range s.env {
			ctr = ctr.WithEnvVariable(name, value)
		}
		// What a service does under load is never answered from the cache.
		ctr = ctr.WithEnvVariable("MILLRACE_NOW", time.Now().UTC().Format(time.RFC3339Nano))
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		done, err := step.Exec(ctx, ctr, "/millrace/out", "k6", argv)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("k6 did not end within %s: shorten the script's duration, or give the load test a longer timeout", s.timeout)
		}
		if err != nil {
			return nil, err
		}
		if said, err = done.Stdout(ctx); err != nil {
			return nil, err
		}
	}
	return unpack(said, s.targets)
}

// files are what k6 reads, by their path below /millrace: the script's folder, and the wrapper in it.
func (s shot) files(ctx context.Context) (map[string]string, error) {
	folder := s.source.Directory(path.Dir(s.script))
	names, err := folder.Glob(ctx, "**/*")
	if err != nil {
		return nil, fmt.Errorf("list the files of the load test %s: %w", s.script, step.Explain(err))
	}
	if !slices.Contains(names, path.Base(s.script)) {
		return nil, fmt.Errorf("there is no load test %s in the source", s.script)
	}
	files := map[string]string{"k6.sh": k6Script}
	for _, name := range names {
		if strings.HasSuffix(name, "/") || !slices.Contains(readable, path.Ext(name)) {
			continue
		}
		text, err := folder.File(name).Contents(ctx)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, step.Explain(err))
		}
		files["script/"+name] = text
	}
	thresholds, err := json.Marshal(s.thresholds)
	if err != nil {
		return nil, fmt.Errorf("write the thresholds: %w", err)
	}
	if s.thresholds == nil {
		thresholds = []byte("{}")
	}
	var text strings.Builder
	if err := wrapper.Execute(&text, struct{ Script, Thresholds string }{path.Base(s.script), string(thresholds)}); err != nil {
		return nil, fmt.Errorf("write the script for k6: %w", err)
	}
	files["script/"+wrapperName] = text.String()
	return files, nil
}

const (
	beginResults = "-----BEGIN RESULTS-----\n"
	endResults   = "-----END RESULTS-----"
	// maxUnpacked bounds, in bytes, one file of the results.
	maxUnpacked = 256 << 20
)

// unpack reads the archive that k6.sh printed.
func unpack(said string, targets []target) (map[string]yield, error) {
	_, rest, found := strings.Cut(said, beginResults)
	body, _, whole := strings.Cut(rest, endResults)
	switch {
	case found && !whole:
		return nil, fmt.Errorf("the results of k6 did not come whole: its log breaks off after %d KiB of them: run it again", len(body)>>10)
	case !found && strings.Contains(said, endResults):
		return nil, errors.New("the results of k6 did not come whole: its log has their end alone, as where a node keeps no more of a pod: shorten the test, or have it send fewer requests")
	case !found:
		return nil, fmt.Errorf("k6 left no results: %s", cmp.Or(last(said), "it printed nothing"))
	}
	zipped, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(strings.ReplaceAll(body, "\n", ""))))
	if err != nil {
		return nil, fmt.Errorf("read the results of k6: %w", err)
	}
	all := map[string]map[string][]byte{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the results of k6: %w", err)
		}
		name, file, nested := strings.Cut(path.Clean(header.Name), "/")
		if header.Typeflag != tar.TypeReg || !nested {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(archive, maxUnpacked))
		if err != nil {
			return nil, fmt.Errorf("read the results of k6: %s: %w", header.Name, err)
		}
		if all[name] == nil {
			all[name] = map[string][]byte{}
		}
		all[name][file] = data
	}
	yields := map[string]yield{}
	for _, t := range targets {
		y := yield{files: all[t.name]}
		if y.exit, err = strconv.Atoi(strings.TrimSpace(string(y.files["exit.txt"]))); err != nil {
			return nil, fmt.Errorf("k6 left no exit code: %s", last(said))
		}
		y.log = strings.TrimSpace(string(y.files["log.txt"]))
		if text := y.files["summary.json"]; len(text) > 0 {
			if err := json.Unmarshal(text, &y.summary); err != nil {
				return nil, fmt.Errorf("read the summary of k6: %w", err)
			}
		}
		if y.samples, err = parseSamples(y.files["samples.txt"]); err != nil {
			return nil, err
		}
		yields[t.name] = y
	}
	return yields, nil
}

// complaint matches what k6 logs as an error.
var complaint = regexp.MustCompile(`(?m)^.*level=error msg=("(?:[^"\\]|\\.)*").*$`)

// initial matches what k6 says before what is wrong with a script.
var initial = regexp.MustCompile(`^could not initialize '[^']*': could not load JS test '[^']*': `)

// complaints returns the errors in a log of k6, each once; the log's end if there are none.
func complaints(log string) string {
	var all []string
	for _, m := range complaint.FindAllStringSubmatch(log, -1) {
		text, err := strconv.Unquote(m[1])
		if err != nil {
			text = m[1]
		}
		text = initial.ReplaceAllString(strings.TrimSpace(text), "")
		text = strings.ReplaceAll(text, "file:///millrace/script/", "")
		text = strings.Join(strings.Fields(text), " ")
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	if len(all) == 0 {
		return last(log)
	}
	return strings.Join(all[:min(3, len(all))], "; ")
}

// threw counts the iterations that ended with an exception. To k6 that is no failure.
func (y yield) threw() int { return strings.Count(y.log, "source=stacktrace") }

// last returns the end of a log for a message.
func last(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// parseSamples reads k6's CSV rows of http_req_duration and http_req_failed. k6 writes both of a request at once, so the
// nth row of the one belongs to the nth of the other.
func parseSamples(text []byte) ([]sample, error) {
	var durations, failures []sample
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		fields := strings.Split(scanner.Text(), ",")
		if len(fields) < 3 {
			continue
		}
		at, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read k6's samples: %w", err)
		}
		value, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			return nil, fmt.Errorf("read k6's samples: %w", err)
		}
		switch fields[0] {
		case "http_req_duration":
			durations = append(durations, sample{at: at, ms: value})
		case "http_req_failed":
			failures = append(failures, sample{failed: value != 0})
		}
	}
	if len(failures) != 0 && len(failures) != len(durations) {
		return nil, fmt.Errorf("read k6's samples: %d durations, and whether %d of them failed", len(durations), len(failures))
	}
	for i := range failures {
		durations[i].failed = failures[i].failed
	}
	return durations, nil
}

// summary is the data that k6 hands to handleSummary.
type summary struct {
	Metrics map[string]struct {
		Type       string                       `json:"type"`
		Contains   string                       `json:"contains"`
		Values     map[string]float64           `json:"values"`
		Thresholds map[string]struct{ Ok bool } `json:"thresholds"`
	} `json:"metrics"`
	State struct {
		Milliseconds float64 `json:"testRunDurationMs"`
	} `json:"state"`
}

// crossed lists the thresholds that were not met, each with the value that was measured.
func (s summary) crossed() []string {
	var all []string
	for metric, m := range s.Metrics {
		for threshold, state := range m.Thresholds {
			if state.Ok {
				continue
			}
			text := metric + ": " + threshold
			// A threshold begins with the name of what it bounds: p(95)<100.
			what := strings.TrimSpace(threshold[:max(0, strings.IndexAny(threshold+"<", "<>=!"))])
			if value, known := m.Values[what]; known {
				text += fmt.Sprintf(", and it was %s", figure(value))
			}
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return all
}

// figure prints a value without digits that say nothing.
func figure(value float64) string { return strconv.FormatFloat(value, 'g', 4, 64) }

// Exit codes of k6, as its package errext/exitcodes has them.
const (
	thresholdsCrossed = 99
	setupTimeout      = 100
	teardownTimeout   = 101
	invalidConfig     = 104
	scriptException   = 107
	scriptAborted     = 108
)

// verdict says whose fault it is that k6 ended as it did. An error means that it is neither the script's nor the service's.
func (y yield) verdict() (graph.Verdict, string, error) {
	switch y.exit {
	case 0:
		switch threw := y.threw(); {
		case len(y.samples) == 0 && threw > 0:
			return graph.Failed, "the script made no request: " + complaints(y.log), nil
		case len(y.samples) == 0:
			return graph.Failed, "the script made no request", nil
		case threw > 0:
			return graph.Passed, fmt.Sprintf("warning: %d iterations ended with an exception: %s", threw, complaints(y.log)), nil
		}
		return graph.Passed, "", nil
	case thresholdsCrossed:
		if crossed := y.summary.crossed(); len(crossed) > 0 {
			return graph.Failed, "thresholds crossed: " + strings.Join(crossed, "; "), nil
		}
		return graph.Failed, "thresholds crossed: " + complaints(y.log), nil
	case setupTimeout, teardownTimeout:
		return graph.Failed, "the script's setup or teardown took too long: " + complaints(y.log), nil
	case invalidConfig:
		return graph.Failed, "k6 does not understand the options of the script, or the thresholds of the configuration: " + complaints(y.log), nil
	case scriptException:
		return graph.Failed, "the script has an error: " + complaints(y.log), nil
	case scriptAborted:
		return graph.Failed, "the script ended the test: " + complaints(y.log), nil
	}
	return "", "", fmt.Errorf("k6 broke, with exit code %d\n%s", y.exit, complaints(y.log))
}
