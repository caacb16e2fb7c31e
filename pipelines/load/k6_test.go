package load

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// printed is what k6.sh prints when it has left these files.
func printed(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	archive := tar.NewWriter(zip)
	for name, text := range files {
		require.NoError(t, archive.WriteHeader(&tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}))
		_, err := archive.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	require.NoError(t, zip.Close())
	text := base64.StdEncoding.EncodeToString(b.Bytes())
	var lines strings.Builder
	for len(text) > 76 {
		lines.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return "some noise\n" + beginResults + lines.String() + text + "\n" + endResults + "\n"
}

const summaryText = `{"metrics":{"http_req_duration":{"type":"trend","contains":"time","values":{"p(90)":56.3,"p(95)":62.05,"p(99)":71.3,
"avg":50.3,"min":5.4,"med":49.9,"max":77.1},"thresholds":{"p(95)<1":{"ok":false},"max<100":{"ok":true}}},
"http_req_failed":{"type":"rate","contains":"default","values":{"rate":0.5,"passes":1,"fails":1},"thresholds":{"rate<0.01":{"ok":false}}}},
"state":{"testRunDurationMs":4036.5}}`

func TestUnpack(t *testing.T) {
	t.Parallel()
	targets := []target{{"target", "http://api"}}
	got, err := unpack(printed(t, map[string]string{
		"target/exit.txt": "99\n", "target/log.txt": "said\n", "target/summary.json": summaryText,
		"target/samples.txt": "http_req_duration,1795646960962,12.5\nhttp_req_failed,1795646960962,1.0\nhttp_req_duration,1795646961000,3.0\nhttp_req_failed,1795646961000,0.0\n",
	}), targets)
	require.NoError(t, err)
	y := got["target"]
	require.Equal(t, []sample{{1795646960962, 12.5, true}, {1795646961000, 3, false}}, y.samples)
	verdict, reason, err := y.verdict()
	require.NoError(t, err)
	require.Equal(t, graph.Failed, verdict)
	require.Equal(t, "thresholds crossed: http_req_duration: p(95)<1, and it was 62.05; http_req_failed: rate<0.01, and it was 0.5", reason)

	for said, want := range map[string]string{
		"":                  "left no results: it printed nothing",
		"sh: k6: not found": "left no results: sh: k6: not found",
		printed(t, map[string]string{"target/log.txt": "x"}): "k6 left no exit code",
	} {
		_, err := unpack(said, targets)
		require.ErrorContains(t, err, want)
	}
	cut := printed(t, map[string]string{"target/exit.txt": "0"})
	_, err = unpack(cut[:len(cut)-40], targets)
	require.EqualError(t, err, "the results of k6 did not come whole: its log breaks off after 0 KiB of them: run it again")
	_, err = unpack(cut[len(beginResults):], targets)
	require.ErrorContains(t, err, "its log has their end alone")
}

// What a script prints last is what its log is read for.
func TestScriptsPrintTheirEnd(t *testing.T) {
	t.Parallel()
	require.Contains(t, k6Script, "echo \""+endResults+"\"\n")
	require.Contains(t, prometheusScript, "print(\""+endAnswers+"\", flush=True)\n")
}

// The logs are k6 1.6.1's.
func TestVerdictOfK6(t *testing.T) {
	t.Parallel()
	initial := `time="2026-11-25T22:49:31Z" level=error msg="could not initialize '/millrace/script/millrace-wrapper.js': could not load JS test 'file:///millrace/script/millrace-wrapper.js': `
	boom := `time="2026-11-25T22:49:31Z" level=error msg="Error: boom\n\tat default (file:///millrace/script/throws.js:1:34(3))\n" executor=shared-iterations scenario=default source=stacktrace`
	for name, test := range map[string]struct {
		y      yield
		want   graph.Verdict
		reason string
	}{
		"syntax": {yield{exit: 107, log: initial + `file:///millrace/script/syntax.js: Line 2:1 Unexpected end of input (and 4 more errors)" hint="script exception"`}, graph.Failed,
			"the script has an error: syntax.js: Line 2:1 Unexpected end of input (and 4 more errors)"},
		"options":         {yield{exit: 104, log: initial + `strconv.ParseInt: parsing \"many\": invalid syntax"`}, graph.Failed, `k6 does not understand the options of the script, or the thresholds of the configuration: strconv.ParseInt: parsing "many": invalid syntax`},
		"no metric":       {yield{exit: 104, log: `level=error msg="invalid threshold defined on nosuch; reason: no metric name \"nosuch\" found"`}, graph.Failed, `no metric name "nosuch" found`},
		"aborted":         {yield{exit: 108, log: `level=error msg="test aborted: no at default (file:///millrace/script/abort.js:1:76(6))"`}, graph.Failed, "the script ended the test: test aborted: no at default (abort.js:1:76(6))"},
		"all threw":       {yield{log: boom}, graph.Failed, "the script made no request: Error: boom at default (throws.js:1:34(3))"},
		"some threw":      {yield{log: boom, samples: []sample{{}}}, graph.Passed, "warning: 1 iterations ended with an exception: Error: boom"},
		"nothing":         {yield{}, graph.Failed, "the script made no request"},
		"good":            {yield{samples: []sample{{}}}, graph.Passed, ""},
		"slow setup":      {yield{exit: 100}, graph.Failed, "setup or teardown took too long"},
		"without summary": {yield{exit: 99, log: "x"}, graph.Failed, "thresholds crossed: x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verdict, reason, err := test.y.verdict()
			require.NoError(t, err)
			require.Equal(t, test.want, verdict)
			require.Contains(t, reason, test.reason)
		})
	}
	for _, exit := range []int{1, 103, 105, 106, 109, 137} {
		_, _, err := yield{exit: exit, log: "panic: oh"}.verdict()
		require.ErrorContains(t, err, "k6 broke, with exit code")
	}
}

func TestBaselineIsKept(t *testing.T) {
	t.Parallel()
	run := record([]sample{{at: 1, ms: 5}, {at: 3000, ms: 50, failed: true}})
	run.Script, run.Commit, run.When = "abc", "def", time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	text, err := pack([]Record{run})
	require.NoError(t, err)
	got, err := parseBaseline(text)
	require.NoError(t, err)
	require.Equal(t, []Record{run}, got)
	_, err = parseBaseline("rubbish")
	require.ErrorContains(t, err, "read the baseline")
	require.Equal(t, "loadtest_load.js.json.gz", baselineKey("./loadtest/load.js"))
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	kubelet := func(second int, cpu string) string {
		return `{"pods":[{"podRef":{"name":"api-1","namespace":"shop"},"cpu":{"time":"2026-11-25T12:00:` + string(rune('0'+second/10)) + string(rune('0'+second%10)) + `Z","usageNanoCores":1,"usageCoreNanoSeconds":` + cpu + `},
		"memory":{"workingSetBytes":104857600}},
		{"podRef":{"name":"millrace-load-ab","namespace":"shop"},"cpu":{"time":"2026-11-25T12:00:00Z","usageCoreNanoSeconds":5},"memory":{}},
		{"podRef":{"name":"new","namespace":"shop"},"cpu":{"time":"2026-11-25T12:00:00Z"},"memory":{}},
		{"podRef":{"name":"other","namespace":"kube-system"},"cpu":{"time":"2026-11-25T12:00:00Z","usageCoreNanoSeconds":5},"memory":{}}]}`
	}
	var all []Reading
	for _, text := range []string{kubelet(0, "1000000000"), kubelet(10, "3000000000"), kubelet(10, "3000000000"), kubelet(20, "13000000000"), "forbidden"} {
		all = append(all, parseKubelet(text, "shop")...)
	}
	require.False(t, suffices(all[:2]), "a pod without figures counts as one, and one look is no rate")
	require.True(t, suffices(all))
	got := profiles(all)
	require.Len(t, got, 1)
	require.Equal(t, "api-1", got[0].Pod)
	require.InDelta(t, 0.6, got[0].MeanCores, 1e-9)
	require.InDelta(t, 1.0, got[0].MaxCores, 1e-9)
	require.InDelta(t, 100, got[0].MaxMemory, 1e-9)
	require.Len(t, got[0].Points, 3, "the same reading twice is one")

	api := profiles(parseMetrics(`{"items":[{"metadata":{"name":"api-1"},"timestamp":"2026-11-25T12:00:00Z","containers":[
		{"usage":{"cpu":"250m","memory":"64Mi"}},{"usage":{"cpu":"12345678n","memory":"1024Ki"}}]}]}`))
	require.InDelta(t, 0.262345678, api[0].MeanCores, 1e-9)
	require.InDelta(t, 65, api[0].MeanMemory, 1e-9)
	require.Empty(t, profiles(nil))
}

func TestPage(t *testing.T) {
	t.Parallel()
	var samples []sample
	for i := range 600 {
		samples = append(samples, sample{at: int64(i) * 10, ms: float64(i%40 + 1)})
	}
	run := record(samples)
	result := Result{Profiles: []Profile{{Pod: "api-<1>", MaxCores: 1, Points: []Point{{0, 0, 10}, {10, 1, 20}}}}, Comparison: Compare(run, []Record{run}, Tolerance{})}
	result.Result = step.Result{Verdict: graph.Passed, Metrics: map[string]float64{"requests": 600}}
	page, err := Test{Script: "load.js"}.page(run, result, "", true)
	require.NoError(t, err)
	for _, part := range []string{"Load test load.js", "<svg", "p95 ms", "api-&lt;1&gt;", `href="k6.html"`, "1 accepted run;"} {
		require.Contains(t, page, part)
	}
	require.NotContains(t, page, "<1>")
	page, err = Test{Script: "load.js"}.page(Record{}, Result{}, "nobody may ask", false)
	require.NoError(t, err)
	require.Contains(t, page, "Not known: nobody may ask")
}
