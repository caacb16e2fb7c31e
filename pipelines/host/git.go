package host

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// GitFacts is what git says of the source tree. The zero value stands for a tree without git.
type GitFacts struct {
	// Commit is the full hash of HEAD.
	Commit string
	// Branch is the branch that is checked out; empty when HEAD is detached.
	Branch string
	// Tags are the tags that point at HEAD.
	Tags []string
	// RemoteBranches are the branches of origin, as of the last fetch, that point at HEAD.
	RemoteBranches []string
	// Author is the name of the commit's author.
	Author string
	// Message is the first line of the commit's message.
	Message string
	// CommitTime is when the commit was made.
	CommitTime time.Time
	// RemoteURL is where origin lies, as configured: it may hold credentials.
	RemoteURL string
	// DefaultBranch is what origin's HEAD points at, where that is known.
	DefaultBranch string
	// Dirty means that tracked files are changed, or that there are files which git neither tracks nor ignores.
	Dirty bool
	// Shallow means that the history is cut: tags may be missing.
	Shallow bool
}

// ReadGit asks git for the facts; run runs git with the given arguments in the source tree and returns what it printed.
//
// An error means that git could not be asked at all: it is not installed, or the folder is in no repository, or one
// that git refuses to read because it belongs to somebody else. The caller decides whether that matters.
// A repository without commits, a detached HEAD, a shallow clone and a missing remote are all fine.
func ReadGit(run func(args ...string) (string, error)) (GitFacts, error) {
	ask := func(args ...string) string {
		out, err := run(args...)
		if err != nil {
			// These commands fail where there is nothing to tell: no branch, no remote, no commit.
			return ""
		}
		return strings.TrimRight(out, "\n")
	}
	shallow, err := run("rev-parse", "--is-shallow-repository")
	if err != nil {
		return GitFacts{}, fmt.Errorf("ask git: %w", err)
	}
	f := GitFacts{
		Shallow:       strings.TrimSpace(shallow) == "true",
		Branch:        ask("symbolic-ref", "-q", "--short", "HEAD"),
		RemoteURL:     ask("config", "--get", "remote.origin.url"),
		DefaultBranch: strings.TrimPrefix(ask("symbolic-ref", "-q", "refs/remotes/origin/HEAD"), "refs/remotes/origin/"),
		Dirty:         ask("status", "--porcelain") != "",
	}
	// The fields are parted by NUL, which none of them can hold.
	if fields := strings.Split(ask("log", "-1", "--no-show-signature", "--format=%H%x00%an%x00%cI%x00%s"), "\x00"); len(fields) == 4 {
		f.Commit, f.Author, f.Message = fields[0], fields[1], fields[3]
		f.CommitTime, _ = time.Parse(time.RFC3339, fields[2])
		for ref := range strings.SplitSeq(ask("for-each-ref", "--points-at=HEAD", "--format=%(refname)"), "\n") {
			if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
				f.Tags = append(f.Tags, tag)
			} else if branch, ok := strings.CutPrefix(ref, "refs/remotes/origin/"); ok && branch != "HEAD" {
				f.RemoteBranches = append(f.RemoteBranches, branch)
			}
		}
	}
	return f, nil
}

// tag picks the tag that stands for HEAD: the highest version, or else the first name.
func (f GitFacts) tag() string {
	if len(f.Tags) == 0 {
		return ""
	}
	return slices.MaxFunc(f.Tags, func(a, b string) int {
		va, erra := semver.StrictNewVersion(strings.TrimPrefix(a, "v"))
		vb, errb := semver.StrictNewVersion(strings.TrimPrefix(b, "v"))
		switch {
		case erra == nil && errb == nil:
			return va.Compare(vb)
		case erra == nil:
			return 1
		case errb == nil:
			return -1
		}
		return strings.Compare(b, a)
	})
}

// branch picks the branch that HEAD is on, or when it is detached the only one of origin's that it could be.
func (f GitFacts) branch() string {
	if f.Branch == "" && len(f.RemoteBranches) == 1 {
		return f.RemoteBranches[0]
	}
	return f.Branch
}

// parseRemote returns a repository's path on its server and its web address, from any form of address that git takes.
// Both are empty for a folder on a disk. Credentials are left out.
func parseRemote(remote string) (name, web string) {
	remote = strings.TrimSpace(remote)
	if !strings.Contains(remote, "://") {
		// scp-like: user@host:path. A slash before the colon makes it a path.
		host, path, ok := strings.Cut(remote, ":")
		if !ok || strings.Contains(host, "/") || len(host) == 1 {
			return "", ""
		}
		host = host[strings.LastIndex(host, "@")+1:]
		remote = "ssh://" + host + "/" + strings.TrimPrefix(path, "/")
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return "", ""
	}
	name = strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if name == "" {
		return "", ""
	}
	escaped := strings.TrimSuffix(strings.Trim(u.EscapedPath(), "/"), ".git")
	web = "https://" + u.Hostname() + "/" + escaped
	switch u.Scheme {
	case "http":
		web = "http://" + u.Host + "/" + escaped
	case "https":
		web = "https://" + u.Host + "/" + escaped
	case "ssh", "git", "git+ssh":
		// The port is that of ssh, not of the web server.
	default:
		return "", ""
	}
	return name, web
}
