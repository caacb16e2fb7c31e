package host

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// payload is the part of GitHub's webhook payload that is read. Gitea and Forgejo send the same.
type payload struct {
	PullRequest *struct {
		Number int    `json:"number"`
		Title  string `json:"title"`
		User   struct {
			Login string `json:"login"`
		} `json:"user"`
		Head payloadSide `json:"head"`
		Base payloadSide `json:"base"`
	} `json:"pull_request"`
	Repository struct {
		FullName      string `json:"full_name"`
		DefaultBranch string `json:"default_branch"`
	} `json:"repository"`
	HeadCommit *struct {
		ID        string    `json:"id"`
		Message   string    `json:"message"`
		Timestamp time.Time `json:"timestamp"`
		Author    struct {
			Name string `json:"name"`
		} `json:"author"`
	} `json:"head_commit"`
	Release *struct {
		TagName string `json:"tag_name"`
	} `json:"release"`
}

type payloadSide struct {
	Ref  string `json:"ref"`
	SHA  string `json:"sha"`
	Repo *struct {
		FullName string `json:"full_name"`
	} `json:"repo"`
}

// fullName is empty when the repository is unknown, which it also is after a fork was deleted.
func (s payloadSide) fullName() string {
	if s.Repo == nil {
		return ""
	}
	return s.Repo.FullName
}

// readGitHub reads GitHub Actions, and Gitea's and Forgejo's actions, which set the same variables.
// Source: https://docs.github.com/en/actions/reference/workflows-and-actions/variables
func readGitHub(e env, event []byte) (found, error) {
	var p payload
	if len(event) > 0 {
		if err := json.Unmarshal(event, &p); err != nil {
			return found{}, fmt.Errorf("read the event payload that GITHUB_EVENT_PATH points at: %w", err)
		}
	}
	server := e.get("GITHUB_SERVER_URL")
	f := found{actor: e.get("GITHUB_ACTOR")}
	f.SHA = e.get("GITHUB_SHA")
	f.Repository = cmp.Or(e.get("GITHUB_REPOSITORY"), p.Repository.FullName)
	f.RepositoryURL = webURL(server, f.Repository)
	f.DefaultBranch = p.Repository.DefaultBranch
	if id := e.get("GITHUB_RUN_ID"); id != "" && f.RepositoryURL != "" {
		f.RunURL = f.RepositoryURL + "/actions/runs/" + id
		if attempt := e.get("GITHUB_RUN_ATTEMPT"); attempt != "" && attempt != "1" {
			f.RunURL += "/attempts/" + attempt
		}
	}
	f.setRef(e.get("GITHUB_REF"))
	switch name := e.get("GITHUB_EVENT_NAME"); name {
	case "push", "merge_group":
		f.Event = Push
		if f.Tag != "" {
			f.Event = Tag
		}
	case "pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment":
		f.Event = PullRequest
	case "release":
		f.Event = Tag
		if p.Release != nil {
			f.Tag = cmp.Or(f.Tag, p.Release.TagName)
		}
		if f.Tag == "" {
			// A release whose tag nobody names.
			f.Event = Manual
		}
	case "schedule":
		f.Event = Schedule
	default:
		// workflow_dispatch, repository_dispatch, workflow_run, issue_comment and so on run the default branch's
		// code without a push: manual keeps them from publishing unless the flags say so.
		f.Event = Manual
	}
	if c := p.HeadCommit; c != nil && c.ID == f.SHA {
		f.Author, f.Message, f.CommitTime = c.Author.Name, c.Message, c.Timestamp
	}
	if f.Event != PullRequest {
		return f, nil
	}
	// pull_request_target names the base branch in GITHUB_REF: it is not what is asked about.
	f.Branch = ""
	f.Head, f.Base = e.get("GITHUB_HEAD_REF"), e.get("GITHUB_BASE_REF")
	f.Fork = true
	if pr := p.PullRequest; pr != nil {
		f.PullRequest = cmp.Or(f.PullRequest, pr.Number)
		f.Head, f.Base = cmp.Or(f.Head, pr.Head.Ref), cmp.Or(f.Base, pr.Base.Ref)
		f.HeadSHA, f.Author, f.Message = pr.Head.SHA, pr.User.Login, pr.Title
		base := cmp.Or(pr.Base.fullName(), f.Repository)
		f.Fork = pr.Head.fullName() == "" || !strings.EqualFold(pr.Head.fullName(), base)
	}
	return f, nil
}

// readGitLab reads GitLab CI.
// Source: https://docs.gitlab.com/ci/variables/predefined_variables/
func readGitLab(e env, _ []byte) (found, error) {
	f := found{actor: cmp.Or(e.get("GITLAB_USER_NAME"), e.get("GITLAB_USER_LOGIN"))}
	f.SHA = e.get("CI_COMMIT_SHA")
	// CI_COMMIT_BRANCH is not set for merge requests and tags, unlike CI_COMMIT_REF_NAME.
	f.Branch, f.Tag = e.get("CI_COMMIT_BRANCH"), e.get("CI_COMMIT_TAG")
	f.Author, f.Message = splitAuthor(e.get("CI_COMMIT_AUTHOR")), e.get("CI_COMMIT_TITLE")
	f.CommitTime, _ = time.Parse(time.RFC3339, e.get("CI_COMMIT_TIMESTAMP"))
	f.Repository, f.RepositoryURL = e.get("CI_PROJECT_PATH"), e.get("CI_PROJECT_URL")
	f.RunURL, f.DefaultBranch = e.get("CI_PIPELINE_URL"), e.get("CI_DEFAULT_BRANCH")

	switch {
	// A child pipeline of a merge request has the source parent_pipeline, and the request's variables.
	case e.get("CI_MERGE_REQUEST_IID") != "":
		f.Event, f.PullRequest = PullRequest, number(e.get("CI_MERGE_REQUEST_IID"))
		f.Head, f.Base = e.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"), e.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
		// Set only where CI_COMMIT_SHA is a merge commit: merged results and merge trains.
		f.HeadSHA = cmp.Or(e.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA"), f.SHA)
		f.Fork = e.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID") != e.get("CI_MERGE_REQUEST_PROJECT_ID")
	case e.get("CI_EXTERNAL_PULL_REQUEST_IID") != "":
		f.Event, f.PullRequest = PullRequest, number(e.get("CI_EXTERNAL_PULL_REQUEST_IID"))
		f.Head, f.Base = e.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME"), e.get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME")
		f.HeadSHA = cmp.Or(e.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA"), f.SHA)
		f.Fork = e.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY") != e.get("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY")
	default:
		switch e.get("CI_PIPELINE_SOURCE") {
		case "push":
			f.Event = Push
			if f.Tag != "" {
				f.Event = Tag
			}
		case "schedule":
			f.Event = Schedule
		default:
			f.Event = Manual
		}
	}
	if f.Event == PullRequest {
		f.Branch, f.Tag = "", ""
	}
	return f, nil
}

// readJenkins reads Jenkins with its Git and multibranch plugins.
// Source: https://www.jenkins.io/doc/book/pipeline/jenkinsfile/#using-environment-variables and the "env-vars.html"
// page that each controller serves.
func readJenkins(e env, _ []byte) (found, error) {
	var f found
	f.SHA, f.RunURL = e.get("GIT_COMMIT"), cmp.Or(e.get("RUN_DISPLAY_URL"), e.get("BUILD_URL"))
	f.Repository, f.RepositoryURL = parseRemote(cmp.Or(e.get("GIT_URL"), e.get("GIT_URL_1")))
	f.actor = cmp.Or(e.get("CHANGE_AUTHOR_DISPLAY_NAME"), e.get("CHANGE_AUTHOR"), e.get("BUILD_USER"))
	if e.truthy("BRANCH_IS_PRIMARY") {
		f.DefaultBranch = e.get("BRANCH_NAME")
	}
	if id := e.get("CHANGE_ID"); id != "" {
		f.Event, f.PullRequest = PullRequest, number(id)
		f.Head, f.Base, f.Message = e.get("CHANGE_BRANCH"), e.get("CHANGE_TARGET"), e.get("CHANGE_TITLE")
		f.Fork = e.get("CHANGE_FORK") != ""
		return f, nil
	}
	if f.Tag = e.get("TAG_NAME"); f.Tag != "" {
		f.Event = Tag
		return f, nil
	}
	// BRANCH_NAME is of multibranch jobs; GIT_BRANCH has the remote's name in front and may say "detached".
	branch := cmp.Or(e.get("BRANCH_NAME"), e.get("GIT_LOCAL_BRANCH"), e.get("GIT_BRANCH"))
	branch = strings.TrimPrefix(strings.TrimPrefix(branch, "refs/remotes/"), "origin/")
	if tag, ok := strings.CutPrefix(branch, "tags/"); ok {
		branch = "refs/tags/" + tag
	}
	if branch != "detached" && branch != "HEAD" {
		f.setRef(branch)
	}
	f.Event = Push
	// Set by the EnvInject plugin; Jenkins itself does not say why a build runs.
	switch cause := cmp.Or(e.get("ROOT_BUILD_CAUSE"), e.get("BUILD_CAUSE")); {
	case f.Tag != "":
		f.Event = Tag
	case f.PullRequest > 0:
		f.Event = PullRequest
	case strings.Contains(cause, "TIMER"):
		f.Event = Schedule
	case strings.Contains(cause, "MANUAL"), strings.Contains(cause, "USER"):
		f.Event = Manual
	}
	return f, nil
}

// readBuildkite reads Buildkite.
// Source: https://buildkite.com/docs/pipelines/configure/environment-variables
func readBuildkite(e env, _ []byte) (found, error) {
	f := found{actor: e.get("BUILDKITE_BUILD_CREATOR")}
	// A build started by hand for a branch's newest commit says "HEAD" until the agent has checked out.
	if sha := e.get("BUILDKITE_COMMIT"); hexSHA.MatchString(sha) {
		f.SHA = sha
	}
	f.Author, f.Message = e.get("BUILDKITE_BUILD_AUTHOR"), e.get("BUILDKITE_MESSAGE")
	f.Repository, f.RepositoryURL = parseRemote(e.get("BUILDKITE_REPO"))
	f.RunURL, f.DefaultBranch = e.get("BUILDKITE_BUILD_URL"), e.get("BUILDKITE_PIPELINE_DEFAULT_BRANCH")
	branch, tag := e.get("BUILDKITE_BRANCH"), e.get("BUILDKITE_TAG")
	switch n := number(e.get("BUILDKITE_PULL_REQUEST")); {
	case n > 0: // "false" where there is none
		f.Event, f.PullRequest, f.Base = PullRequest, n, e.get("BUILDKITE_PULL_REQUEST_BASE_BRANCH")
		source, _ := parseRemote(e.get("BUILDKITE_PULL_REQUEST_REPO"))
		owner, head, hasOwner := strings.Cut(branch, ":") // a fork's branch is "owner:branch"
		f.Fork = source != "" && !strings.EqualFold(source, f.Repository) || hasOwner && owner != ""
		if f.Head = branch; hasOwner {
			f.Head = head
		}
		if !e.truthy("BUILDKITE_PULL_REQUEST_USING_MERGE_REFSPEC") {
			f.HeadSHA = f.SHA
		}
	case tag != "": // BUILDKITE_BRANCH then holds the tag's name too
		f.Event, f.Tag = Tag, tag
	default:
		f.Event, f.Branch = Push, branch
	}
	if f.Event == PullRequest {
		return f, nil
	}
	switch e.get("BUILDKITE_SOURCE") {
	case "schedule":
		f.Event = Schedule
	case "ui", "api", "trigger_job":
		f.Event = Manual
	}
	return f, nil
}

var trailingNumber = regexp.MustCompile(`/([0-9]+)/?$`)

// readCircleCI reads CircleCI. It has no variable for schedules and manual runs: they look like a push.
// Source: https://circleci.com/docs/reference/variables/#built-in-environment-variables
func readCircleCI(e env, _ []byte) (found, error) {
	f := found{actor: e.get("CIRCLE_USERNAME")}
	f.SHA, f.RunURL = e.get("CIRCLE_SHA1"), e.get("CIRCLE_BUILD_URL")
	f.Repository, f.RepositoryURL = parseRemote(e.get("CIRCLE_REPOSITORY_URL"))
	if owner, name := e.get("CIRCLE_PROJECT_USERNAME"), e.get("CIRCLE_PROJECT_REPONAME"); f.Repository == "" && owner != "" && name != "" {
		f.Repository = owner + "/" + name
	}
	branch := e.get("CIRCLE_BRANCH")
	// CIRCLE_PR_* are set for a fork's pull request only, whose branch is then called pull/N.
	n := number(e.get("CIRCLE_PR_NUMBER"))
	f.Fork = n > 0
	if pull, ok := strings.CutPrefix(branch, "pull/"); ok && number(pull) > 0 {
		n, f.Fork, branch = number(pull), true, ""
	}
	if m := trailingNumber.FindStringSubmatch(e.get("CIRCLE_PULL_REQUEST")); n == 0 && m != nil {
		n = number(m[1])
	}
	switch tag := e.get("CIRCLE_TAG"); {
	case tag != "":
		f.Event, f.Tag, f.Fork = Tag, tag, false
	case n > 0:
		f.Event, f.PullRequest, f.Head, f.HeadSHA = PullRequest, n, branch, f.SHA
	default:
		f.Event, f.Branch = Push, branch
	}
	return f, nil
}

// readBitbucket reads Bitbucket Pipelines. It has no variable for schedules and manual runs: they look like a push.
// It does not run pull requests of forks.
// Source: https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/
func readBitbucket(e env, _ []byte) (found, error) {
	var f found
	f.SHA, f.Repository = e.get("BITBUCKET_COMMIT"), e.get("BITBUCKET_REPO_FULL_NAME")
	if owner, slug := e.get("BITBUCKET_WORKSPACE"), e.get("BITBUCKET_REPO_SLUG"); f.Repository == "" && owner != "" && slug != "" {
		f.Repository = owner + "/" + slug
	}
	_, f.RepositoryURL = parseRemote(e.get("BITBUCKET_GIT_HTTP_ORIGIN"))
	f.RepositoryURL = cmp.Or(f.RepositoryURL, webURL("https://bitbucket.org", f.Repository))
	if f.RepositoryURL != "" {
		f.RunURL = f.RepositoryURL + "/pipelines/results/" + e.get("BITBUCKET_BUILD_NUMBER")
	}
	switch n := number(e.get("BITBUCKET_PR_ID")); {
	case n > 0:
		f.Event, f.PullRequest = PullRequest, n
		f.Head, f.Base = e.get("BITBUCKET_BRANCH"), e.get("BITBUCKET_PR_DESTINATION_BRANCH")
	case e.get("BITBUCKET_TAG") != "":
		f.Event, f.Tag = Tag, e.get("BITBUCKET_TAG")
	default:
		f.Event, f.Branch = Push, e.get("BITBUCKET_BRANCH")
	}
	return f, nil
}

// readAzure reads Azure Pipelines.
// Source: https://learn.microsoft.com/en-us/azure/devops/pipelines/build/variables
func readAzure(e env, _ []byte) (found, error) {
	// A variable that does not exist, mapped into a step's env, arrives as its own name: $(System.X).
	get := func(name string) string {
		if v := e.get(name); !strings.HasPrefix(v, "$(") {
			return v
		}
		return ""
	}
	f := found{actor: get("BUILD_REQUESTEDFOR")}
	f.SHA, f.Author, f.Message = get("BUILD_SOURCEVERSION"), get("BUILD_SOURCEVERSIONAUTHOR"), get("BUILD_SOURCEVERSIONMESSAGE")
	f.Repository, f.RepositoryURL = parseRemote(get("BUILD_REPOSITORY_URI"))
	f.Repository = cmp.Or(f.Repository, get("BUILD_REPOSITORY_NAME"))
	if base, project, id := get("SYSTEM_COLLECTIONURI"), get("SYSTEM_TEAMPROJECT"), get("BUILD_BUILDID"); base != "" && id != "" {
		f.RunURL = webURL(base, url.PathEscape(project)+"/_build/results?buildId="+url.QueryEscape(id))
	}
	f.setRef(get("BUILD_SOURCEBRANCH"))
	switch reason := get("BUILD_REASON"); {
	case reason == "PullRequest" || f.PullRequest > 0:
		f.Event = PullRequest
		// For a repository on GitHub the id is an internal one, and the number is the number.
		f.PullRequest = cmp.Or(number(get("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER")), f.PullRequest, number(get("SYSTEM_PULLREQUEST_PULLREQUESTID")))
		f.Head = strings.TrimPrefix(get("SYSTEM_PULLREQUEST_SOURCEBRANCH"), "refs/heads/")
		f.Base = strings.TrimPrefix(get("SYSTEM_PULLREQUEST_TARGETBRANCH"), "refs/heads/")
		f.HeadSHA = get("SYSTEM_PULLREQUEST_SOURCECOMMITID")
		f.Fork = !strings.EqualFold(get("SYSTEM_PULLREQUEST_ISFORK"), "false")
		f.Branch, f.Tag = "", ""
	case reason == "Schedule":
		f.Event = Schedule
	case reason == "IndividualCI", reason == "BatchedCI", reason == "":
		f.Event = Push
		if f.Tag != "" {
			f.Event = Tag
		}
	default: // Manual, ResourceTrigger, BuildCompletion, …
		f.Event = Manual
	}
	return f, nil
}

// readWoodpecker reads Woodpecker.
// Source: https://woodpecker-ci.org/docs/usage/environment
func readWoodpecker(e env, _ []byte) (found, error) {
	f := found{actor: e.get("CI_PIPELINE_AUTHOR")}
	f.SHA, f.Author, f.Message = e.get("CI_COMMIT_SHA"), e.get("CI_COMMIT_AUTHOR"), e.get("CI_COMMIT_MESSAGE")
	f.Repository, f.RepositoryURL = e.get("CI_REPO"), e.get("CI_REPO_URL")
	f.RunURL, f.DefaultBranch = e.get("CI_PIPELINE_URL"), e.get("CI_REPO_DEFAULT_BRANCH")
	branch, tag := e.get("CI_COMMIT_BRANCH"), e.get("CI_COMMIT_TAG")
	switch event := e.get("CI_PIPELINE_EVENT"); {
	case strings.HasPrefix(event, "pull_request"):
		f.Event, f.PullRequest = PullRequest, number(e.get("CI_COMMIT_PULL_REQUEST"))
		// CI_COMMIT_BRANCH is the target here.
		f.Head, f.Base, f.HeadSHA = e.get("CI_COMMIT_SOURCE_BRANCH"), cmp.Or(e.get("CI_COMMIT_TARGET_BRANCH"), branch), f.SHA
		// No documented variable tells a fork from the repository itself: take the side on which nothing leaks.
		f.Fork = true
	case event == "tag", event == "release":
		f.Event, f.Tag = Tag, tag
		if f.Tag == "" {
			f.setRef(e.get("CI_COMMIT_REF"))
			f.Branch = ""
		}
	case event == "cron":
		f.Event, f.Branch = Schedule, branch
	case event == "push":
		f.Event, f.Branch = Push, branch
	default: // manual, deployment
		f.Event, f.Branch, f.Tag = Manual, branch, tag
	}
	return f, nil
}
