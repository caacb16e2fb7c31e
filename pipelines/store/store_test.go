package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-ci/millrace/pipelines/store"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	digest := "@sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for address, want := range map[string]struct{ source, keeps string }{
		"s3://bucket/path":                      {"", ""},
		"gs://bucket":                           {"", ""},
		"az://container/a/b":                    {"", ""},
		"https://example.com/data":              {"", "nothing can be kept at"},
		"s3://user@bucket/path":                 {"is no address", "nothing can be kept at"},
		"s3://bucket/path?versions":             {"is no address", "nothing can be kept at"},
		"ftp://host/path":                       {"is no address", "nothing can be kept at"},
		"oci://ghcr.io/acme/models":             {"", ""},
		"oci+http://10.0.0.1:5000/models":       {"", ""},
		"oci://ghcr.io/acme/models:v1":          {"", "names one artifact"},
		"oci://ghcr.io/acme/models" + digest:    {"", "names one artifact"},
		"oci://ghcr.io/acme/models@sha256:012":  {"is no address", "is no address"},
		"oci://ghcr.io/Acme/models":             {"is no address", "is no address"},
		"oci://ada:secret@ghcr.io/acme/models":  {"is no address", "is no address"},
		"oci://ghcr.io":                         {"is no address", "is no address"},
		"oci://localhost:5000/acme/models/deep": {"", ""},
	} {
		for _, check := range []struct {
			err  error
			want string
		}{{store.CheckSource(address), want.source}, {store.CheckAddress(address), want.keeps}} {
			if check.want == "" {
				require.NoError(t, check.err, address)
			} else {
				require.ErrorContains(t, check.err, check.want, address)
			}
		}
	}
}

func TestSplitObject(t *testing.T) {
	t.Parallel()
	for address, want := range map[string][2]string{
		"s3://bucket/path/table.csv": {"s3://bucket/path", "table.csv"},
		"s3://bucket/table.csv":      {"s3://bucket", "table.csv"},
		"oci://host/team/data:v1":    {"oci://host/team/data:v1", ""},
	} {
		source, object, err := store.SplitObject(address)
		require.NoError(t, err)
		require.Equal(t, want, [2]string{source, object})
	}
	for _, address := range []string{"s3://bucket", "s3://bucket/", "gs://bucket/path/"} {
		_, _, err := store.SplitObject(address)
		require.ErrorContains(t, err, "add the object's name")
	}
}
