package python

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/report"
)

var planted = requirements{
	names: []string{"requirements.txt"},
	texts: map[string]string{"requirements.txt": "jinja2==2.10\nrequests==2.19.1\nflask\n"},
}

func TestParseSafetyFindsPlantedPins(t *testing.T) {
	t.Parallel()
	risks, err := parseSafety(captured(t, "safety.stdout"), "", 255, planted)
	require.NoError(t, err)
	require.Len(t, risks, 2)
	require.Equal(t, "requirements.txt", risks[0].File)
	require.Equal(t, 1, risks[0].Line)
	require.Equal(t, []string{"39525", "jinja2-39525", "CVE-2020-28493"}, risks[0].ids)
	require.Contains(t, risks[0].Message, "jinja2 2.10 is vulnerable (CVE-2020-28493), as are versions >=0.0.0,<2.11.3")
	require.Equal(t, 2, risks[1].Line)
	require.Equal(t, report.High, risks[1].Severity)

	clean, err := parseSafety("[]\n", "", 0, planted)
	require.NoError(t, err)
	require.Empty(t, clean)
	_, err = parseSafety("", "Unable to load vulnerability database from /nonexist", 255, planted)
	require.ErrorContains(t, err, "safety broke (exit code 255): Unable to load vulnerability database")
}

func TestParseBanditReportsWhatItCouldNotCheck(t *testing.T) {
	t.Parallel()
	risks, err := parseBandit(captured(t, "bandit.json"))
	require.NoError(t, err)
	var got []string
	for _, r := range risks {
		got = append(got, string(r.Severity)+" "+r.String())
	}
	require.Contains(t, got, "high pkg/broken.py: not checked: syntax error while parsing AST from file (bandit unchecked)")
	require.Contains(t, got, "medium pkg/bad.py:5:9: Use of possibly insecure function - consider using safer ast.literal_eval. (bandit B307)")
	_, err = parseBandit("not JSON")
	require.ErrorContains(t, err, "read bandit's report")
}

func TestExceptionsHoldUntilTheyExpire(t *testing.T) {
	t.Parallel()
	found := []risk{{pkg: "Jinja2", ids: []string{"39525", "CVE-2020-28493"}, Finding: report.Finding{Rule: "39525", File: "requirements.txt", Message: "old"}}}
	at := func(text string) time.Time {
		now, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return now
	}
	allow := []Exception{{ID: "cve-2020-28493", Where: "jinja2", Expires: "2026-06-30", Reason: "not reachable"}}

	kept, accepted, expired, err := sieve(found, allow, at("2026-06-30T23:59:59Z"))
	require.NoError(t, err)
	require.Empty(t, kept)
	require.Equal(t, 1, accepted)
	require.Empty(t, expired)

	kept, accepted, expired, err = sieve(found, allow, at("2026-07-01T00:00:00Z"))
	require.NoError(t, err)
	require.Zero(t, accepted)
	require.Equal(t, []string{"cve-2020-28493 expired on 2026-06-30"}, expired)
	require.Equal(t, "old [the exception for it expired on 2026-06-30]", kept[0].Message)

	for _, other := range []Exception{
		{ID: "B101", Expires: "2099-01-01"},
		{ID: "39525", Where: "requests", Expires: "2099-01-01"},
		{ID: "39525", Where: "other/*.txt", Expires: "2099-01-01"},
	} {
		kept, _, _, err = sieve(found, []Exception{other}, at("2026-07-01T00:00:00Z"))
		require.NoError(t, err)
		require.Len(t, kept, 1)
	}
	for _, wrong := range []Exception{{ID: "x", Expires: "soon"}, {Expires: "2026-01-01"}, {ID: "x", Where: "[", Expires: "2026-01-01"}} {
		_, _, _, err = sieve(nil, []Exception{wrong}, at("2026-07-01T00:00:00Z"))
		require.ErrorContains(t, err, "exception")
	}
}
