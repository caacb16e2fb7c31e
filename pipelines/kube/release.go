package kube

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Status says how far a release has come, or how it ended.
type Status string

// The statuses of a release.
const (
	// Recording means that the state before is being written down; nothing has been changed yet.
	Recording Status = "recording"
	// Deploying means that the release is being applied, or its pods are starting.
	Deploying Status = "deploying"
	// Verifying means that its pods are up, and it is being checked.
	Verifying Status = "verifying"
	// Paused means that its canary could not be judged, and keeps its share of the traffic until somebody decides.
	Paused Status = "paused"
	// Deployed means that it runs.
	Deployed Status = "deployed"
	// Superseded means that it ran until the next one came.
	Superseded Status = "superseded"
	// RolledBack means that it did not come up or did not pass its checks, and the state before was restored.
	RolledBack Status = "rolled-back"
	// Failed means that it did not come up, and neither did the state before.
	Failed Status = "failed"
)

// Unfinished reports whether a release was left in the middle, unless its run goes on.
func (s Status) Unfinished() bool {
	return s == Recording || s == Deploying || s == Verifying || s == Paused
}

// Release is what is known of one deploy, as history lists it.
type Release struct {
	Revision    int    `json:"revision"`
	Environment string `json:"environment"`
	Status      Status `json:"status"`
	// Phase is the step within the status: recorded, applying, waiting, verifying.
	Phase string `json:"phase,omitempty"`
	// Started and Ended are by the clock of the run that deployed.
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	// Holder is the run that deployed, and Run its web address.
	Holder string `json:"holder"`
	Run    string `json:"run,omitempty"`
	Commit string `json:"commit,omitempty"`
	Ref    string `json:"ref,omitempty"`
	Author string `json:"author,omitempty"`
	// Images are the references that the run put in, by the images' names.
	Images map[string]string `json:"images,omitempty"`
	// RollbackTo is the revision that this one brought back; 0 if it is none of these.
	RollbackTo int `json:"rollbackTo,omitempty"`
	// Cause says why it did not come up.
	Cause string `json:"cause,omitempty"`
}

// before is an object as it was before a release; Object is nil where there was none.
type before struct {
	ID     ID     `json:"id"`
	Object Object `json:"object"`
}

// content is what a record holds beside the [Release]. The values of Secrets are not in it: they lie in fields of the record
// of their own, and never leave the cluster.
type content struct {
	Schema  int     `json:"schema"`
	Release Release `json:"release"`
	// Manifests are the objects as they were applied, without Secrets.
	Manifests []Object `json:"manifests"`
	// Secrets are the Secrets that were applied.
	Secrets []ID `json:"secrets,omitempty"`
	// Before is the state of every object that the release touches; of Secrets, only whether they existed.
	Before []before `json:"before"`
	// Placed says which container runs which image.
	Placed []Placed `json:"placed,omitempty"`
}

// contentSchema is the version of [content]. It goes up with a change that older readers would misread.
const contentSchema = 1

// The labels and the annotation of a record. Lists of releases read no more than these.
const (
	releaseType       = "millrace.dev/release"
	releaseLabel      = "millrace.dev/release"
	environmentLabel  = "millrace.dev/environment"
	statusLabel       = "millrace.dev/status"
	phaseLabel        = "millrace.dev/phase"
	summaryAnnotation = "millrace.dev/summary"
)

// keptReleases is how many records stay.
const keptReleases = 20

// maxRecord bounds a record in bytes; the cluster itself takes no Secret of more than 1 MiB.
const maxRecord = 1000 << 10

func recordName(revision int) string { return "millrace-release-" + strconv.Itoa(revision) }

// record returns the Secret that holds a release, with the values of the Secrets that it applies.
func record(namespace string, c content, secrets []Object) (string, error) {
	c.Schema = contentSchema
	packed, err := pack(c)
	if err != nil {
		return "", err
	}
	data := map[string]any{"release": packed}
	if len(secrets) > 0 {
		if data["secrets"], err = pack(json.RawMessage(encode(secrets))); err != nil {
			return "", err
		}
	}
	r := c.Release
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": releaseType,
		"metadata": map[string]any{
			"name": recordName(r.Revision), "namespace": namespace,
			"labels": map[string]any{
				managedBy: manager, releaseLabel: strconv.Itoa(r.Revision), environmentLabel: r.Environment,
				statusLabel: string(r.Status), phaseLabel: r.Phase,
			},
			"annotations": map[string]any{summaryAnnotation: summary(r)},
		},
		"data": data,
	})
	if err != nil {
		return "", fmt.Errorf("record the release: %w", err)
	}
	if len(text) > maxRecord {
		return "", fmt.Errorf("record the release: manifests and the state before take %d KiB packed, and %d are the most that a cluster keeps in one record: split the environment's manifests in two", len(text)>>10, maxRecord>>10)
	}
	return string(text), nil
}

func summary(r Release) string {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // texts, numbers and times have a JSON form
	}
	return string(text)
}

// marked returns the patch that brings a record's labels and summary up to date.
func marked(r Release) string {
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels":      map[string]any{statusLabel: string(r.Status), phaseLabel: r.Phase},
		"annotations": map[string]any{summaryAnnotation: summary(r)},
	}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// releaseOf reads the metadata of a record. The labels are what is true: a script sets them on the way.
func releaseOf(metadata Object) (Release, error) {
	var r Release
	if err := json.Unmarshal([]byte(metadata.text("annotations", summaryAnnotation)), &r); err != nil {
		return r, fmt.Errorf("the record %s of a release can't be read: %w", metadata.text("name"), err)
	}
	labels := metadata.object("labels")
	r.Status, r.Phase = Status(labels.text(statusLabel)), labels.text(phaseLabel)
	return r, nil
}

// releasesOf reads a list of metadata, one JSON object a line, the newest release first.
func releasesOf(text string) ([]Release, error) {
	var all []Release
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		metadata, err := decode([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("read the records of releases: %w", err)
		}
		r, err := releaseOf(metadata)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Release) int { return cmp.Compare(b.Revision, a.Revision) })
	return all, nil
}

// present returns the release that runs: the newest that came up.
func present(all []Release) (Release, bool) {
	i := slices.IndexFunc(all, func(r Release) bool { return r.Status == Deployed })
	if i < 0 {
		return Release{}, false
	}
	return all[i], true
}

// previous returns the release that ran before a revision and came up.
func previous(all []Release, revision int) (Release, bool) {
	i := slices.IndexFunc(all, func(r Release) bool {
		return r.Revision < revision && (r.Status == Deployed || r.Status == Superseded)
	})
	if i < 0 {
		return Release{}, false
	}
	return all[i], true
}

// pack puts a value into gzip and base64.
func pack(v any) (string, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if err := json.NewEncoder(z).Encode(v); err != nil {
		return "", fmt.Errorf("record the release: %w", err)
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// unpack reads what [pack] wrote of a content.
func unpack(text string) (content, error) {
	var c content
	fail := func(err error) (content, error) {
		return c, fmt.Errorf("the record of the release can't be read: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return fail(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return fail(err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, 64<<20))
	if err != nil {
		return fail(err)
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.UseNumber()
	if err := d.Decode(&c); err != nil {
		return fail(err)
	}
	if c.Schema != contentSchema {
		return c, fmt.Errorf("the record of release %d has the form %d, and this version of millrace reads %d: use the version that wrote it", c.Release.Revision, c.Schema, contentSchema)
	}
	return c, nil
}
