package load

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/step"
)

//go:embed usage.sh
var usageScript string

// Reading is what a pod used at a time.
type Reading struct {
	// When is zero for a pod that nobody has looked at yet.
	When time.Time `json:"when"`
	Pod  string    `json:"pod"`
	// CPUSeconds is the pod's counter of processor time; 0 where only Cores is known.
	CPUSeconds float64 `json:"cpuSeconds,omitempty"`
	// Cores is how many cores it used of late; only from the metrics API.
	Cores float64 `json:"cores,omitempty"`
	// Memory is the working set in bytes: what the limit is held against.
	Memory float64 `json:"memory"`
}

// Profile is what a pod used during a load test.
type Profile struct {
	Pod string `json:"pod"`
	// MeanCores and MaxCores are processor cores; MaxCores is the most between two readings.
	MeanCores float64 `json:"meanCores"`
	MaxCores  float64 `json:"maxCores"`
	// MeanMemory and MaxMemory are in MiB.
	MeanMemory float64 `json:"meanMemoryMiB"`
	MaxMemory  float64 `json:"maxMemoryMiB"`
	// Points are for the chart.
	Points []Point `json:"points"`
}

// Point is what a pod used until a time since the first reading.
type Point struct {
	Seconds float64 `json:"seconds"`
	Cores   float64 `json:"cores"`
	Memory  float64 `json:"memoryMiB"`
}

// afterglow is how long a watch goes on after the end of a load that was too short for the kubelets to look twice.
const afterglow = 25 * time.Second

// watch reads what the pods of a namespace use, every two seconds, until done is closed. It says why if it can't.
//
// The kubelets are asked through the API server, which takes the right to read nodes/proxy; else the metrics API, if the
// cluster has one. The kubelets themselves look every ten seconds or so, by default.
func watch(ctx context.Context, c *dagger.Client, cluster kube.Cluster, namespace string, done <-chan struct{}) ([]Reading, string) {
	batch, cancel := context.WithCancel(ctx)
	defer cancel()
	var readings []Reading
	go func() {
		select {
		case <-done:
			cancel()
		case <-batch.Done():
		}
	}()
	for batch.Err() == nil {
		some, problem, err := read(batch, c, cluster, namespace)
		switch {
		case batch.Err() != nil: // the last batch was cut off
		case err != nil:
			return readings, err.Error()
		case len(some) == 0 && problem != "":
			return readings, problem
		}
		readings = append(readings, some...)
	}
	late, end := context.WithTimeout(ctx, afterglow)
	defer end()
	for late.Err() == nil && len(readings) > 0 && !suffices(readings) {
		some, _, err := read(late, c, cluster, namespace)
		if err != nil {
			break
		}
		readings = append(readings, some...)
	}
	return readings, "the kubelets did not look at the pods in time"
}

// suffices tells whether some pod was looked at twice: the processor's use is the difference between two looks.
func suffices(readings []Reading) bool {
	first := map[string]time.Time{}
	for _, r := range readings {
		if r.When.IsZero() {
			continue
		}
		if when, seen := first[r.Pod]; seen && !when.Equal(r.When) {
			return true
		}
		first[r.Pod] = r.When
	}
	return false
}

// read takes a batch of readings: a container for each one would cost more than what is measured.
func read(ctx context.Context, c *dagger.Client, cluster kube.Cluster, namespace string) ([]Reading, string, error) {
	tools, err := cluster.Tools(ctx, c)
	if err != nil {
		return nil, "", err
	}
	done, err := step.Exec(ctx, tools.WithNewFile("/millrace/usage.sh", usageScript).WithNewFile("/millrace/usage/errors.txt", ""),
		"/millrace/out", "usage", []string{"sh", "/millrace/usage.sh", namespace, "3", "2"})
	if err != nil {
		return nil, "", err
	}
	folder := done.Container.Directory("/millrace/usage")
	names, err := folder.Entries(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read what the pods use: %w", step.Explain(err))
	}
	var all []Reading
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		text, err := folder.File(name).Contents(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("read what the pods use: %w", step.Explain(err))
		}
		if strings.HasSuffix(name, ".summary.json") {
			all = append(all, parseKubelet(text, namespace)...)
		} else {
			all = append(all, parseMetrics(text)...)
		}
	}
	said, err := done.File(ctx, "/millrace/usage/errors.txt")
	if err != nil {
		return nil, "", err
	}
	return all, last(said), nil
}

// parseKubelet reads a kubelet's stats/summary.
func parseKubelet(text, namespace string) []Reading {
	var answer struct {
		Pods []struct {
			PodRef struct{ Name, Namespace string } `json:"podRef"`
			CPU    struct {
				Time  time.Time `json:"time"`
				Total *float64  `json:"usageCoreNanoSeconds"`
			} `json:"cpu"`
			Memory struct {
				WorkingSet *float64 `json:"workingSetBytes"`
			} `json:"memory"`
		} `json:"pods"`
	}
	if json.Unmarshal([]byte(text), &answer) != nil {
		return nil // an answer that was cut off, or a refusal, which errors.txt has
	}
	var all []Reading
	for _, p := range answer.Pods {
		if p.PodRef.Namespace != namespace || isOurs(p.PodRef.Name) {
			continue
		}
		reading := Reading{Pod: p.PodRef.Name}
		// A pod that just began has an entry, and no figures yet, or zeros.
		if p.CPU.Total != nil && p.Memory.WorkingSet != nil && *p.Memory.WorkingSet > 0 {
			reading = Reading{When: p.CPU.Time, Pod: p.PodRef.Name, CPUSeconds: *p.CPU.Total / 1e9, Memory: *p.Memory.WorkingSet}
		}
		all = append(all, reading)
	}
	return all
}

// parseMetrics reads a list of the metrics API.
func parseMetrics(text string) []Reading {
	var answer struct {
		Items []struct {
			Metadata   struct{ Name string }
			Timestamp  time.Time
			Containers []struct {
				Usage struct{ CPU, Memory string }
			}
		}
	}
	if json.Unmarshal([]byte(text), &answer) != nil {
		return nil
	}
	var all []Reading
	for _, p := range answer.Items {
		if isOurs(p.Metadata.Name) {
			continue
		}
		r := Reading{When: p.Timestamp, Pod: p.Metadata.Name}
		for _, container := range p.Containers {
			r.Cores += quantity(container.Usage.CPU)
			r.Memory += quantity(container.Usage.Memory)
		}
		all = append(all, r)
	}
	return all
}

// isOurs tells the pods that make the load from those that bear it.
func isOurs(pod string) bool {
	return strings.HasPrefix(pod, "millrace-load-") || strings.HasPrefix(pod, "millrace-smoke-")
}

// quantity reads a quantity of Kubernetes as metrics have them: 12345678n, 250m, 64Mi; 0 for what it can't read.
func quantity(text string) float64 {
	number := strings.TrimRight(text, "numkKMGTi")
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0
	}
	return value * map[string]float64{
		"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
	}[text[len(number):]]
}

// profiles sums up the readings of each pod. A kubelet gives the same reading again until it has a new one.
func profiles(readings []Reading) []Profile {
	byPod := map[string][]Reading{}
	var first time.Time
	for _, r := range readings {
		if r.When.IsZero() {
			continue
		}
		byPod[r.Pod] = append(byPod[r.Pod], r)
		if first.IsZero() || r.When.Before(first) {
			first = r.When
		}
	}
	var all []Profile
	for _, pod := range slices.Sorted(maps.Keys(byPod)) {
		rs := byPod[pod]
		slices.SortFunc(rs, func(a, b Reading) int { return a.When.Compare(b.When) })
		rs = slices.CompactFunc(rs, func(a, b Reading) bool { return a.When.Equal(b.When) })
		p := Profile{Pod: pod}
		for i, r := range rs {
			memory := r.Memory / (1 << 20)
			p.MeanMemory += memory / float64(len(rs))
			p.MaxMemory = max(p.MaxMemory, memory)
			cores := r.Cores
			if r.CPUSeconds > 0 {
				cores = 0
				if i > 0 {
					cores = max(0, r.CPUSeconds-rs[i-1].CPUSeconds) / r.When.Sub(rs[i-1].When).Seconds()
				}
			} else {
				p.MeanCores += cores / float64(len(rs))
			}
			p.MaxCores = max(p.MaxCores, cores)
			p.Points = append(p.Points, Point{Seconds: r.When.Sub(first).Seconds(), Cores: cores, Memory: memory})
		}
		if n := len(rs); n > 1 && rs[n-1].CPUSeconds > 0 {
			p.MeanCores = max(0, rs[n-1].CPUSeconds-rs[0].CPUSeconds) / rs[n-1].When.Sub(rs[0].When).Seconds()
		}
		all = append(all, p)
	}
	return all
}
