package gate

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Approver is a person who may approve.
type Approver struct {
	// Name is who it is, for the record.
	Name string
	// Key is their public SSH key, as a line of an authorized_keys file.
	Key string
}

// Statement is what an approver signs.
type Statement struct {
	// Schema is [ApprovalSchema].
	Schema string `json:"schema"`
	// Environment, Digests and Commit are what may be deployed, and where. Digests are sorted.
	Environment string   `json:"environment"`
	Digests     []string `json:"digests"`
	Commit      string   `json:"commit"`
	// Issued and Expires are when the approval holds.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

const (
	// ApprovalSchema names the form of a statement.
	ApprovalSchema = "millrace/approval/v1"
	// namespace keeps a signature that was made for something else from being an approval.
	namespace = "millrace-approval"
	// maxValidity bounds how long an approval may hold, so that a forgotten one does not open a gate months later.
	maxValidity = 7 * 24 * time.Hour
	// skew is how far the clocks of two machines may be apart.
	skew = 5 * time.Minute
	// maxApproval bounds, in bytes, an approval's text.
	maxApproval = 64 << 10
)

// NewStatement says that the request may go ahead, from now on and for a while.
func NewStatement(request Request, valid time.Duration) (Statement, error) {
	all, err := digests(request.Images)
	switch {
	case err != nil:
		return Statement{}, err
	case len(all) == 0:
		return Statement{}, errors.New("no images are named: an approval is for what will run")
	case request.Environment == "":
		return Statement{}, errors.New("no environment is named")
	case valid <= 0 || valid > maxValidity:
		return Statement{}, fmt.Errorf("an approval can't hold for %s: use at most %s", valid, maxValidity)
	}
	now := request.Now.UTC().Truncate(time.Second)
	return Statement{
		Schema: ApprovalSchema, Environment: request.Environment, Digests: all, Commit: request.Commit,
		Issued: now, Expires: now.Add(valid),
	}, nil
}

// Text is the statement as it is signed: what a person reads is what counts.
func (s Statement) Text() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the approval: %w", err)
	}
	return append(text, '\n'), nil
}

// Sign returns an approval: the statement, and below it a signature as "ssh-keygen -Y sign -n millrace-approval" makes it.
func Sign(s Statement, signer ssh.Signer) ([]byte, error) {
	text, err := s.Text()
	if err != nil {
		return nil, err
	}
	signature, err := sshsig.Sign(bytes.NewReader(text), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return nil, fmt.Errorf("sign the approval: %w", err)
	}
	return append(text, sshsig.Armor(signature)...), nil
}

// armor begins the signature.
const armor = "-----BEGIN SSH SIGNATURE-----"

// Verify returns what an approval states and which of the approvers signed it.
func Verify(approval []byte, approvers []Approver) (Statement, Approver, error) {
	if len(approval) > maxApproval {
		return Statement{}, Approver{}, errors.New("the approval is too long to be one")
	}
	at := bytes.Index(approval, []byte(armor))
	if at < 0 {
		return Statement{}, Approver{}, errors.New("the approval has no signature: make it with the command approve")
	}
	text, signed := approval[:at], approval[at:]
	if block, rest := pem.Decode(signed); block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return Statement{}, Approver{}, errors.New("the approval's signature is damaged")
	}
	signature, err := sshsig.Unarmor(signed)
	if err != nil {
		return Statement{}, Approver{}, fmt.Errorf("the approval's signature is damaged: %w", err)
	}
	for _, a := range approvers {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.Key))
		if err != nil {
			return Statement{}, Approver{}, fmt.Errorf("the key of the approver %s: want a line such as \"ssh-ed25519 AAAA…\": %w", a.Name, err)
		}
		if !bytes.Equal(key.Marshal(), signature.PublicKey.Marshal()) {
			continue
		}
		if err := sshsig.Verify(bytes.NewReader(text), signature, key, signature.HashAlgorithm, namespace); err != nil {
			return Statement{}, Approver{}, fmt.Errorf("the signature of %s does not fit the approval's text: it was changed, or signed for something else", a.Name)
		}
		var s Statement
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&s); err != nil || s.Schema != ApprovalSchema {
			return Statement{}, Approver{}, fmt.Errorf("%s signed something that is no approval of this version", a.Name)
		}
		return s, a, nil
	}
	return Statement{}, Approver{}, fmt.Errorf("the key %s, which signed the approval, is none of the approvers'", ssh.FingerprintSHA256(signature.PublicKey))
}

// approved looks for an approval, by the CI host or signed.
func approved(rules Rules, request Request, facts Facts) (refusal, pass string) {
	if rules.HostApproval && facts.HostApproved != "" {
		return "", "approved by " + facts.HostApproved + " on the CI host"
	}
	if len(facts.Approval) == 0 {
		hint := "run: ci approve " + request.Environment
		switch {
		case len(rules.Approvers) == 0:
			hint = "approve it on the CI host"
		case rules.HostApproval:
			hint = "approve it on the CI host, or " + hint
		}
		return fmt.Sprintf("no approval for %s: %s", request.Environment, hint), ""
	}
	s, who, err := Verify(facts.Approval, rules.Approvers)
	if err != nil {
		return err.Error(), ""
	}
	wanted, err := digests(request.Images)
	switch {
	case err != nil:
		return err.Error(), ""
	case s.Environment != request.Environment:
		return fmt.Sprintf("%s approved a deployment to %s, and this is one to %s", who.Name, s.Environment, request.Environment), ""
	case s.Commit != request.Commit:
		return fmt.Sprintf("%s approved commit %s, and this is %s", who.Name, orNone(s.Commit), orNone(request.Commit)), ""
	case !slices.Equal(s.Digests, wanted):
		return fmt.Sprintf("%s approved other images: %s, and these are %s", who.Name, list(s.Digests), list(wanted)), ""
	case s.Issued.After(request.Now.Add(skew)):
		return fmt.Sprintf("the approval of %s was made at %s, which is in the future: compare the clocks of both machines", who.Name, stamp(s.Issued)), ""
	case !request.Now.Before(s.Expires):
		return fmt.Sprintf("the approval of %s expired at %s: approve again", who.Name, stamp(s.Expires)), ""
	case s.Expires.Sub(s.Issued) > maxValidity:
		return fmt.Sprintf("the approval of %s holds for more than %s, which is too long", who.Name, maxValidity), ""
	}
	return "", fmt.Sprintf("approved by %s at %s", who.Name, stamp(s.Issued))
}

// list prints digests that an approval states, which may be of any form.
func list(digests []string) string {
	cut := make([]string, len(digests))
	for i, d := range digests {
		cut[i] = d[:min(len(d), len("sha256:")+12)]
	}
	return strings.Join(cut, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func orNone(commit string) string {
	if commit == "" {
		return "without a name"
	}
	return commit[:min(len(commit), 12)]
}
