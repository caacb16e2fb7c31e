package step

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExplainTellsWhenTheEngineIsGone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`returned error 502: {"data":null,"errors":[{"message":"http do: Post \"http://dagger/query\": unexpected EOF"}]}`,
		`make request: Post "http://dagger/query": EOF`,
		`returned error 502: {"data":null,"errors":[{"message":"http do: Post \"http://dagger/query\": context canceled"}]}`,
		`make request: Post "http://dagger/query": dial unix /run/x.sock: connect: connection refused`,
		`make request: Post "http://dagger/query": read unix @->/run/x.sock: read: connection reset by peer`,
	} {
		require.ErrorContains(t, Explain(errors.New(text)), "the engine is gone", text)
	}
	for _, text := range []string{`Post "http://dagger/query": context canceled`, "unexpected EOF", "input: container.from failed: EOF"} {
		require.EqualError(t, Explain(errors.New(text)), text)
	}
	require.NoError(t, Explain(nil))
}
