package kube

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	secrets, others := secretsApart(shopObjects(t))
	c := content{
		Release:   Release{Revision: 7, Environment: "staging", Status: Recording, Phase: "recording", Commit: "abc", Started: time.Unix(1, 0).UTC()},
		Manifests: others, Secrets: []ID{secrets[0].ID()}, Before: []before{{ID: others[0].ID()}, {ID: others[1].ID(), Object: others[1]}},
	}
	text, err := record("shop", c, secrets)
	require.NoError(t, err)
	o, err := decode([]byte(text))
	require.NoError(t, err)
	require.Equal(t, "millrace-release-7", o.ID().Name)
	require.True(t, o.isSecret())
	require.NotContains(t, text, "canary-9f1")

	back, err := unpack(o.text("data", "release"))
	require.NoError(t, err)
	c.Schema = contentSchema
	require.Equal(t, c, back)

	// The labels go ahead of the summary: scripts set them.
	metadata := o.object("metadata")
	metadata.set("deploying", "labels", statusLabel)
	metadata.set("applying", "labels", phaseLabel)
	line := strings.ReplaceAll(encodeOne(t, metadata), "\n", "")
	all, err := releasesOf("\n" + line + "\n")
	require.NoError(t, err)
	require.Equal(t, Deploying, all[0].Status)
	require.Equal(t, "applying", all[0].Phase)
	require.Equal(t, "abc", all[0].Commit)
}

func encodeOne(t *testing.T, o Object) string {
	t.Helper()
	text := encode([]Object{o})
	return strings.TrimSuffix(strings.TrimPrefix(text, `{"apiVersion":"v1","items":[`), `],"kind":"List"}`)
}

func TestARecordThatIsTooLarge(t *testing.T) {
	t.Parallel()
	// What can't be packed any further.
	noise := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	_, err := record("shop", content{Manifests: []Object{{"data": base64.StdEncoding.EncodeToString(noise)}}}, nil)
	require.ErrorContains(t, err, "split the environment's manifests in two")
}

func TestARecordOfAnotherForm(t *testing.T) {
	t.Parallel()
	packed, err := pack(content{Schema: 2, Release: Release{Revision: 3}})
	require.NoError(t, err)
	_, err = unpack(packed)
	require.ErrorContains(t, err, "use the version that wrote it")
	_, err = unpack("bm9uZQ==")
	require.ErrorContains(t, err, "can't be read")
}

func TestTargetOfARollback(t *testing.T) {
	t.Parallel()
	const up, old, bad = Deployed, Superseded, RolledBack
	for name, test := range map[string]struct {
		releases []Release
		to, want int
		wrong    string
	}{
		"the one before":                   {[]Release{{Revision: 2, Status: up}, {Revision: 1, Status: old}}, 0, 1, ""},
		"not one that never came up":       {[]Release{{Revision: 3, Status: up}, {Revision: 2, Status: bad}, {Revision: 1, Status: old}}, 0, 1, ""},
		"the present one may be older":     {[]Release{{Revision: 3, Status: bad}, {Revision: 2, Status: up}, {Revision: 1, Status: old}}, 0, 1, ""},
		"further back after a rollback":    {[]Release{{Revision: 4, Status: up, RollbackTo: 2}, {Revision: 3, Status: old}, {Revision: 2, Status: old}, {Revision: 1, Status: old}}, 0, 1, ""},
		"by name":                          {[]Release{{Revision: 3, Status: up}, {Revision: 2, Status: old}, {Revision: 1, Status: old}}, 1, 1, ""},
		"forward again":                    {[]Release{{Revision: 3, Status: up, RollbackTo: 1}, {Revision: 2, Status: old}, {Revision: 1, Status: old}}, 2, 2, ""},
		"nothing runs":                     {nil, 0, 0, "nothing is deployed to staging"},
		"nothing before":                   {[]Release{{Revision: 1, Status: up}}, 0, 0, "no release before revision 1"},
		"it is gone":                       {[]Release{{Revision: 30, Status: up}, {Revision: 29, Status: old}}, 5, 0, "staging has no revision 5: there are 30, 29"},
		"it never came up":                 {[]Release{{Revision: 2, Status: bad}, {Revision: 1, Status: up}}, 2, 0, "never came up"},
		"what it brought back is gone":     {[]Release{{Revision: 4, Status: up, RollbackTo: 2}, {Revision: 1, Status: old}}, 0, 1, ""},
		"another environment's are not it": {[]Release{{Revision: 2, Status: up}, {Revision: 1, Status: old, Environment: "dev"}}, 0, 0, "no release before revision 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range test.releases {
				if test.releases[i].Environment == "" {
					test.releases[i].Environment = "staging"
				}
			}
			r := release{environment: "staging", releases: test.releases}
			got, err := r.target(test.to)
			if test.wrong != "" {
				require.ErrorContains(t, err, test.wrong)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got.Revision)
		})
	}
}
