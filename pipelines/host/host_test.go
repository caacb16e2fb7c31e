package host_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/host"
)

const (
	sha      = "ffac537e6cbbf934b08745a378932722df287a53"
	otherSHA = "0123456789abcdef0123456789abcdef01234567"
)

func lookup(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// with returns base with over on top of it.
func with(base, over map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range []map[string]string{base, over} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

var github = map[string]string{
	"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "octocat", "GITHUB_REPOSITORY": "octo-org/shop",
	"GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "1658821493", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_SHA": sha,
	"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch",
	"GITHUB_HEAD_REF": "", "GITHUB_BASE_REF": "",
}

func githubRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository = host.GitHub, sha, "octo-org/shop"
	r.RepositoryURL = "https://github.com/octo-org/shop"
	r.RunURL = "https://github.com/octo-org/shop/actions/runs/1658821493"
	return r
}

var gitlab = map[string]string{
	"CI": "true", "GITLAB_CI": "true", "CI_COMMIT_SHA": sha, "CI_COMMIT_AUTHOR": "Ada Lovelace <ada@example.com>",
	"CI_COMMIT_TITLE": "Count wheels", "CI_COMMIT_TIMESTAMP": "2025-05-02T10:11:12+02:00", "CI_PROJECT_PATH": "group/sub/shop",
	"CI_PROJECT_URL": "https://gitlab.example.com/group/sub/shop", "CI_PIPELINE_URL": "https://gitlab.example.com/group/sub/shop/-/pipelines/77",
	"CI_DEFAULT_BRANCH": "main", "GITLAB_USER_NAME": "Grace Hopper",
}

func gitlabRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository, r.Author, r.Message = host.GitLab, sha, "group/sub/shop", "Ada Lovelace", "Count wheels"
	r.RepositoryURL, r.DefaultBranch = "https://gitlab.example.com/group/sub/shop", "main"
	r.RunURL = "https://gitlab.example.com/group/sub/shop/-/pipelines/77"
	r.CommitTime = time.Date(2025, 5, 2, 10, 11, 12, 0, time.FixedZone("", 2*60*60))
	return r
}

var buildkite = map[string]string{
	"CI": "true", "BUILDKITE": "true", "BUILDKITE_COMMIT": sha, "BUILDKITE_REPO": "git@github.com:acme-inc/shop.git",
	"BUILDKITE_BUILD_URL": "https://buildkite.com/acme-inc/shop/builds/1514", "BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main",
	"BUILDKITE_BUILD_AUTHOR": "Ada", "BUILDKITE_MESSAGE": "Count wheels\n\nAll of them.", "BUILDKITE_BRANCH": "main",
	"BUILDKITE_PULL_REQUEST": "false", "BUILDKITE_SOURCE": "webhook", "BUILDKITE_TAG": "",
}

func buildkiteRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository, r.Author, r.Message = host.Buildkite, sha, "acme-inc/shop", "Ada", "Count wheels"
	r.RepositoryURL, r.DefaultBranch, r.RunURL = "https://github.com/acme-inc/shop", "main", "https://buildkite.com/acme-inc/shop/builds/1514"
	return r
}

var circle = map[string]string{
	"CI": "true", "CIRCLECI": "true", "CIRCLE_SHA1": sha, "CIRCLE_REPOSITORY_URL": "git@github.com:acme/shop.git",
	"CIRCLE_PROJECT_USERNAME": "acme", "CIRCLE_PROJECT_REPONAME": "shop", "CIRCLE_USERNAME": "ada",
	"CIRCLE_BUILD_URL": "https://circleci.com/gh/acme/shop/42",
}

func circleRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository, r.RepositoryURL = host.CircleCI, sha, "acme/shop", "https://github.com/acme/shop"
	r.Author, r.RunURL = "ada", "https://circleci.com/gh/acme/shop/42"
	return r
}

var bitbucket = map[string]string{
	"CI": "true", "BITBUCKET_BUILD_NUMBER": "9", "BITBUCKET_COMMIT": sha, "BITBUCKET_REPO_FULL_NAME": "acme/shop",
	"BITBUCKET_WORKSPACE": "acme", "BITBUCKET_REPO_SLUG": "shop", "BITBUCKET_GIT_HTTP_ORIGIN": "http://bitbucket.org/acme/shop",
}

func bitbucketRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository, r.RepositoryURL = host.Bitbucket, sha, "acme/shop", "http://bitbucket.org/acme/shop"
	r.RunURL = "http://bitbucket.org/acme/shop/pipelines/results/9"
	return r
}

var azure = map[string]string{
	"TF_BUILD": "True", "BUILD_SOURCEVERSION": sha, "BUILD_REPOSITORY_NAME": "shop", "BUILD_BUILDID": "33",
	"BUILD_REPOSITORY_URI": "https://acme@dev.azure.com/acme/My%20Project/_git/shop", "SYSTEM_COLLECTIONURI": "https://dev.azure.com/acme/",
	"SYSTEM_TEAMPROJECT": "My Project", "BUILD_REQUESTEDFOR": "Ada", "BUILD_SOURCEVERSIONAUTHOR": "$(Build.SourceVersionAuthor)",
	"BUILD_SOURCEVERSIONMESSAGE": "Count wheels", "BUILD_REASON": "IndividualCI", "BUILD_SOURCEBRANCH": "refs/heads/feature/wheels",
}

func azureRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository, r.Author, r.Message = host.Azure, sha, "acme/My Project/_git/shop", "Ada", "Count wheels"
	r.RepositoryURL = "https://dev.azure.com/acme/My%20Project/_git/shop"
	r.RunURL = "https://dev.azure.com/acme/My%20Project/_build/results?buildId=33"
	return r
}

var woodpecker = map[string]string{
	"CI": "woodpecker", "CI_COMMIT_SHA": sha, "CI_COMMIT_AUTHOR": "john-doe", "CI_COMMIT_MESSAGE": "Count wheels\n",
	"CI_REPO": "john-doe/shop", "CI_REPO_URL": "https://git.example.com/john-doe/shop", "CI_REPO_DEFAULT_BRANCH": "main",
	"CI_PIPELINE_URL": "https://ci.example.com/repos/7/pipeline/8", "CI_PIPELINE_EVENT": "push", "CI_COMMIT_BRANCH": "main",
	"CI_COMMIT_REF": "refs/heads/main",
}

func woodpeckerRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository, r.Author, r.Message = host.Woodpecker, sha, "john-doe/shop", "john-doe", "Count wheels"
	r.RepositoryURL, r.DefaultBranch, r.RunURL = "https://git.example.com/john-doe/shop", "main", "https://ci.example.com/repos/7/pipeline/8"
	return r
}

var jenkins = map[string]string{
	"JENKINS_URL": "https://ci.example.com/", "BUILD_URL": "https://ci.example.com/job/shop/12/", "GIT_COMMIT": sha,
	"GIT_URL": "https://user:secret@github.com/acme/shop.git",
}

func jenkinsRef(r host.Ref) host.Ref {
	r.Host, r.SHA, r.Repository, r.RepositoryURL = host.Jenkins, sha, "acme/shop", "https://github.com/acme/shop"
	r.RunURL = "https://ci.example.com/job/shop/12/"
	return r
}

const pullRequestEvent = `{"number":12,"pull_request":{"number":12,"title":"Count wheels","user":{"login":"ada"},
	"head":{"ref":"wheels","sha":"` + otherSHA + `","repo":{"full_name":"%s"}},"base":{"ref":"main","sha":"x","repo":{"full_name":"octo-org/shop"}}},
	"repository":{"full_name":"octo-org/shop","default_branch":"main"}}`

func TestDetectOnHosts(t *testing.T) {
	t.Parallel()
	sameRepo, fork := strings.Replace(pullRequestEvent, "%s", "octo-org/shop", 1), strings.Replace(pullRequestEvent, "%s", "mallory/shop", 1)
	deleted := strings.Replace(pullRequestEvent, `{"full_name":"%s"}`, "null", 1)
	pull := map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF": "refs/pull/12/merge", "GITHUB_HEAD_REF": "wheels", "GITHUB_BASE_REF": "main"}
	pullRef := githubRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", Base: "main", HeadSHA: otherSHA, Author: "ada", Message: "Count wheels", DefaultBranch: "main"})
	forked := pullRef
	forked.Fork = true
	unknownSource := githubRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", Base: "main", Fork: true, Author: "octocat"})

	for name, test := range map[string]struct {
		env   map[string]string
		event string
		want  host.Ref
	}{
		"github push": {github, `{"repository":{"default_branch":"main"},"head_commit":{"id":"` + sha + `","message":"Count wheels\n\nAll.","timestamp":"2025-05-02T08:11:12Z","author":{"name":"Ada"}}}`,
			githubRef(host.Ref{Event: host.Push, Branch: "main", DefaultBranch: "main", Author: "Ada", Message: "Count wheels", CommitTime: time.Date(2025, 5, 2, 8, 11, 12, 0, time.UTC)})},
		"github push without payload": {github, "", githubRef(host.Ref{Event: host.Push, Branch: "main", Author: "octocat"})},
		"github branch with slashes":  {with(github, map[string]string{"GITHUB_REF": "refs/heads/feature/a/b"}), "", githubRef(host.Ref{Event: host.Push, Branch: "feature/a/b", Author: "octocat"})},
		"github tag":                  {with(github, map[string]string{"GITHUB_REF": "refs/tags/v1.2.3", "GITHUB_REF_TYPE": "tag"}), "", githubRef(host.Ref{Event: host.Tag, Tag: "v1.2.3", Author: "octocat"})},
		"github release":              {with(github, map[string]string{"GITHUB_EVENT_NAME": "release", "GITHUB_REF": "refs/tags/v1.2.3"}), "", githubRef(host.Ref{Event: host.Tag, Tag: "v1.2.3", Author: "octocat"})},
		"github release of a branch":  {with(github, map[string]string{"GITHUB_EVENT_NAME": "release"}), `{"release":{"tag_name":"v2.0.0"}}`, githubRef(host.Ref{Event: host.Tag, Tag: "v2.0.0", Author: "octocat"})},
		"github schedule":             {with(github, map[string]string{"GITHUB_EVENT_NAME": "schedule"}), "", githubRef(host.Ref{Event: host.Schedule, Branch: "main", Author: "octocat"})},
		"github dispatch":             {with(github, map[string]string{"GITHUB_EVENT_NAME": "workflow_dispatch"}), "", githubRef(host.Ref{Event: host.Manual, Branch: "main", Author: "octocat"})},
		"github dispatch on a tag":    {with(github, map[string]string{"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_REF": "refs/tags/v1.2.3"}), "", githubRef(host.Ref{Event: host.Manual, Tag: "v1.2.3", Author: "octocat"})},
		"github merge queue":          {with(github, map[string]string{"GITHUB_EVENT_NAME": "merge_group", "GITHUB_REF": "refs/heads/gh-readonly-queue/main/pr-12-abc"}), "", githubRef(host.Ref{Event: host.Push, Branch: "gh-readonly-queue/main/pr-12-abc", Author: "octocat"})},
		"github pull request":         {with(github, pull), sameRepo, pullRef},
		"github fork":                 {with(github, pull), fork, forked},
		"github deleted fork":         {with(github, pull), deleted, forked},
		"github pull request without payload is treated as a fork": {with(github, pull), "", unknownSource},
		"github pull_request_target names the base in its ref": {
			with(github, map[string]string{"GITHUB_EVENT_NAME": "pull_request_target", "GITHUB_HEAD_REF": "wheels", "GITHUB_BASE_REF": "main"}), fork, forked},
		"github second attempt": {with(github, map[string]string{"GITHUB_RUN_ATTEMPT": "2"}), "",
			func() host.Ref {
				r := githubRef(host.Ref{Event: host.Push, Branch: "main", Author: "octocat"})
				r.RunURL += "/attempts/2"
				return r
			}()},

		"gitlab push":     {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main"}), "", gitlabRef(host.Ref{Event: host.Push, Branch: "main"})},
		"gitlab tag":      {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_TAG": "v1.2.3", "CI_COMMIT_REF_NAME": "v1.2.3"}), "", gitlabRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"gitlab schedule": {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "schedule", "CI_COMMIT_BRANCH": "main"}), "", gitlabRef(host.Ref{Event: host.Schedule, Branch: "main"})},
		"gitlab web":      {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "web", "CI_COMMIT_BRANCH": "main"}), "", gitlabRef(host.Ref{Event: host.Manual, Branch: "main"})},
		"gitlab merge request": {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "merge_request_event", "CI_COMMIT_REF_NAME": "wheels", "CI_MERGE_REQUEST_IID": "7",
			"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "wheels", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_MERGE_REQUEST_PROJECT_ID": "1", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "1",
			"CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "", "CI_MERGE_REQUEST_EVENT_TYPE": "detached"}), "",
			gitlabRef(host.Ref{Event: host.PullRequest, PullRequest: 7, Head: "wheels", Base: "main", HeadSHA: sha})},
		"gitlab merged result of a fork": {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "merge_request_event", "CI_MERGE_REQUEST_IID": "7",
			"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "main", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_MERGE_REQUEST_PROJECT_ID": "1", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "2",
			"CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": otherSHA, "CI_MERGE_REQUEST_EVENT_TYPE": "merged_result"}), "",
			gitlabRef(host.Ref{Event: host.PullRequest, PullRequest: 7, Head: "main", Base: "main", HeadSHA: otherSHA, Fork: true})},
		"gitlab child pipeline of a merge request": {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "parent_pipeline", "CI_MERGE_REQUEST_IID": "7",
			"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "wheels", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_MERGE_REQUEST_PROJECT_ID": "1", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "1"}), "",
			gitlabRef(host.Ref{Event: host.PullRequest, PullRequest: 7, Head: "wheels", Base: "main", HeadSHA: sha})},
		"gitlab pull request on github": {with(gitlab, map[string]string{"CI_PIPELINE_SOURCE": "external_pull_request_event", "CI_COMMIT_BRANCH": "wheels", "CI_EXTERNAL_PULL_REQUEST_IID": "5",
			"CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME": "wheels", "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME": "main",
			"CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY": "acme/shop", "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY": "acme/shop"}), "",
			gitlabRef(host.Ref{Event: host.PullRequest, PullRequest: 5, Head: "wheels", Base: "main", HeadSHA: sha})},

		"buildkite push":     {buildkite, "", buildkiteRef(host.Ref{Event: host.Push, Branch: "main"})},
		"buildkite schedule": {with(buildkite, map[string]string{"BUILDKITE_SOURCE": "schedule"}), "", buildkiteRef(host.Ref{Event: host.Schedule, Branch: "main"})},
		"buildkite by hand, HEAD": {with(buildkite, map[string]string{"BUILDKITE_SOURCE": "ui", "BUILDKITE_COMMIT": "HEAD"}), "",
			func() host.Ref {
				r := buildkiteRef(host.Ref{Event: host.Manual, Branch: "main"})
				r.SHA = ""
				return r
			}()},
		"buildkite tag": {with(buildkite, map[string]string{"BUILDKITE_TAG": "v1.2.3", "BUILDKITE_BRANCH": "v1.2.3"}), "", buildkiteRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"buildkite pull request": {with(buildkite, map[string]string{"BUILDKITE_PULL_REQUEST": "12", "BUILDKITE_BRANCH": "wheels", "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "main",
			"BUILDKITE_PULL_REQUEST_REPO": "https://github.com/acme-inc/shop.git"}), "", buildkiteRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", Base: "main", HeadSHA: sha})},
		"buildkite fork": {with(buildkite, map[string]string{"BUILDKITE_PULL_REQUEST": "12", "BUILDKITE_BRANCH": "mallory:main", "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "main",
			"BUILDKITE_PULL_REQUEST_REPO": "git://github.com/mallory/shop.git"}), "", buildkiteRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "main", Base: "main", HeadSHA: sha, Fork: true})},

		"circleci push":         {with(circle, map[string]string{"CIRCLE_BRANCH": "main"}), "", circleRef(host.Ref{Event: host.Push, Branch: "main"})},
		"circleci tag":          {with(circle, map[string]string{"CIRCLE_TAG": "v1.2.3"}), "", circleRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"circleci pull request": {with(circle, map[string]string{"CIRCLE_BRANCH": "wheels", "CIRCLE_PULL_REQUEST": "https://github.com/acme/shop/pull/12"}), "", circleRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", HeadSHA: sha})},
		"circleci fork": {with(circle, map[string]string{"CIRCLE_BRANCH": "pull/12", "CIRCLE_PR_NUMBER": "12", "CIRCLE_PR_USERNAME": "mallory", "CIRCLE_PULL_REQUEST": "https://github.com/acme/shop/pull/12"}), "",
			circleRef(host.Ref{Event: host.PullRequest, PullRequest: 12, HeadSHA: sha, Fork: true})},

		"bitbucket push":         {with(bitbucket, map[string]string{"BITBUCKET_BRANCH": "main"}), "", bitbucketRef(host.Ref{Event: host.Push, Branch: "main"})},
		"bitbucket tag":          {with(bitbucket, map[string]string{"BITBUCKET_TAG": "v1.2.3"}), "", bitbucketRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"bitbucket pull request": {with(bitbucket, map[string]string{"BITBUCKET_BRANCH": "wheels", "BITBUCKET_PR_ID": "12", "BITBUCKET_PR_DESTINATION_BRANCH": "main"}), "", bitbucketRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", Base: "main"})},

		"azure push":     {azure, "", azureRef(host.Ref{Event: host.Push, Branch: "feature/wheels"})},
		"azure tag":      {with(azure, map[string]string{"BUILD_SOURCEBRANCH": "refs/tags/v1.2.3"}), "", azureRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"azure schedule": {with(azure, map[string]string{"BUILD_REASON": "Schedule"}), "", azureRef(host.Ref{Event: host.Schedule, Branch: "feature/wheels"})},
		"azure manual":   {with(azure, map[string]string{"BUILD_REASON": "Manual"}), "", azureRef(host.Ref{Event: host.Manual, Branch: "feature/wheels"})},
		"azure pull request": {with(azure, map[string]string{"BUILD_REASON": "PullRequest", "BUILD_SOURCEBRANCH": "refs/pull/123/merge", "SYSTEM_PULLREQUEST_PULLREQUESTID": "123",
			"SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/wheels", "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main", "SYSTEM_PULLREQUEST_SOURCECOMMITID": otherSHA, "SYSTEM_PULLREQUEST_ISFORK": "False"}), "",
			azureRef(host.Ref{Event: host.PullRequest, PullRequest: 123, Head: "wheels", Base: "main", HeadSHA: otherSHA})},
		"azure fork on github has its number apart from its id": {with(azure, map[string]string{"BUILD_REASON": "PullRequest", "BUILD_SOURCEBRANCH": "refs/pull/12/merge", "SYSTEM_PULLREQUEST_PULLREQUESTID": "987654321",
			"SYSTEM_PULLREQUEST_PULLREQUESTNUMBER": "12", "SYSTEM_PULLREQUEST_SOURCEBRANCH": "wheels", "SYSTEM_PULLREQUEST_TARGETBRANCH": "main", "SYSTEM_PULLREQUEST_ISFORK": "True"}), "",
			azureRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", Base: "main", Fork: true})},

		"woodpecker push":    {woodpecker, "", woodpeckerRef(host.Ref{Event: host.Push, Branch: "main"})},
		"woodpecker tag":     {with(woodpecker, map[string]string{"CI_PIPELINE_EVENT": "tag", "CI_COMMIT_TAG": "v1.2.3", "CI_COMMIT_REF": "refs/tags/v1.2.3"}), "", woodpeckerRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"woodpecker release": {with(woodpecker, map[string]string{"CI_PIPELINE_EVENT": "release", "CI_COMMIT_REF": "refs/tags/v1.2.3"}), "", woodpeckerRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"woodpecker cron":    {with(woodpecker, map[string]string{"CI_PIPELINE_EVENT": "cron"}), "", woodpeckerRef(host.Ref{Event: host.Schedule, Branch: "main"})},
		"woodpecker manual":  {with(woodpecker, map[string]string{"CI_PIPELINE_EVENT": "manual"}), "", woodpeckerRef(host.Ref{Event: host.Manual, Branch: "main"})},
		"woodpecker pull request has the target in its branch": {with(woodpecker, map[string]string{"CI_PIPELINE_EVENT": "pull_request", "CI_COMMIT_REF": "refs/pull/12/head", "CI_COMMIT_PULL_REQUEST": "12",
			"CI_COMMIT_SOURCE_BRANCH": "wheels", "CI_COMMIT_TARGET_BRANCH": "main"}), "", woodpeckerRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", Base: "main", HeadSHA: sha, Fork: true})},

		"jenkins multibranch": {with(jenkins, map[string]string{"BRANCH_NAME": "main", "GIT_BRANCH": "main", "BRANCH_IS_PRIMARY": "true"}), "", jenkinsRef(host.Ref{Event: host.Push, Branch: "main", DefaultBranch: "main"})},
		"jenkins freestyle":   {with(jenkins, map[string]string{"GIT_BRANCH": "origin/feature/wheels"}), "", jenkinsRef(host.Ref{Event: host.Push, Branch: "feature/wheels"})},
		"jenkins timer":       {with(jenkins, map[string]string{"GIT_BRANCH": "origin/main", "BUILD_CAUSE": "TIMERTRIGGER"}), "", jenkinsRef(host.Ref{Event: host.Schedule, Branch: "main"})},
		"jenkins tag":         {with(jenkins, map[string]string{"BRANCH_NAME": "v1.2.3", "TAG_NAME": "v1.2.3"}), "", jenkinsRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"jenkins tag refspec": {with(jenkins, map[string]string{"GIT_BRANCH": "origin/tags/v1.2.3"}), "", jenkinsRef(host.Ref{Event: host.Tag, Tag: "v1.2.3"})},
		"jenkins detached":    {with(jenkins, map[string]string{"GIT_BRANCH": "detached"}), "", jenkinsRef(host.Ref{Event: host.Push})},
		"jenkins pull request": {with(jenkins, map[string]string{"BRANCH_NAME": "PR-12", "CHANGE_ID": "12", "CHANGE_BRANCH": "wheels", "CHANGE_TARGET": "main", "CHANGE_TITLE": "Count wheels", "CHANGE_AUTHOR": "ada"}), "",
			jenkinsRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "wheels", Base: "main", Message: "Count wheels", Author: "ada"})},
		"jenkins fork": {with(jenkins, map[string]string{"BRANCH_NAME": "PR-12", "CHANGE_ID": "12", "CHANGE_BRANCH": "main", "CHANGE_TARGET": "main", "CHANGE_FORK": "mallory"}), "",
			jenkinsRef(host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "main", Base: "main", Fork: true})},
		"an agent of jenkins inside another host": {with(with(github, jenkins), map[string]string{"BRANCH_NAME": "x"}), "", githubRef(host.Ref{Event: host.Push, Branch: "main", Author: "octocat"})},

		"nothing at all": {nil, "", host.Ref{Host: host.Local, Event: host.Manual}},
		"an unknown ci":  {map[string]string{"CI": "true", "BUILD_ID": "1"}, "", host.Ref{Host: host.Local, Event: host.Manual}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := host.Detect(lookup(test.env), []byte(test.event), host.GitFacts{}, host.Overrides{})
			require.NoError(t, err)
			require.True(t, test.want.CommitTime.Equal(got.CommitTime), "commit time %v", got.CommitTime)
			got.CommitTime, test.want.CommitTime = time.Time{}, time.Time{}
			require.Equal(t, test.want, got)
		})
	}
}

func TestDetectWithGitAndFlags(t *testing.T) {
	t.Parallel()
	git := host.GitFacts{Commit: sha, Branch: "develop", Author: "Ada", Message: "Count wheels", RemoteURL: "git@github.com:acme/shop.git", DefaultBranch: "main"}
	detached := host.GitFacts{Commit: sha, RemoteBranches: []string{"main"}}
	tagged := host.GitFacts{Commit: sha, Tags: []string{"latest-good", "v1.2.3", "v1.10.0"}}
	forkPR := with(github, map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF": "refs/pull/12/merge", "GITHUB_HEAD_REF": "main", "GITHUB_BASE_REF": "main"})
	type brief struct {
		Event       host.Event
		Branch, Tag string
		PullRequest int
		Head        string
		Fork        bool
		SHA         string
	}
	for name, test := range map[string]struct {
		env   map[string]string
		git   host.GitFacts
		flags host.Overrides
		want  brief
	}{
		"git alone":                            {nil, git, host.Overrides{}, brief{Event: host.Manual, Branch: "develop", SHA: sha}},
		"detached at a branch of origin":       {nil, detached, host.Overrides{}, brief{Event: host.Manual, Branch: "main", SHA: sha}},
		"detached at two branches":             {nil, host.GitFacts{Commit: sha, RemoteBranches: []string{"a", "b"}}, host.Overrides{}, brief{Event: host.Manual, SHA: sha}},
		"detached at tags":                     {nil, tagged, host.Overrides{}, brief{Event: host.Manual, Tag: "v1.10.0", SHA: sha}},
		"push, branch from git":                {nil, git, host.Overrides{Event: "push"}, brief{Event: host.Push, Branch: "develop", SHA: sha}},
		"push of main":                         {nil, git, host.Overrides{Event: "push", Ref: "main"}, brief{Event: host.Push, Branch: "main", SHA: sha}},
		"push without anything known":          {nil, host.GitFacts{}, host.Overrides{Event: "push"}, brief{Event: host.Push}},
		"push while detached at a tag":         {nil, tagged, host.Overrides{Event: "push"}, brief{Event: host.Push, SHA: sha}},
		"tag from git":                         {nil, tagged, host.Overrides{Event: "tag"}, brief{Event: host.Tag, Tag: "v1.10.0", SHA: sha}},
		"tag by name":                          {nil, git, host.Overrides{Event: "tag", Ref: "v9"}, brief{Event: host.Tag, Tag: "v9", SHA: sha}},
		"tag by full name":                     {nil, git, host.Overrides{Ref: "refs/tags/v9"}, brief{Event: host.Tag, Tag: "v9", SHA: sha}},
		"short name that is a tag at HEAD":     {nil, tagged, host.Overrides{Ref: "v1.2.3"}, brief{Event: host.Tag, Tag: "v1.2.3", SHA: sha}},
		"a branch called like the tag, pushed": {nil, tagged, host.Overrides{Event: "push", Ref: "v1.2.3"}, brief{Event: host.Push, Branch: "v1.2.3", SHA: sha}},
		"branch of any name":                   {nil, git, host.Overrides{Ref: "refs/heads/feature/x"}, brief{Event: host.Manual, Branch: "feature/x", SHA: sha}},
		"pull request by ref":                  {nil, git, host.Overrides{Ref: "refs/pull/12/merge"}, brief{Event: host.PullRequest, PullRequest: 12, SHA: sha}},
		"pull request by number":               {nil, git, host.Overrides{Event: "pull_request", Ref: "12"}, brief{Event: host.PullRequest, PullRequest: 12, SHA: sha}},
		"pull request by branch":               {nil, git, host.Overrides{Event: "pull_request", Ref: "wheels"}, brief{Event: host.PullRequest, Head: "wheels", SHA: sha}},
		"pull request of what is checked out":  {nil, git, host.Overrides{Event: "pull_request"}, brief{Event: host.PullRequest, Head: "develop", SHA: sha}},
		"merge request by ref":                 {nil, git, host.Overrides{Ref: "refs/merge-requests/7/head"}, brief{Event: host.PullRequest, PullRequest: 7, SHA: sha}},
		"schedule":                             {nil, git, host.Overrides{Event: "schedule"}, brief{Event: host.Schedule, Branch: "develop", SHA: sha}},
		"short sha of HEAD":                    {nil, git, host.Overrides{SHA: "FFAC537"}, brief{Event: host.Manual, Branch: "develop", SHA: sha}},
		"another sha":                          {nil, git, host.Overrides{SHA: otherSHA}, brief{Event: host.Manual, Branch: "develop", SHA: otherSHA}},

		"host over git":                           {github, git, host.Overrides{}, brief{Event: host.Push, Branch: "main", SHA: sha}},
		"flags over host":                         {github, git, host.Overrides{Event: "push", Ref: "develop", SHA: otherSHA}, brief{Event: host.Push, Branch: "develop", SHA: otherSHA}},
		"event alone over host":                   {github, git, host.Overrides{Event: "schedule"}, brief{Event: host.Schedule, Branch: "main", SHA: sha}},
		"host without a branch":                   {with(jenkins, map[string]string{"GIT_BRANCH": "detached"}), detached, host.Overrides{}, brief{Event: host.Push, Branch: "main", SHA: sha}},
		"a fork's pull request gets no branch":    {forkPR, git, host.Overrides{}, brief{Event: host.PullRequest, PullRequest: 12, Head: "main", Fork: true, SHA: sha}},
		"a fork's main called a push stays apart": {forkPR, host.GitFacts{Commit: sha}, host.Overrides{Event: "push"}, brief{Event: host.Push, SHA: sha}},
		"the same pull request by flag":           {forkPR, git, host.Overrides{Event: "pull_request", Ref: "12"}, brief{Event: host.PullRequest, PullRequest: 12, Head: "main", Fork: true, SHA: sha}},
		"another pull request by flag":            {forkPR, git, host.Overrides{Ref: "refs/pull/13/merge"}, brief{Event: host.PullRequest, PullRequest: 13, SHA: sha}},
		"a branch by flag in a pull request":      {forkPR, git, host.Overrides{Ref: "main"}, brief{Event: host.Push, Branch: "main", SHA: sha}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := host.Detect(lookup(test.env), nil, test.git, test.flags)
			require.NoError(t, err)
			require.Equal(t, test.want, brief{got.Event, got.Branch, got.Tag, got.PullRequest, got.Head, got.Fork, got.SHA})
		})
	}

	t.Run("git adds author, repository and default branch", func(t *testing.T) {
		t.Parallel()
		dirty := git
		dirty.Dirty = true
		got, err := host.Detect(lookup(nil), nil, dirty, host.Overrides{})
		require.NoError(t, err)
		require.Equal(t, host.Ref{Host: host.Local, Event: host.Manual, Branch: "develop", SHA: sha, Dirty: true, Author: "Ada", Message: "Count wheels",
			Repository: "acme/shop", RepositoryURL: "https://github.com/acme/shop", DefaultBranch: "main"}, got)
	})
	t.Run("git's author is not another commit's", func(t *testing.T) {
		t.Parallel()
		got, err := host.Detect(lookup(nil), nil, git, host.Overrides{SHA: otherSHA})
		require.NoError(t, err)
		require.Empty(t, got.Author)
		require.Empty(t, got.Message)
	})
}

func TestDetectRefusesBadFlags(t *testing.T) {
	t.Parallel()
	for want, flags := range map[string]host.Overrides{
		`--event: unknown event "deploy": use push, pull_request, tag, schedule or manual`:                                        {Event: "deploy"},
		`--sha: "main" is no commit: use 7 to 64 hexadecimal digits`:                                                              {SHA: "main"},
		`--ref: "-x" is no branch, tag or pull request: a name can't begin with a dash`:                                           {Ref: "-x"},
		`--ref: "a b" is no branch, tag or pull request: a name can't contain ' '`:                                                {Ref: "a b"},
		`--ref: "a..b" is no branch, tag or pull request: a name can't contain "..", "@{", be "@" or end with a dot`:              {Ref: "a..b"},
		`--ref: "a//b" is no branch, tag or pull request: a name can't have an empty part between slashes`:                        {Ref: "a//b"},
		`--ref: "x/.y" is no branch, tag or pull request: no part of a name can begin with a dot or end with ".lock"`:             {Ref: "x/.y"},
		`--ref: "refs/remotes/origin/main" is of no known kind: use a name, refs/heads/NAME, refs/tags/NAME or refs/pull/N/merge`: {Ref: "refs/remotes/origin/main"},
		`--ref: "refs/heads/main" is no tag, as --event tag asks for`:                                                             {Event: "tag", Ref: "refs/heads/main"},
		`--ref: "refs/tags/v1" is no branch, as --event push asks for: use --event tag`:                                           {Event: "push", Ref: "refs/tags/v1"},
		`--ref: "refs/tags/v1" is a tag, but --event is pull_request: use refs/pull/N/merge, the number or the branch`:            {Event: "pull_request", Ref: "refs/tags/v1"},
		`--event: tag: no tag is known for this commit: name it with --ref`:                                                       {Event: "tag"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			_, err := host.Detect(lookup(nil), nil, host.GitFacts{Commit: sha, Branch: "main"}, flags)
			require.EqualError(t, err, want)
			var usage *host.UsageError
			require.ErrorAs(t, err, &usage)
			require.Equal(t, 2, usage.ExitCode())
		})
	}
}

func TestDetectRefusesABrokenPayload(t *testing.T) {
	t.Parallel()
	_, err := host.Detect(lookup(github), []byte("{"), host.GitFacts{}, host.Overrides{})
	require.ErrorContains(t, err, "GITHUB_EVENT_PATH")
}

func TestImageTags(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ref  host.Ref
		want []string
	}{
		"branch":                {host.Ref{Event: host.Push, Branch: "main", SHA: sha}, []string{"main", "sha-ffac537"}},
		"branch with slashes":   {host.Ref{Event: host.Push, Branch: "feature/Wheels #2", SHA: sha}, []string{"feature-Wheels-2", "sha-ffac537"}},
		"branch like a release": {host.Ref{Branch: "1.2.3", SHA: sha}, []string{"branch-1.2.3", "sha-ffac537"}},
		"branch like a commit":  {host.Ref{Branch: "sha-fedcba9"}, []string{"branch-sha-fedcba9"}},
		"branch like a PR":      {host.Ref{Branch: "pr-1"}, []string{"branch-pr-1"}},
		"branch called latest":  {host.Ref{Branch: "latest"}, []string{"branch-latest"}},
		"branch on a schedule":  {host.Ref{Event: host.Schedule, Branch: "main", SHA: sha}, []string{"main", "sha-ffac537"}},
		"branch of 200":         {host.Ref{Branch: strings.Repeat("a", 200)}, []string{strings.Repeat("a", 128)}},
		"branch beyond ASCII":   {host.Ref{Branch: "日本", SHA: sha}, []string{"sha-ffac537"}},
		"leading dot and dash":  {host.Ref{Branch: "_-.x-"}, []string{"_-.x"}},
		"pull request":          {host.Ref{Event: host.PullRequest, PullRequest: 12, Head: "main", SHA: sha}, []string{"pr-12", "sha-ffac537"}},
		"pull request unknown":  {host.Ref{Event: host.PullRequest, Head: "main", SHA: sha}, []string{"sha-ffac537"}},
		"version":               {host.Ref{Event: host.Tag, Tag: "v1.2.3", SHA: sha}, []string{"1.2.3", "1.2", "1", "latest", "sha-ffac537"}},
		"version without v":     {host.Ref{Event: host.Tag, Tag: "1.2.3"}, []string{"1.2.3", "1.2", "1", "latest"}},
		"version zero":          {host.Ref{Event: host.Tag, Tag: "v0.2.1"}, []string{"0.2.1", "0.2", "latest"}},
		"pre-release":           {host.Ref{Event: host.Tag, Tag: "v2.0.8-beta.67", SHA: sha}, []string{"2.0.8-beta.67", "sha-ffac537"}},
		"build metadata":        {host.Ref{Event: host.Tag, Tag: "v1.2.3+build.5"}, []string{"1.2.3", "1.2", "1", "latest"}},
		"no version":            {host.Ref{Event: host.Tag, Tag: "nightly/2025", SHA: sha}, []string{"nightly-2025", "sha-ffac537"}},
		"half a version":        {host.Ref{Event: host.Tag, Tag: "v1.2"}, []string{"v1.2"}},
		"leading zero":          {host.Ref{Event: host.Tag, Tag: "v01.2.3"}, []string{"v01.2.3"}},
		"dirty":                 {host.Ref{Branch: "main", SHA: sha, Dirty: true}, []string{"main", "sha-ffac537-dirty"}},
		"unknown":               {host.Ref{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, test.ref.ImageTags())
			if len(test.want) > 0 {
				require.Equal(t, test.want[0], test.ref.Version())
			}
		})
	}
}

func FuzzSanitizeImageTag(f *testing.F) {
	for _, seed := range []string{"main", "feature/x", "-", "日本", strings.Repeat("a/", 100)} {
		f.Add(seed)
	}
	grammar := regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	f.Fuzz(func(t *testing.T, name string) {
		if tag := host.SanitizeImageTag(name); tag != "" {
			require.Regexp(t, grammar, tag)
		}
	})
}

func TestRefNames(t *testing.T) {
	t.Parallel()
	for want, ref := range map[string]host.Ref{
		"main":              {Event: host.Push, Branch: "main"},
		"v1.2.3":            {Event: host.Tag, Tag: "v1.2.3"},
		"pull request 12":   {Event: host.PullRequest, PullRequest: 12},
		"pull request of x": {Event: host.PullRequest, Head: "x"},
		"pull request":      {Event: host.PullRequest},
		"commit ffac537":    {SHA: sha},
		"unknown ref":       {},
	} {
		require.Equal(t, want, ref.String())
	}
	require.Equal(t, "abc", host.Ref{SHA: "abc"}.ShortSHA())
	data, err := json.Marshal(host.Ref{Host: host.Local, Event: host.Push, Branch: "main"})
	require.NoError(t, err)
	require.JSONEq(t, `{"host":"local","event":"push","branch":"main"}`, string(data))
}

// TestReadGit asks the real git, in repositories made for it.
func TestReadGit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	git := func(dir string, args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir),
			"GIT_AUTHOR_NAME=Ada \"Jr\" O'Neil, x", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.com",
			"GIT_AUTHOR_DATE=2025-05-02T10:11:12+02:00", "GIT_COMMITTER_DATE=2025-05-02T10:11:12+02:00")
		out, err := cmd.Output()
		return string(out), err
	}
	must := func(dir string, args ...string) string {
		t.Helper()
		out, err := git(dir, args...)
		require.NoError(t, err, args)
		return strings.TrimSpace(out)
	}
	read := func(dir string) host.GitFacts {
		t.Helper()
		facts, err := host.ReadGit(func(args ...string) (string, error) { return git(dir, args...) })
		require.NoError(t, err)
		return facts
	}

	origin := filepath.Join(dir, "origin")
	require.NoError(t, os.Mkdir(origin, 0o755))
	_, err := host.ReadGit(func(args ...string) (string, error) { return git(origin, args...) })
	require.Error(t, err, "no repository")

	must(origin, "init", "-q", "-b", "main")
	require.Equal(t, host.GitFacts{Branch: "main"}, read(origin), "no commit yet")

	must(origin, "commit", "-q", "--allow-empty", "-m", "first\n\nbody")
	must(origin, "tag", "old")
	require.NoError(t, os.WriteFile(filepath.Join(origin, "a file"), []byte("x"), 0o600))
	require.True(t, read(origin).Dirty)
	must(origin, "add", ".")
	must(origin, "commit", "-q", "-m", "count wheels\n\nbody")
	must(origin, "tag", "v1.2.3")
	must(origin, "tag", "-a", "-m", "annotated", "v1.10.0")
	head := must(origin, "rev-parse", "HEAD")
	facts := read(origin)
	require.Equal(t, []string{"v1.10.0", "v1.2.3"}, facts.Tags)
	require.Equal(t, `Ada "Jr" O'Neil, x`, facts.Author)
	require.Equal(t, "count wheels", facts.Message)
	require.Equal(t, head, facts.Commit)
	require.True(t, facts.CommitTime.Equal(time.Date(2025, 5, 2, 8, 11, 12, 0, time.UTC)))

	shallow := filepath.Join(dir, "shallow")
	must(dir, "clone", "-q", "--depth=1", "--no-tags", "file://"+origin, shallow)
	must(shallow, "checkout", "-q", "--detach")
	facts = read(shallow)
	require.True(t, facts.Shallow)
	require.Empty(t, facts.Branch)
	require.Empty(t, facts.Tags)
	require.Equal(t, []string{"main"}, facts.RemoteBranches)
	require.Equal(t, "main", facts.DefaultBranch)
	require.False(t, facts.Dirty)
	ref, err := host.Detect(lookup(nil), nil, facts, host.Overrides{Event: "push"})
	require.NoError(t, err)
	require.Equal(t, "main", ref.Branch)
	require.Empty(t, ref.Repository, "a folder on a disk is no repository that others could find")
}

func TestUsageErrorIsFound(t *testing.T) {
	t.Parallel()
	_, err := host.ParseEvent("x")
	require.Error(t, err)
	for _, e := range host.Events {
		got, err := host.ParseEvent(string(e))
		require.NoError(t, err)
		require.Equal(t, e, got)
	}
	require.False(t, errors.As(err, new(*host.UsageError)))
}
