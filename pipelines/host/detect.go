package host

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Overrides is what the command line says. Empty fields leave the matter to the CI host and git.
type Overrides struct {
	// Event is the value of --event: push, pull_request, tag, schedule or manual.
	Event string
	// Ref is the value of --ref: a branch, a tag, a full name (refs/heads/…, refs/tags/…, refs/pull/N/merge,
	// refs/merge-requests/N/head), or for a pull request its number or its branch.
	// A short name is a tag if the event is tag, or if git has such a tag at HEAD and no such branch.
	Ref string
	// SHA is the value of --sha: 7 to 64 hexadecimal digits.
	SHA string
}

// found is what one CI host says.
type found struct {
	Ref
	// actor is who started the run. It stands in for the author where nothing knows that.
	actor string
}

// hosts is in the order of asking: Jenkins is last, because its variables leak into what its agents start.
var hosts = []struct {
	name Name
	here func(env) bool
	read func(e env, event []byte) (found, error)
}{
	{GitHub, func(e env) bool { return e.truthy("GITHUB_ACTIONS") }, readGitHub},
	{GitLab, func(e env) bool { return e.truthy("GITLAB_CI") }, readGitLab},
	{Buildkite, func(e env) bool { return e.truthy("BUILDKITE") }, readBuildkite},
	{CircleCI, func(e env) bool { return e.truthy("CIRCLECI") }, readCircleCI},
	{Bitbucket, func(e env) bool { return e.get("BITBUCKET_BUILD_NUMBER") != "" }, readBitbucket},
	{Azure, func(e env) bool { return e.truthy("TF_BUILD") }, readAzure},
	{Woodpecker, func(e env) bool { return e.get("CI") == "woodpecker" || e.get("CI_SYSTEM_NAME") == "woodpecker" }, readWoodpecker},
	{Jenkins, func(e env) bool { return e.get("JENKINS_URL") != "" || e.get("JENKINS_HOME") != "" }, readJenkins},
}

// env looks variables up.
type env func(string) string

func (e env) get(name string) string { return strings.TrimSpace(e(name)) }

func (e env) truthy(name string) bool {
	v := strings.ToLower(e.get(name))
	return v == "true" || v == "1"
}

// Detect returns what a run is for: from flags, else from the CI host's variables, else from git.
//
// getenv looks an environment variable up. event is the payload that GITHUB_EVENT_PATH points at, or nil. A place that
// nothing is known of is no error: fields stay empty. Without a CI host the event is manual, or tag or pull_request
// where --ref says so.
//
// A value that can't be used gives a [*UsageError]; any other error is a broken payload.
func Detect(getenv func(string) string, event []byte, git GitFacts, flags Overrides) (Ref, error) {
	if err := flags.check(); err != nil {
		return Ref{}, err
	}
	f := found{Ref: Ref{Host: Local}}
	for _, h := range hosts {
		if h.here(getenv) {
			var err error
			if f, err = h.read(getenv, event); err != nil {
				return Ref{}, err
			}
			f.Host = h.name
			break
		}
	}
	r := f.Ref
	if r.Event == "" && r.Host != Local {
		r.Event = Push
	}
	if r.Event != PullRequest && r.Tag != "" {
		r.Branch = ""
	}
	flags.apply(&r, git)
	fillFromGit(&r, git)
	if r.Event == Tag && r.Tag == "" {
		return Ref{}, usage("--event", "tag: no tag is known for this commit: name it with --ref")
	}
	r.Author = cmp.Or(r.Author, f.actor)
	r.Message, _, _ = strings.Cut(r.Message, "\n")
	return r, nil
}

var hexSHA = regexp.MustCompile(`^[0-9a-fA-F]{7,64}$`)

func (o Overrides) check() error {
	if o.Event != "" {
		if _, err := ParseEvent(o.Event); err != nil {
			return usage("--event", "%v", err)
		}
	}
	if o.SHA != "" && !hexSHA.MatchString(o.SHA) {
		return usage("--sha", "%q is no commit: use 7 to 64 hexadecimal digits", o.SHA)
	}
	if o.Ref == "" {
		return nil
	}
	if problem := checkRefName(o.Ref); problem != "" {
		return usage("--ref", "%q is no branch, tag or pull request: %s", o.Ref, problem)
	}
	kind, _, _ := splitRef(o.Ref)
	switch {
	case kind == "" && strings.HasPrefix(o.Ref, "refs/"):
		return usage("--ref", "%q is of no known kind: use a name, refs/heads/NAME, refs/tags/NAME or refs/pull/N/merge", o.Ref)
	case Event(o.Event) == Tag && kind != "" && kind != Tag:
		return usage("--ref", "%q is no tag, as --event tag asks for", o.Ref)
	case Event(o.Event) == Push && (kind == Tag || kind == PullRequest):
		return usage("--ref", "%q is no branch, as --event push asks for: use --event %s", o.Ref, kind)
	case Event(o.Event) == PullRequest && kind == Tag:
		return usage("--ref", "%q is a tag, but --event is pull_request: use refs/pull/N/merge, the number or the branch", o.Ref)
	}
	return nil
}

// apply puts what the command line says over what the CI host said.
func (o Overrides) apply(r *Ref, git GitFacts) {
	if o.SHA != "" {
		sha := strings.ToLower(o.SHA)
		if !strings.HasPrefix(r.SHA, sha) {
			// What the host said of its commit says nothing of this one.
			r.SHA, r.HeadSHA, r.Author, r.Message = sha, "", "", ""
			r.CommitTime = Ref{}.CommitTime
		}
	}
	event := Event(o.Event)
	if o.Ref != "" {
		kind, name, number := splitRef(o.Ref)
		switch {
		case kind != "":
		case event == PullRequest:
			kind = PullRequest
			if n, err := strconv.Atoi(name); err == nil && n > 0 {
				name, number = "", n
			}
		case event == Tag, event != Push && name != git.Branch && slices.Contains(git.Tags, name):
			kind = Tag
		default:
			kind = Push
		}
		switch {
		case event != "":
		case kind == PullRequest, kind == Tag:
			event = kind
		case r.Event == PullRequest, r.Event == Tag:
			event = Push
		default:
			event = r.Event
		}
		switch {
		case kind == PullRequest && r.PullRequest == number && (name == "" || name == r.Head):
			// The host speaks of the same pull request: keep what it knows.
		case kind == PullRequest:
			r.PullRequest, r.Head, r.Base, r.HeadSHA = number, name, "", ""
			// Another pull request than the host's: whether it is a fork's is known only to who gave the flags.
			r.Fork = false
		case kind == Tag:
			r.Tag, r.Branch = name, ""
		default:
			r.Branch, r.Tag = name, ""
		}
		if kind != PullRequest {
			r.clearPullRequest()
		}
	}
	if event != "" && event != r.Event {
		switch event {
		case PullRequest:
			r.Head = cmp.Or(r.Head, r.Branch)
		case Tag:
			r.clearPullRequest()
		default:
			if r.Event == PullRequest && o.Ref == "" && !r.Fork {
				r.Branch = r.Head
			}
			if event == Push {
				r.Tag = ""
			}
			r.clearPullRequest()
		}
	}
	r.Event = cmp.Or(event, r.Event)
	switch r.Event {
	case PullRequest:
		r.Branch, r.Tag = "", ""
	case Tag:
		r.Branch = ""
	}
}

func (r *Ref) clearPullRequest() {
	r.PullRequest, r.Head, r.Base, r.HeadSHA, r.Fork = 0, "", "", "", false
}

// fillFromGit adds what only git knows.
func fillFromGit(r *Ref, git GitFacts) {
	switch {
	case r.SHA == "":
		r.SHA = git.Commit
	case strings.HasPrefix(git.Commit, r.SHA):
		r.SHA = git.Commit
	}
	r.Event = cmp.Or(r.Event, Manual)
	switch {
	case r.Event == PullRequest:
		r.Head = cmp.Or(r.Head, headOf(*r, git))
	case r.Event == Tag:
		r.Tag = cmp.Or(r.Tag, git.tag())
	case r.Branch == "" && r.Tag == "" && git.Branch == "" && r.Event != Push:
		if r.Tag = git.tag(); r.Tag == "" {
			r.Branch = git.branch()
		}
	case r.Branch == "" && r.Tag == "":
		r.Branch = git.branch()
	}
	if git.Commit != "" && r.SHA == git.Commit {
		if r.Author == "" {
			r.Author = git.Author
		}
		if r.Message == "" {
			r.Message = git.Message
		}
		if r.CommitTime.IsZero() {
			r.CommitTime = git.CommitTime
		}
		r.Dirty = git.Dirty
	}
	r.DefaultBranch = cmp.Or(r.DefaultBranch, git.DefaultBranch)
	name, web := parseRemote(git.RemoteURL)
	if r.Repository == "" || r.Repository == name {
		r.Repository, r.RepositoryURL = cmp.Or(r.Repository, name), cmp.Or(r.RepositoryURL, web)
	}
}

// headOf is the branch of a pull request whose number is not known: what is checked out.
func headOf(r Ref, git GitFacts) string {
	if r.PullRequest > 0 || git.Branch == git.DefaultBranch {
		return ""
	}
	return git.Branch
}

var pullRef = regexp.MustCompile(`^refs/(?:pull|merge-requests|pull-requests)/([1-9][0-9]*)(?:/(?:merge|head|train|from))?$`)

// splitRef takes a ref's full name apart. The kind of a short name is empty.
func splitRef(ref string) (kind Event, name string, number int) {
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		return Push, branch, 0
	}
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return Tag, tag, 0
	}
	if m := pullRef.FindStringSubmatch(ref); m != nil {
		n, err := strconv.Atoi(m[1])
		if err == nil {
			return PullRequest, "", n
		}
	}
	return "", ref, 0
}

// setRef puts a ref's full or short name into r; short names are branches.
func (r *Ref) setRef(ref string) {
	kind, name, number := splitRef(ref)
	switch kind {
	case Tag:
		r.Tag = name
	case PullRequest:
		r.PullRequest = number
	default:
		r.Branch = name
	}
}

// number reads the number of a pull request; 0 if it has none.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// splitAuthor drops the address from "Name <address>".
func splitAuthor(author string) string {
	name, _, _ := strings.Cut(author, " <")
	return strings.TrimSpace(name)
}

func webURL(server string, path string) string {
	if server == "" || path == "" {
		return ""
	}
	return fmt.Sprintf("%s/%s", strings.TrimRight(server, "/"), path)
}
