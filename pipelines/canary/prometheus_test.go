package canary

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePrometheus(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]Measured{
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1435781451.781,"0.25"]}]}}`: {0.25, true},
		`{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"3"]}}`:                                   {3, true},
		`{"status":"success","data":{"resultType":"vector","result":[]}}`:                                                     {},
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}`:                      {},
	} {
		got, err := ParsePrometheus([]byte(answer))
		require.NoError(t, err)
		require.Equal(t, want, got, answer)
	}
	for answer, want := range map[string]string{
		`<html>`: "none of Prometheus's",
		`{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end of input"}`:                              "1:5: parse error",
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]},{"metric":{},"value":[1,"2"]}]}}`: "it gives 2 series",
		`{"status":"success","data":{"resultType":"matrix","result":[]}}`:                                                            "it gives a matrix",
	} {
		_, err := ParsePrometheus([]byte(answer))
		require.ErrorContains(t, err, want, answer)
	}
}

func TestQueryJudge(t *testing.T) {
	t.Parallel()
	value := func(v float64) Measured { return Measured{v, true} }
	q := Query{Name: "p99", Expression: `max(x{v="${version}",ns="${namespace}"})`, Max: 0.5, MaxRatio: 1.2}
	require.Equal(t, `max(x{v="canary",ns="shop"})`, q.For("canary", "shop"))
	for _, test := range []struct {
		stable, canary Measured
		want           Outcome
	}{
		{value(0.2), value(0.2), Promote},
		{value(0.2), value(0.3), Abort},
		{value(0.49), value(0.51), Abort},
		{Measured{}, value(0.2), Inconclusive},
		{Measured{}, value(0.6), Abort},
		{value(0.2), Measured{}, Inconclusive},
	} {
		require.Equal(t, test.want, q.Judge(test.stable, test.canary).Outcome, "%+v", test)
	}
}
