// Package host tells for which CI host, event, branch, tag, pull request and commit a pipeline runs.
//
// Nothing here reads the process's environment, the disk or the network: [Detect] is a pure function of what its
// caller has gathered. What is said on the command line wins over what the CI host says, and that over what git says.
package host

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// Name is the name of a CI host.
type Name string

// The hosts that [Detect] knows. Local is everywhere else.
const (
	Local       Name = "local"
	GitHub      Name = "github-actions"
	GitLab      Name = "gitlab-ci"
	Jenkins     Name = "jenkins"
	Buildkite   Name = "buildkite"
	CircleCI    Name = "circleci"
	Bitbucket   Name = "bitbucket-pipelines"
	Azure       Name = "azure-pipelines"
	Woodpecker  Name = "woodpecker"
	maxImageTag      = 128
	shortSHA         = 7
)

// Ref says what a run is for. The zero value stands for an unknown place.
//
// Of Branch, Tag and a pull request, one is known at most. Branch stays empty for a pull request whatever the names
// of its two branches, so that a condition such as Branch == "main" can't be met by code that nobody has merged.
type Ref struct {
	// Host is where the run takes place.
	Host Name `json:"host,omitempty"`
	// Event is what started the run.
	Event Event `json:"event,omitempty"`
	// Branch is the branch that is built, without refs/heads/.
	Branch string `json:"branch,omitempty"`
	// Tag is the tag that is built, without refs/tags/.
	Tag string `json:"tag,omitempty"`
	// PullRequest is the pull or merge request's number; 0 means none, or that the number is unknown.
	PullRequest int `json:"pull_request,omitempty"`
	// Base is the branch that the pull request wants to change.
	Base string `json:"base,omitempty"`
	// Head is the branch that the pull request comes from; in a fork, the fork's.
	Head string `json:"head,omitempty"`
	// Fork means that the pull request comes from another repository, whose author must not see secrets.
	// It is also true where a host that has forks does not say.
	Fork bool `json:"fork,omitempty"`
	// SHA is the commit that is built; for a pull request that may be a merge commit made by the host.
	SHA string `json:"sha,omitempty"`
	// HeadSHA is the newest commit of the pull request's own branch, where it is known.
	HeadSHA string `json:"head_sha,omitempty"`
	// Dirty means that the source has changes that are not in SHA.
	Dirty bool `json:"dirty,omitempty"`
	// Author is who wrote the commit, or where only that is known who started the run.
	Author string `json:"author,omitempty"`
	// Message is the first line of the commit's message.
	Message string `json:"message,omitempty"`
	// CommitTime is when the commit was made; zero if unknown.
	CommitTime time.Time `json:"commit_time,omitzero"`
	// Repository is the repository's path on its server, for example "owner/name".
	Repository string `json:"repository,omitempty"`
	// RepositoryURL is the repository's web address, without credentials.
	RepositoryURL string `json:"repository_url,omitempty"`
	// RunURL is the page of this run on the CI host.
	RunURL string `json:"run_url,omitempty"`
	// DefaultBranch is the repository's main branch, where it is known.
	DefaultBranch string `json:"default_branch,omitempty"`
}

// IsPullRequest reports whether the run is for a pull request.
func (r Ref) IsPullRequest() bool { return r.Event == PullRequest }

// ShortSHA returns the first seven digits of the commit, or less if less is known.
func (r Ref) ShortSHA() string { return r.SHA[:min(shortSHA, len(r.SHA))] }

// String names the ref for people: "main", "v1.2.3", "pull request 12", "commit 0123456" or "unknown ref".
func (r Ref) String() string {
	switch {
	case r.IsPullRequest() && r.PullRequest > 0:
		return fmt.Sprintf("pull request %d", r.PullRequest)
	case r.IsPullRequest() && r.Head != "":
		return "pull request of " + r.Head
	case r.IsPullRequest():
		return "pull request"
	case r.Tag != "":
		return r.Tag
	case r.Branch != "":
		return r.Branch
	case r.SHA != "":
		return "commit " + r.ShortSHA()
	}
	return "unknown ref"
}

// Version returns the most telling one of [Ref.ImageTags]: the version, branch, pr-N or sha; empty if nothing is known.
func (r Ref) Version() string {
	if tags := r.ImageTags(); len(tags) > 0 {
		return tags[0]
	}
	return ""
}

// ImageTags returns the tags that an image built from r gets, the most telling first; none if nothing is known.
//
//	branch feature/x      feature-x, sha-0123456
//	branch 1.2.3          branch-1.2.3, sha-0123456
//	pull request 12       pr-12, sha-0123456
//	tag v1.2.3            1.2.3, 1.2, 1, latest, sha-0123456
//	tag v1.2.3-rc.1       1.2.3-rc.1, sha-0123456
//	tag nightly           nightly, sha-0123456
//
// The rules are those of docker/metadata-action with its ref, semver and sha types, build metadata left out. Two
// differ: v0.2.1 gives no tag 0, because major version zero promises nothing (that action's documentation advises the
// same), and a tag that is no version does not move latest. A dirty tree's commit tag ends in -dirty.
// A branch whose name looks like one of the other tags gets branch- in front, so that a push to it can't replace a release.
// A version moves 1.2, 1 and latest even if a higher one exists: other tags are not looked at.
func (r Ref) ImageTags() []string {
	var tags []string
	add := func(tag string) {
		if tag = SanitizeImageTag(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	switch {
	case r.IsPullRequest():
		if r.PullRequest > 0 {
			add(fmt.Sprintf("pr-%d", r.PullRequest))
		}
	case r.Tag != "":
		v, err := semver.StrictNewVersion(strings.TrimPrefix(r.Tag, "v"))
		switch {
		case err != nil:
			add(r.Tag)
		case v.Prerelease() != "":
			add(fmt.Sprintf("%d.%d.%d-%s", v.Major(), v.Minor(), v.Patch(), v.Prerelease()))
		default:
			add(fmt.Sprintf("%d.%d.%d", v.Major(), v.Minor(), v.Patch()))
			add(fmt.Sprintf("%d.%d", v.Major(), v.Minor()))
			if v.Major() > 0 {
				add(fmt.Sprint(v.Major()))
			}
			add("latest")
		}
	case r.Branch != "":
		name := SanitizeImageTag(r.Branch)
		if reservedTag.MatchString(name) {
			name = "branch-" + name
		}
		add(name)
	}
	if sha := r.ShortSHA(); sha != "" {
		if r.Dirty {
			sha += "-dirty"
		}
		add("sha-" + sha)
	}
	return tags
}

// reservedTag matches the tags that do not come from a branch's name.
var reservedTag = regexp.MustCompile(`^(sha-[0-9a-f]{7,}.*|pr-[0-9]+|v?[0-9]+(\.[0-9]+)*([-_.].*)?|latest)$`)

var notInImageTag = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// SanitizeImageTag turns name into what the OCI distribution specification allows as a tag,
// [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}: each run of other characters becomes a dash, a leading dot or dash is dropped, and
// the rest is cut at 128 characters. It is empty if nothing of name is left.
func SanitizeImageTag(name string) string {
	tag := strings.TrimLeft(notInImageTag.ReplaceAllString(name, "-"), ".-")
	return strings.TrimRight(tag[:min(maxImageTag, len(tag))], "-")
}
