package image

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCaptured(t *testing.T) {
	t.Parallel()
	const tail = ") 2>&1 | tail -c 65536 > /tmp/.millrace-run-output || true\nMILLRACE-RUN\n"
	tests := map[string]struct{ dockerfile, command, want string }{
		"one line": {"FROM a\nRUN make\nCOPY x /\n", "make", "FROM a\nRUN <<\"MILLRACE-RUN\"\n(\nmake\n" + tail},
		"flags and several lines": {"FROM a\nRUN --mount=type=cache,target=/x true && \\\n    # why\n    ls /nope\n", "true &&     ls /nope",
			"FROM a\nRUN --mount=type=cache,target=/x <<\"MILLRACE-RUN\"\n(\ntrue &&     ls /nope\n" + tail},
		"not there":     {"FROM a\nRUN make\n", "other", ""},
		"twice":         {"FROM a\nRUN make\nFROM b\nRUN make\n", "make", ""},
		"no shell":      {"FROM a\nRUN [\"make\"]\n", "make", ""},
		"no Dockerfile": {"", "make", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, captured(test.dockerfile, test.command))
		})
	}
}
