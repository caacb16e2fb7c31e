package load

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/kube"
	"github.com/millrace-ci/millrace/pipelines/step"
)

const (
	// baselineMap is the ConfigMap in the environment's namespace that holds the accepted runs, a key a script.
	baselineMap = "millrace-baseline"
	// kept is how many accepted runs make the baseline.
	kept = 5
)

// notInKey matches what the key of a ConfigMap can't have.
var notInKey = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

func baselineKey(script string) string {
	return notInKey.ReplaceAllString(strings.TrimPrefix(path.Clean(script), "./"), "_") + ".json.gz"
}

// pack writes accepted runs as they are kept.
func pack(records []Record) (string, error) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if err := json.NewEncoder(zip).Encode(records); err != nil {
		return "", fmt.Errorf("write the baseline: %w", err)
	}
	if err := zip.Close(); err != nil {
		return "", fmt.Errorf("write the baseline: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// parseBaseline reads what pack wrote.
func parseBaseline(text string) ([]Record, error) {
	zip, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text)))
	if err != nil {
		return nil, fmt.Errorf("read the baseline: %w", err)
	}
	var records []Record
	if err := json.NewDecoder(io.LimitReader(zip, maxUnpacked)).Decode(&records); err != nil {
		return nil, fmt.Errorf("read the baseline: %w", err)
	}
	return records, nil
}

// baseline returns the accepted runs of a script, the newest last; none if there are none yet.
func baseline(ctx context.Context, c *dagger.Client, cluster kube.Cluster, namespace, script string) ([]Record, error) {
	said, err := kubectl(ctx, c, cluster, "", "--namespace", namespace, "get", "configmap", baselineMap, "--ignore-not-found", "-o", "json")
	if err != nil || strings.TrimSpace(said) == "" {
		return nil, err
	}
	var held struct {
		BinaryData map[string]string `json:"binaryData"`
	}
	if err := json.Unmarshal([]byte(said), &held); err != nil {
		return nil, fmt.Errorf("read the ConfigMap %s: %w", baselineMap, err)
	}
	text, found := held.BinaryData[baselineKey(script)]
	if !found {
		return nil, nil
	}
	records, err := parseBaseline(text)
	if err != nil {
		return nil, fmt.Errorf("%w: kubectl --namespace %s delete configmap %s begins a new one", err, namespace, baselineMap)
	}
	return records, nil
}

// accept adds a run to the baseline and drops the oldest; with anew, it is the baseline alone.
func accept(ctx context.Context, c *dagger.Client, cluster kube.Cluster, namespace, script string, held []Record, run Record, anew bool) error {
	var records []Record
	for _, r := range held {
		if !anew && r.Script == run.Script {
			records = append(records, r)
		}
	}
	records = append(records, run)
	text, err := pack(records[max(0, len(records)-kept):])
	if err != nil {
		return err
	}
	data := map[string]any{"binaryData": map[string]string{baselineKey(script): text}}
	patch, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write the baseline: %w", err)
	}
	data["apiVersion"], data["kind"] = "v1", "ConfigMap"
	data["metadata"] = map[string]any{"name": baselineMap, "namespace": namespace, "labels": map[string]string{"app.kubernetes.io/managed-by": "millrace"}}
	whole, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write the baseline: %w", err)
	}
	// A merge leaves other scripts' keys as they are; there is nothing to merge with the first time.
	_, err = kubectl(ctx, c, cluster, string(patch), "--namespace", namespace, "patch", "configmap", baselineMap, "--type", "merge", "--patch-file", "/millrace/input.json")
	if err != nil && strings.Contains(err.Error(), "NotFound") {
		_, err = kubectl(ctx, c, cluster, string(whole), "--namespace", namespace, "create", "-f", "/millrace/input.json")
	}
	if err != nil {
		return fmt.Errorf("keep the baseline: %w", err)
	}
	return nil
}

// kubectl runs one command of kubectl with a file of input, and returns what it printed.
func kubectl(ctx context.Context, c *dagger.Client, cluster kube.Cluster, input string, args ...string) (string, error) {
	tools, err := cluster.Tools(ctx, c)
	if err != nil {
		return "", err
	}
	argv := append([]string{"kubectl", "--request-timeout=30s"}, args...)
	done, err := step.Exec(ctx, tools.WithNewFile("/millrace/input.json", input), "/millrace/out", "kubectl", argv)
	if err != nil {
		return "", err
	}
	if done.ExitCode != 0 {
		said, err := done.Stderr(ctx)
		if err != nil {
			return "", err
		}
		return "", fmt.Errorf("kubectl %s: %s", strings.Join(args, " "), strings.TrimSpace(said))
	}
	return done.Stdout(ctx)
}
