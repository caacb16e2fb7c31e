package kube

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/graph"
	"github.com/millrace-ci/millrace/pipelines/step"
)

// Task is a command that runs to its end in a pod of its own, so that it reaches what other pods do: services by their
// name, through the network policies that hold in the namespace. The pod keeps to the restricted pod security standard.
//
// It is removed afterwards. A run that is killed leaves a pod that ends by its own deadline and that the next task removes.
type Task struct {
	// Name is what the pod's name begins with.
	Name string
	// Namespace to run in.
	Namespace string
	// Image, as the cluster pulls it.
	Image string
	// Argv is the program with its arguments; the image's own if empty.
	Argv []string
	// Env are environment variables.
	Env map[string]string
	// Secrets are environment variables that the cluster takes from a Secret of the namespace, as secret/key.
	Secrets map[string]string
	// Files are texts by their path below /millrace; at most 200 KiB altogether.
	Files map[string]string
	// Bundle is sent to the program /millrace/receive.py once the pod runs. It takes the right to exec into pods.
	Bundle *dagger.File
	// User is the number of the user; 65532 by default.
	User int
	// Timeout of the command; 5 minutes by default.
	Timeout time.Duration
	// LogEnd is the line that the log of a command ends with whose exit code is 0: it is read until it is whole.
	LogEnd string
	// CPU and Memory are the limits; "1" and 512Mi by default.
	CPU, Memory string
}

// TaskResult is what a task left.
type TaskResult struct {
	// ExitCode is the command's.
	ExitCode int
	// Log is what it printed, to both its outputs.
	Log string
	// Late reports that it was ended because its time was over.
	Late bool
	// OutOfMemory reports that it was ended because it took more memory than its limit.
	OutOfMemory bool
}

//go:embed task.sh
var taskScript string

// maxTaskFiles bounds, in bytes, the files of a task: they travel in the pod's annotations.
const maxTaskFiles = 200 << 10

const taskOut = "/millrace/out"

// Run runs the task. An error means that it could not be run, and says why the cluster did not.
func (t Task) Run(ctx context.Context, c *dagger.Client, cluster Cluster) (TaskResult, error) {
	t.Timeout = cmp.Or(t.Timeout, 5*time.Minute)
	name := t.Name + "-" + taskID()
	pod, err := t.pod(name)
	if err != nil {
		return TaskResult{}, err
	}
	tools, err := cluster.Tools(ctx, c)
	if err != nil {
		return TaskResult{}, err
	}
	ctr := tools.
		WithNewFile("/millrace/task.sh", taskScript).
		WithNewFile("/millrace/pod.json", pod).
		WithDirectory(taskOut, c.Directory())
	bundle := ""
	if t.Bundle != nil {
		bundle = "/millrace/bundle"
		ctr = ctr.WithMountedFile(bundle, t.Bundle)
	}
	seconds := strconv.Itoa(int(t.Timeout.Seconds()))
	done, err := step.Exec(ctx, ctr, taskOut, "task", []string{"sh", "/millrace/task.sh", t.Namespace, name, seconds, bundle, t.LogEnd})
	if err != nil {
		t.remove(ctx, tools, name)
		return TaskResult{}, err
	}
	return t.outcome(ctx, done)
}

// remove deletes the pod of a task whose script could not do it itself. Its own deadline ends it if this fails too.
func (t Task) remove(ctx context.Context, tools *dagger.Container, name string) {
	patience := 30 * time.Second
	if ctx.Err() != nil {
		patience = cleanUp / 4 // what the pod was to judge has to be undone in the same time
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, _ = tools.WithExec([]string{"kubectl", "--namespace", t.Namespace, "delete", "pod", name,
		"--ignore-not-found", "--wait=false", "--grace-period=1"}).Sync(ctx)
}

// taskStatus is what is read of a pod.
type taskStatus struct {
	Status struct {
		Phase, Reason, Message string
		Conditions             []struct{ Type, Status, Reason, Message string }
		ContainerStatuses      []struct {
			Name  string
			State struct {
				Terminated *struct {
					ExitCode int
					Reason   string
				}
				Waiting *struct{ Reason, Message string }
			}
		}
	}
}

// outcome reads what the script left.
func (t Task) outcome(ctx context.Context, done step.Executed) (TaskResult, error) {
	read := func(name string) string {
		text, err := done.File(ctx, taskOut+"/"+name)
		if err != nil {
			return "" // each is written only where it applies
		}
		return text
	}
	state := read("state")
	if state == "refused" {
		return TaskResult{}, refusedTask(t, read("create.txt"))
	}
	result := TaskResult{Log: read("log.txt")}
	var pod taskStatus
	_ = json.Unmarshal([]byte(read("pod.json")), &pod) // an unknown state is told as such
	waiting, ended := "", false
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name != "task" {
			continue
		}
		if t := s.State.Terminated; t != nil {
			ended, result.ExitCode, result.OutOfMemory = true, t.ExitCode, t.Reason == "OOMKilled"
		}
		if s.State.Waiting != nil {
			waiting = strings.TrimSpace(s.State.Waiting.Reason + ": " + s.State.Waiting.Message)
		}
	}
	for _, condition := range pod.Status.Conditions {
		if waiting == "" && condition.Type == "PodScheduled" && condition.Status == "False" {
			waiting = condition.Reason + ": " + condition.Message
		}
	}
	switch state {
	case "done":
		if !ended {
			return TaskResult{}, graph.Transient(fmt.Errorf("the pod of %s in the namespace %s came to its end, and then the cluster did not tell how: %s",
				t.Name, t.Namespace, cmp.Or(strings.TrimSpace(read("errors.txt")), "it gives no reason")))
		}
		return result, nil
	case "late":
		if pod.Status.Reason != "" && pod.Status.Reason != "DeadlineExceeded" {
			return TaskResult{}, graph.Transient(fmt.Errorf("the pod of %s in the namespace %s was ended by the cluster: %s: %s",
				t.Name, t.Namespace, pod.Status.Reason, pod.Status.Message))
		}
		result.Late = true
		return result, nil
	case "stuck":
		return TaskResult{}, fmt.Errorf("the pod of %s in the namespace %s does not start: %s", t.Name, t.Namespace, cmp.Or(waiting, "the cluster gives no reason"))
	case "gone":
		return TaskResult{}, graph.Transient(fmt.Errorf("the pod of %s in the namespace %s was lost in mid-run: %s",
			t.Name, t.Namespace, cmp.Or(strings.TrimSpace(read("get.txt")), "it is not there any more")))
	}
	tail, err := done.Tail(ctx)
	return TaskResult{}, errors.Join(fmt.Errorf("run %s in the namespace %s: kubectl ended with exit code %d\n%s", t.Name, t.Namespace, done.ExitCode, tail), err)
}

// refusedTask explains why the cluster took no pod.
func refusedTask(t Task, said string) error {
	said = strings.TrimSpace(said)
	text := strings.TrimPrefix(said, "Error from server ")
	err := fmt.Errorf("the cluster takes no pod for %s in the namespace %s: %s", t.Name, t.Namespace, text)
	for _, passing := range []string{"connection refused", "i/o timeout", "TLS handshake timeout", "Unable to connect", "ServiceUnavailable", "etcdserver", "Timeout"} {
		if strings.Contains(said, passing) {
			return graph.Transient(err)
		}
	}
	return err
}

// pod is the pod's manifest. It limits all that a quota may ask for.
func (t Task) pod(name string) (string, error) {
	annotations := map[string]string{}
	items, size := []any{}, 0
	for i, path := range slices.Sorted(maps.Keys(t.Files)) {
		key := fmt.Sprintf("millrace.dev/file-%d", i)
		annotations[key] = t.Files[path]
		size += len(t.Files[path])
		items = append(items, map[string]any{"path": path, "fieldRef": map[string]any{"fieldPath": "metadata.annotations['" + key + "']"}})
	}
	if size > maxTaskFiles {
		return "", fmt.Errorf("%s has %d KiB of files, and %d are the most that fit into a pod: leave out what it does not read", t.Name, size>>10, maxTaskFiles>>10)
	}
	env := []any{}
	for _, name := range slices.Sorted(maps.Keys(t.Env)) {
		env = append(env, map[string]any{"name": name, "value": literal(t.Env[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(t.Secrets)) {
		secret, key, _ := strings.Cut(t.Secrets[name], "/")
		env = append(env, map[string]any{"name": name, "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": secret, "key": key}}})
	}
	container := map[string]any{
		"name": "task", "image": t.Image, "env": env,
		"resources": map[string]any{
			"requests": map[string]any{"cpu": "50m", "memory": "64Mi"},
			"limits":   map[string]any{"cpu": cmp.Or(t.CPU, "1"), "memory": cmp.Or(t.Memory, "512Mi")},
		},
		"securityContext": map[string]any{
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities": map[string]any{"drop": []string{"ALL"}},
		},
		"volumeMounts": []any{map[string]any{"name": "tmp", "mountPath": "/tmp"}, map[string]any{"name": "files", "mountPath": "/millrace", "readOnly": true}},
	}
	if len(t.Argv) > 0 {
		argv := make([]string, len(t.Argv))
		for i, a := range t.Argv {
			argv[i] = literal(a)
		}
		container["command"] = argv
	}
	user := cmp.Or(t.User, 65532)
	deadline := t.Timeout + 5*time.Minute
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": name, "namespace": t.Namespace, "annotations": annotations,
			"labels": map[string]any{
				"app.kubernetes.io/name": t.Name, "app.kubernetes.io/managed-by": "millrace",
				"millrace.dev/expires": strconv.FormatInt(time.Now().Add(deadline+10*time.Minute).Unix(), 10),
			},
		},
		"spec": map[string]any{
			"restartPolicy": "Never", "activeDeadlineSeconds": int(deadline.Seconds()), "terminationGracePeriodSeconds": 1,
			"automountServiceAccountToken": false, "enableServiceLinks": false,
			"securityContext": map[string]any{
				"runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
			},
			"containers": []any{container},
			"volumes": []any{
				map[string]any{"name": "tmp", "emptyDir": map[string]any{}},
				map[string]any{"name": "files", "downwardAPI": map[string]any{"items": items}},
			},
		},
	}
	text, err := json.Marshal(pod)
	if err != nil {
		return "", fmt.Errorf("write the pod of %s: %w", t.Name, err)
	}
	return string(text), nil
}

// taskID returns what tells a pod from all others.
func taskID() string {
	b := make([]byte, 5)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// literal keeps the kubelet from reading $(NAME) as a reference.
func literal(text string) string { return strings.ReplaceAll(text, "$(", "$$(") }
