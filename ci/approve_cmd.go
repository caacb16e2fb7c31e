package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"

	"github.com/millrace-ci/millrace/pipelines"
	"github.com/millrace-ci/millrace/pipelines/gate"
)

type approveCmd struct {
	sourceFlags `group:"Source:"`
	refFlags    `group:"What the run is for:"`
	lookFlags   `group:"How it runs:"`
	Environment string        `arg:"" help:"Environment that the images may go to, as millrace.yaml names it."`
	Image       []string      `placeholder:"REF" help:"Images to approve, each with its digest (default: what runs in the environment that the gates name)."`
	Key         string        `placeholder:"FILE" help:"Private SSH key to sign with (default: the approvers' key in the SSH agent)."`
	Valid       time.Duration `default:"24h" help:"How long the approval holds, at most 168h (default: 24h)."`
}

// Run prints the approval to stdout: give it to the deploy in the environment variable MILLRACE_APPROVAL.
func (c *approveCmd) Run(ctx context.Context, s *streams) error {
	p := &pipeline{sourceFlags: c.sourceFlags, refFlags: c.refFlags, runFlags: c.runFlags()}
	ready, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	environment, found := ready.project.Environment(c.Environment)
	if !found || environment.Gates == nil || len(environment.Gates.Approvers) == 0 {
		return usagef("%s takes no signed approval: name approvers under its gates in millrace.yaml", c.Environment)
	}
	request := pipelines.GateRequest(ready.inputs(nil, ""), c.Environment, c.Image)
	if len(c.Image) == 0 {
		p.environments = []string{environment.Gates.From}
		err := p.look(ctx, s, func(ctx context.Context, in pipelines.Inputs) (err error) {
			request, err = pipelines.Approvable(ctx, in, c.Environment)
			return err
		})
		if err != nil {
			return err
		}
	}
	statement, err := gate.NewStatement(request, c.Valid)
	if err != nil {
		return usageError{err}
	}
	var approvers []gate.Approver
	for _, a := range environment.Gates.Approvers {
		approvers = append(approvers, gate.Approver{Name: a.Name, Key: a.Key})
	}
	signer, err := c.signer(s, approvers)
	if err != nil {
		return usageError{err}
	}
	approval, err := gate.Sign(statement, signer)
	if err != nil {
		return err
	}
	// What would not be taken is not handed out.
	_, who, err := gate.Verify(approval, approvers)
	if err != nil {
		return usageError{err}
	}
	fmt.Fprintf(s.stderr, "%s approves for %s, until %s:\n", who.Name, c.Environment, statement.Expires.Local().Format("Mon 2 Jan 15:04 MST"))
	for _, image := range request.Images {
		fmt.Fprintln(s.stderr, " ", image)
	}
	_, err = s.stdout.Write(approval)
	return err
}

// signer returns the key that signs: from its file, or the first of the approvers' that the SSH agent holds.
func (c *approveCmd) signer(s *streams, approvers []gate.Approver) (ssh.Signer, error) {
	if c.Key != "" {
		return readKey(s, c.Key)
	}
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, errors.New("there is no SSH agent: name your private key with --key")
	}
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("ask the SSH agent: %w", err)
	}
	signers, err := agent.NewClient(connection).Signers()
	if err != nil {
		return nil, fmt.Errorf("ask the SSH agent: %w", err)
	}
	for _, a := range approvers {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.Key))
		if err != nil {
			return nil, fmt.Errorf("the key of the approver %s: %w", a.Name, err)
		}
		for _, signer := range signers {
			if string(signer.PublicKey().Marshal()) == string(key.Marshal()) {
				return signer, nil
			}
		}
	}
	return nil, errors.New("the SSH agent holds no approver's key: add yours with ssh-add, or name it with --key")
}

// readKey reads a private key, and asks for its passphrase if it has one.
func readKey(s *streams, file string) (ssh.Signer, error) {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return nil, fmt.Errorf("the key %s has a passphrase: add it to the SSH agent with ssh-add, and leave out --key", file)
		}
		fmt.Fprintf(s.stderr, "passphrase of %s: ", file)
		passphrase, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(s.stderr)
		if err != nil {
			return nil, fmt.Errorf("read the passphrase: %w", err)
		}
		return ssh.ParsePrivateKeyWithPassphrase(text, passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("the key %s: %w", file, err)
	}
	return signer, nil
}

// approval returns the signed approval that the run was given: the text itself, or the name of a file with it.
func approval(variable string) ([]byte, error) {
	value := os.Getenv(variable)
	if value == "" || strings.HasPrefix(strings.TrimSpace(value), "{") {
		return []byte(value), nil
	}
	text, err := os.ReadFile(filepath.Clean(value))
	if err != nil {
		return nil, usagef("%s holds neither an approval nor the name of a file with one: %w", variable, err)
	}
	return text, nil
}

// maxAnswer bounds, in bytes, what is read of GitHub's answer.
const maxAnswer = 1 << 20

// gitHubApproved asks GitHub who approved an environment in the present run, as the protection rules of the environment of
// that name want it. It takes the token of the job, with the permission "actions: read".
func gitHubApproved(client *http.Client, getenv func(string) string) func(context.Context, string) (string, error) {
	api, repository, run := getenv("GITHUB_API_URL"), getenv("GITHUB_REPOSITORY"), getenv("GITHUB_RUN_ID")
	if api == "" || repository == "" || run == "" {
		return nil
	}
	return func(ctx context.Context, environment string) (string, error) {
		token := getenv("GITHUB_TOKEN")
		if token == "" {
			return "", errors.New("GITHUB_TOKEN is not set: give the job's token to the step, with the permission actions: read")
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/repos/%s/actions/runs/%s/approvals", api, repository, run), nil)
		if err != nil {
			return "", err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Accept", "application/vnd.github+json")
		answer, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
		if err != nil {
			return "", err
		}
		if answer.StatusCode != http.StatusOK {
			var said struct{ Message string }
			_ = json.Unmarshal(body, &said) // what is no JSON says nothing
			return "", fmt.Errorf("GitHub answers %s: %s (the job needs the permission actions: read)", answer.Status, said.Message)
		}
		return gate.GitHubApproval(body, environment)
	}
}
