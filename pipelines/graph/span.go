package graph

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracerName is the instrumentation scope of the spans.
const tracerName = "github.com/millrace-ci/millrace/pipelines/graph"

// The attributes of the spans.
const (
	attrVerdict      = attribute.Key("millrace.node.verdict")
	attrReason       = attribute.Key("millrace.node.reason")
	attrAttempts     = attribute.Key("millrace.node.attempts")
	attrGraphVerdict = attribute.Key("millrace.graph.verdict")
)

// endSpan ends n's span; a node that never started gets one of no length, so that it shows.
func (r *run) endSpan(n *node) {
	st := &r.states[n.index]
	now := time.Now()
	if st.span == nil {
		_, st.span = r.tracer.Start(r.lasting, n.name, trace.WithTimestamp(now))
	} else {
		now = st.record.Started.Add(st.record.Duration)
	}
	if st.span.IsRecording() {
		st.span.SetAttributes(attrVerdict.String(string(st.record.Verdict)), attrAttempts.Int(st.record.Attempts))
		if st.record.Reason != "" {
			st.span.SetAttributes(attrReason.String(st.record.Reason))
		}
		if st.record.Verdict == Failed || st.record.Verdict == Errored {
			st.span.SetStatus(codes.Error, st.record.Reason)
		}
	}
	st.span.End(trace.WithTimestamp(now))
	st.span = nil
}

// endGraphSpan ends the span that the nodes' spans lie below.
func endGraphSpan(span trace.Span, verdict Verdict) {
	span.SetAttributes(attrGraphVerdict.String(string(verdict)))
	if verdict == Failed || verdict == Errored {
		span.SetStatus(codes.Error, string(verdict))
	}
	span.End()
}
