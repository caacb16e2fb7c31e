package gate

import (
	"encoding/json"
	"fmt"
	"strings"
)

// GitHubApproval reads the answer of GitHub's "GET /repos/{owner}/{repo}/actions/runs/{run_id}/approvals": who approved the
// environment in this run; empty if nobody did. A rejection needs no look: GitHub does not start the job then.
func GitHubApproval(answer []byte, environment string) (string, error) {
	var reviews []struct {
		State        string `json:"state"`
		Environments []struct {
			Name string `json:"name"`
		} `json:"environments"`
		User struct {
			Login string `json:"login"`
		} `json:"user"`
	}
	if err := json.Unmarshal(answer, &reviews); err != nil {
		return "", fmt.Errorf("read GitHub's list of approvals: %w", err)
	}
	for _, r := range reviews {
		for _, e := range r.Environments {
			if r.State == "approved" && strings.EqualFold(e.Name, environment) {
				return r.User.Login, nil
			}
		}
	}
	return "", nil
}
