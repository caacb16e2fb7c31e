package graph_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/millrace-ci/millrace/pipelines/graph"
)

// The tracer provider is global, so this test must not run beside others.
func TestEveryNodeIsASpan(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	otel.SetTracerProvider(provider)
	defer otel.SetTracerProvider(before)

	g := graph.New("ci-cd")
	var inside trace.SpanContext
	lint := graph.Add(g, "lint", func(ctx context.Context) (int, error) {
		inside = trace.SpanContextFromContext(ctx)
		return 0, nil
	})
	test := graph.Add(g, "test", ends(graph.Failed, "2 tests failed"), graph.After(lint))
	graph.Add(g, "publish", nothing, graph.After(test))
	graph.Add(g, "clean", nothing, graph.After(test), graph.Always())
	g.Run(t.Context())

	ended := map[string]sdktrace.ReadOnlySpan{}
	for _, s := range spans.Ended() {
		ended[s.Name()] = s
	}
	require.Len(t, spans.Ended(), 5)
	root := ended["ci-cd"]
	require.Equal(t, codes.Error, root.Status().Code)
	for name, verdict := range map[string]string{"lint": "passed", "test": "failed", "publish": "skipped", "clean": "passed"} {
		s := ended[name]
		require.NotNil(t, s, name)
		require.Equal(t, root.SpanContext().SpanID(), s.Parent().SpanID(), name)
		require.Contains(t, s.Attributes(), attribute.String("millrace.node.verdict", verdict))
		require.False(t, s.EndTime().Before(s.StartTime()), name)
	}
	require.Equal(t, ended["lint"].SpanContext().SpanID(), inside.SpanID(), "a step's own spans lie below its node's")
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "2 tests failed"}, ended["test"].Status())
	require.Equal(t, codes.Unset, ended["publish"].Status().Code)
	require.Contains(t, ended["publish"].Attributes(), attribute.String("millrace.node.reason", "test failed"))
}
