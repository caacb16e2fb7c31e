package gate

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

func digest(letter string) string { return "sha256:" + strings.Repeat(letter, 64) }

var (
	api   = "ghcr.io/acme/api@" + digest("a")
	batch = "ghcr.io/acme/batch@" + digest("b")
	noon  = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) // a Wednesday
)

func production(images ...string) Request {
	return Request{Environment: "production", Images: images, Commit: "0123456789abcdef", Now: noon}
}

func TestImagesMustHavePassed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		images   []string
		releases []Release
		open     bool
		reason   string
	}{
		"passed": {[]string{api}, []Release{{Revision: 3, Images: []string{api, batch}, Passed: true}}, true, "passed staging as revision 3"},
		"from another registry": {[]string{"mirror.example/api@" + digest("a")}, []Release{{Revision: 3, Images: []string{api}, Passed: true}}, true,
			"passed staging as revision 3"},
		"failed first and passed then": {[]string{api}, []Release{{Revision: 2, Images: []string{api}}, {Revision: 4, Images: []string{api}, Passed: true}}, true,
			"passed staging as revision 4"},
		"failed": {[]string{api}, []Release{{Revision: 2, Images: []string{api}}}, false, "revision 2 of staging had these images and did not pass"},
		"never there": {[]string{api}, []Release{{Revision: 2, Images: []string{batch}, Passed: true}}, false,
			"the image has not passed staging: no release there had sha256:aaaaaaaaaaaa"},
		"not together": {[]string{api, batch}, []Release{{Revision: 1, Images: []string{api}, Passed: true}, {Revision: 2, Images: []string{batch}, Passed: true}}, false,
			"the set of 2 images has not passed staging"},
		"nothing deployed": {[]string{api}, nil, false, "nothing has been deployed to staging: deploy there first"},
		"by tag":           {[]string{"ghcr.io/acme/api:latest"}, []Release{{Images: []string{api}, Passed: true}}, false, "ghcr.io/acme/api:latest has no digest"},
		"no images":        {nil, []Release{{Images: []string{api}, Passed: true}}, false, "no images are named"},
		"a record by tag":  {[]string{api}, []Release{{Images: []string{"api:latest"}, Passed: true}}, false, "has not passed staging"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Check(Rules{From: "staging"}, production(test.images...), Facts{Releases: test.releases})
			require.Equal(t, test.open, got.Open())
			require.Len(t, got.Conditions, 1)
			require.Contains(t, got.Conditions[0].Reason, test.reason)
		})
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	at := func(text string) time.Time {
		moment, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return moment
	}
	for _, test := range []struct {
		days           []string
		from, to, zone string
		now            string
		open           bool
		next           string
	}{
		{[]string{"mon", "Wednesday"}, "09:00", "17:00", "", "2026-11-25T09:00:00Z", true, ""},
		{[]string{"mon", "Wednesday"}, "09:00", "17:00", "", "2026-11-25T17:00:00Z", false, "2026-11-30T09:00:00Z"},
		{[]string{"mon"}, "09:00", "17:00", "", "2026-11-25T12:00:00Z", false, "2026-11-30T09:00:00Z"},
		{[]string{"wed"}, "09:00", "17:00", "", "2026-11-25T18:00:00Z", false, "2026-12-02T09:00:00Z"},
		{nil, "09:00", "17:00", "Europe/Berlin", "2026-11-25T08:30:00Z", true, ""}, // 09:30 there
		{nil, "09:00", "17:00", "Europe/Berlin", "2026-11-25T16:30:00Z", false, "2026-11-26T08:00:00Z"},
		{[]string{"fri"}, "22:00", "02:00", "", "2026-11-28T01:59:00Z", true, ""}, // Saturday, in Friday's window
		{[]string{"fri"}, "22:00", "02:00", "", "2026-11-27T01:00:00Z", false, "2026-11-27T22:00:00Z"},
		{[]string{"tue"}, "", "", "", "2026-11-25T00:00:00Z", false, "2026-12-01T00:00:00Z"},
		{[]string{"wed"}, "", "", "", "2026-11-25T23:59:59Z", true, ""},
		// The clock goes from 02:00 to 03:00 that night: the window still opens at nine by the clock.
		{nil, "09:00", "10:00", "Europe/Berlin", "2026-03-29T07:30:00Z", true, ""},
	} {
		w, err := ParseWindow(test.days, test.from, test.to, test.zone)
		require.NoError(t, err)
		require.Equal(t, test.open, w.Contains(at(test.now)), "%s at %s", w, test.now)
		if !test.open {
			next, err := w.Next(at(test.now))
			require.NoError(t, err)
			require.Equal(t, test.next, next.UTC().Format(time.RFC3339))
			require.True(t, w.Contains(next))
		}
	}
	for _, test := range [][4]string{
		{"someday", "", "", ""}, {"", "9am", "", ""}, {"", "25:00", "", ""}, {"", "09:00", "09:00", ""}, {"", "", "", "Mars/Olympus"}, {"", "", "", "Local"},
	} {
		var days []string
		if test[0] != "" {
			days = []string{test[0]}
		}
		_, err := ParseWindow(days, test[1], test[2], test[3])
		require.Error(t, err, test)
	}

	w, err := ParseWindow([]string{"mon", "tue"}, "09:00", "17:00", "Europe/Berlin")
	require.NoError(t, err)
	got := Check(Rules{Window: w}, production(api), Facts{})
	require.False(t, got.Open())
	require.Equal(t, "it is Wed 13:00, outside of the deployment window of production (mon, tue 09:00-17:00 Europe/Berlin), "+
		"which opens next on Monday, 30 November, at 09:00 CET", got.Reason())
	verdict, reason := got.Judgement()
	require.Equal(t, graph.Skipped, verdict)
	require.Equal(t, got.Reason(), reason)
}

// person makes a key, and the line that the configuration has of it.
func person(t *testing.T, name string) (ssh.Signer, Approver) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return signer, Approver{Name: name, Key: string(ssh.MarshalAuthorizedKey(signer.PublicKey()))}
}

func TestApproval(t *testing.T) {
	t.Parallel()
	key, ada := person(t, "Ada")
	stranger, _ := person(t, "Eve")
	rules := Rules{Approvers: []Approver{ada}}
	approve := func(signer ssh.Signer, request Request, valid time.Duration) []byte {
		s, err := NewStatement(request, valid)
		require.NoError(t, err)
		text, err := Sign(s, signer)
		require.NoError(t, err)
		return text
	}
	changed := func(change func(*Request)) Request {
		r := production(api, batch)
		change(&r)
		return r
	}
	good := approve(key, production(batch, api), time.Hour)
	for name, test := range map[string]struct {
		rules    Rules
		approval []byte
		request  Request
		open     bool
		reason   string
	}{
		"good":           {rules, good, production(api, batch), true, "approved by Ada at 2026-11-25 12:00 UTC"},
		"none":           {rules, nil, production(api), false, "no approval for production: run: ci approve production"},
		"by a stranger":  {rules, approve(stranger, production(api, batch), time.Hour), production(api, batch), false, "is none of the approvers'"},
		"expired":        {rules, good, changed(func(r *Request) { r.Now = noon.Add(time.Hour) }), false, "expired at 2026-11-25 13:00 UTC"},
		"of the future":  {rules, good, changed(func(r *Request) { r.Now = noon.Add(-time.Hour) }), false, "compare the clocks"},
		"a small skew":   {rules, good, changed(func(r *Request) { r.Now = noon.Add(-4 * time.Minute) }), true, ""},
		"other place":    {rules, good, changed(func(r *Request) { r.Environment = "staging" }), false, "Ada approved a deployment to production, and this is one to staging"},
		"other commit":   {rules, good, changed(func(r *Request) { r.Commit = "fedcba" }), false, "Ada approved commit 0123456789ab, and this is fedcba"},
		"other images":   {rules, good, changed(func(r *Request) { r.Images = []string{api} }), false, "Ada approved other images"},
		"changed text":   {rules, []byte(strings.Replace(string(good), "production", "elsewhere!", 1)), production(api, batch), false, "does not fit the approval's text"},
		"no signature":   {rules, good[:40], production(api, batch), false, "has no signature"},
		"cut":            {rules, good[:len(good)-60], production(api, batch), false, "damaged"},
		"something else": {rules, append(append([]byte{}, good...), "more"...), production(api, batch), false, "damaged"},
		"a broken key":   {Rules{Approvers: []Approver{{Name: "Bob", Key: "ssh-rubbish"}}}, good, production(api, batch), false, "the key of the approver Bob"},
		"host only":      {Rules{HostApproval: true}, nil, production(api), false, "approve it on the CI host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Check(test.rules, test.request, Facts{Approval: test.approval})
			require.Equal(t, test.open, got.Open(), got.Conditions)
			require.Contains(t, got.Conditions[0].Reason, test.reason)
		})
	}
	got := Check(Rules{Approvers: []Approver{ada}, HostApproval: true}, production(api), Facts{HostApproved: "octocat"})
	require.True(t, got.Open())
	require.False(t, Check(rules, production(api), Facts{HostApproved: "octocat"}).Open(), "the host's word counts only where the rules say so")

	_, err := NewStatement(production(api), 8*24*time.Hour)
	require.ErrorContains(t, err, "can't hold for 192h")
	_, err = NewStatement(production("api:latest"), time.Hour)
	require.ErrorContains(t, err, "has no digest")
}

func TestAllConditionsAreNamed(t *testing.T) {
	t.Parallel()
	_, ada := person(t, "Ada")
	w, err := ParseWindow([]string{"sun"}, "", "", "")
	require.NoError(t, err)
	got := Check(Rules{From: "staging", Window: w, Approvers: []Approver{ada}}, production(api), Facts{})
	require.Len(t, got.Conditions, 3)
	for _, part := range []string{"nothing has been deployed to staging", "outside of the deployment window", "no approval for production"} {
		require.Contains(t, got.Reason(), part)
	}
	verdict, _ := got.Judgement()
	require.Equal(t, graph.Failed, verdict, "images that have passed nowhere are not a matter of time")
	verdict, _ = Check(Rules{Approvers: []Approver{ada}}, production(api), Facts{}).Judgement()
	require.Equal(t, graph.Skipped, verdict, "nobody has approved yet")
	verdict, _ = Check(Rules{Approvers: []Approver{ada}}, production(api), Facts{Approval: []byte("yes")}).Judgement()
	require.Equal(t, graph.Failed, verdict)
	verdict, reason := Check(Rules{}, production(api), Facts{}).Judgement()
	require.Equal(t, graph.Passed, verdict, "no rules, no gates")
	require.Empty(t, reason)
}

func TestGitHubApproval(t *testing.T) {
	t.Parallel()
	answer := `[{"state":"approved","comment":"Ship it!","environments":[{"id":1,"name":"Production"}],"user":{"login":"octocat"}},
		{"state":"rejected","environments":[{"id":2,"name":"eu"}],"user":{"login":"hubot"}}]`
	for environment, want := range map[string]string{"production": "octocat", "eu": "", "staging": ""} {
		got, err := GitHubApproval([]byte(answer), environment)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := GitHubApproval([]byte("<html>"), "production")
	require.ErrorContains(t, err, "read GitHub's list of approvals")
}
