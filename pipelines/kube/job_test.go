package kube

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/project"
)

func aJob() Job {
	return Job{
		Name: "train", Image: "example.com/train@sha256:00", Count: 5, Watch: "train", CPUs: 2, MemoryMiB: 512, Timeout: 30 * time.Minute,
		Steps: []JobStep{{"fetch", []string{"a"}}, {"train", []string{"$(b)"}}, {"put", []string{"c"}}}, Files: map[string]string{"plan": "signed"},
		Folders: []string{"/data"},
		Where: project.Kubernetes{
			Namespace: "ml", Parallelism: 2, StartWithin: 10 * time.Minute, NodeSelector: map[string]string{"pool": "large"}, PullSecrets: []string{"login"},
			Tolerations: []project.Toleration{{Key: "pool", Operator: "Exists"}}, Resources: map[string]string{"nvidia.com/gpu": "1"},
		},
	}
}

// object returns an object as the cluster gets it.
func written(t *testing.T, o Object) Object {
	t.Helper()
	text, err := json.Marshal(o)
	require.NoError(t, err)
	back, err := decode(text)
	require.NoError(t, err)
	return back
}

func TestJobObjects(t *testing.T) {
	t.Parallel()
	made, err := aJob().objects("train-1")
	require.NoError(t, err)
	job := written(t, made[1])
	require.Equal(t, "Indexed", job.text("spec", "completionMode"))
	require.Equal(t, 5, job.number("spec", "completions"))
	require.Equal(t, 2, job.number("spec", "parallelism"))
	require.Equal(t, json.Number("0"), job.at("spec", "backoffLimitPerIndex"), "one that fails stops no other")
	// Three waves of two, two and one.
	require.Equal(t, int((10+3*40)*time.Minute/time.Second), job.number("spec", "activeDeadlineSeconds"))
	require.Positive(t, job.number("spec", "ttlSecondsAfterFinished"))
	pod := job.template()
	require.Equal(t, 40*60, pod.number("spec", "activeDeadlineSeconds"))
	require.Equal(t, "large", pod.text("spec", "nodeSelector", "pool"))
	require.Equal(t, "Exists", pod.list("spec", "tolerations")[0].text("operator"))
	require.Equal(t, "login", pod.list("spec", "imagePullSecrets")[0].text("name"))
	require.Equal(t, true, pod.at("spec", "securityContext", "runAsNonRoot"))
	require.Equal(t, false, pod.at("spec", "automountServiceAccountToken"))
	containers := pod.containers()
	require.Len(t, containers, 3)
	for _, c := range containers {
		require.Equal(t, c.at("resources", "requests"), c.at("resources", "limits"))
		require.Equal(t, map[string]any{"cpu": "2", "memory": "512Mi", "nvidia.com/gpu": "1"}, c.at("resources", "limits"))
		require.Equal(t, false, c.at("securityContext", "allowPrivilegeEscalation"))
	}
	require.Equal(t, []any{"$$(b)"}, containers[1].at("command"))
	require.NotContains(t, encode(made[1:]), "signed", "what is secret stands in the Secret alone")

	one := aJob()
	one.Count = 1
	made, err = one.objects("train-1")
	require.NoError(t, err)
	require.Nil(t, made[1].at("spec", "completionMode"))
	require.Equal(t, 0, made[1].at("spec", "backoffLimit"))

	one.Files["plan"] = strings.Repeat("x", maxJobFiles)
	one.Files["more"] = "x"
	_, err = one.objects("train-1")
	require.ErrorContains(t, err, "use a smaller grid")
}

func TestJobsThatAreNotBoundedMayRunOneByOne(t *testing.T) {
	t.Parallel()
	j := aJob()
	j.Where.Parallelism = 0
	require.Equal(t, (10+5*40)*time.Minute, j.Deadline())
}

func TestHowAPodEnded(t *testing.T) {
	t.Parallel()
	ended := func(name string, code int, reason string) map[string]any {
		return map[string]any{"name": name, "state": map[string]any{"terminated": map[string]any{"exitCode": code, "reason": reason, "message": "unable to start container process: no python3"}}}
	}
	for name, test := range map[string]struct {
		status    map[string]any
		want      Ended
		container string
	}{
		"well":              {map[string]any{"phase": "Succeeded"}, Ended{Done: true}, ""},
		"with an exit code": {map[string]any{"phase": "Failed", "initContainerStatuses": []any{ended("fetch", 0, "Completed"), ended("train", 200, "Error")}}, Ended{Step: "train", ExitCode: 200}, "train"},
		"out of memory":     {map[string]any{"phase": "Failed", "initContainerStatuses": []any{ended("train", 137, "OOMKilled")}}, Ended{Step: "train", ExitCode: 137, OutOfMemory: true}, "train"},
		"not started":       {map[string]any{"phase": "Failed", "initContainerStatuses": []any{ended("fetch", 128, "StartError")}}, Ended{Step: "fetch", ExitCode: 128, NotStarted: "no python3"}, ""},
		"late":              {map[string]any{"phase": "Failed", "reason": "DeadlineExceeded"}, Ended{Late: true}, ""},
		"evicted":           {map[string]any{"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}, Ended{Lost: "Evicted: The node was low on memory."}, ""},
		"drained": {map[string]any{"phase": "Failed", "conditions": []any{map[string]any{"type": "DisruptionTarget", "status": "True", "message": "Eviction API: evicting"}}},
			Ended{Lost: "Eviction API: evicting"}, ""},
		"not yet": {map[string]any{"phase": "Running"}, Ended{Lost: "its pod had not ended"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, container := endOf(written(t, Object{"status": test.status}))
			require.Equal(t, test.want, got)
			require.Equal(t, test.container, container)
		})
	}
}

func TestLinesAreToldOnce(t *testing.T) {
	t.Parallel()
	var told []string
	w := jobWatch{Job: Job{Progress: func(index int, line string) { told = append(told, string(rune('0'+index))+" "+line) }}, told: map[string]time.Time{}}
	pod := func(name, index string) Object {
		return Object{"metadata": map[string]any{"name": name, "annotations": map[string]any{"batch.kubernetes.io/job-completion-index": index}}}
	}
	s := state{pods: []Object{pod("a", "0"), pod("b", "2")}}
	require.Empty(t, w.since())
	first := "[pod/a/train] 2026-01-02T03:04:05.1Z one\n[pod/b/train] 2026-01-02T03:04:06.25Z two\n"
	w.tell(s, first)
	require.Equal(t, "2026-01-02T03:04:05Z", w.since(), "what the slowest has printed since")
	w.tell(s, first+"[pod/a/train] 2026-01-02T03:04:05.11Z three] more\nerror: the container is not there yet\n[pod/c/train] 2026-01-02T03:04:07Z of nobody\n")
	require.Equal(t, []string{"0 one", "2 two", "0 three] more"}, told)
}
