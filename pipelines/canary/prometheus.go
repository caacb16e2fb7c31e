package canary

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Query is a figure that a Prometheus server has of both versions; lower is better.
type Query struct {
	// Name of the figure.
	Name string
	// Expression in PromQL; ${version} in it is stable or canary, ${namespace} the namespace.
	Expression string
	// Max is the value above which a canary is worse; no bound if 0.
	Max float64
	// MaxRatio is how many times the stable version's value the canary's may be; no bound if 0.
	MaxRatio float64
}

// For returns the expression for a version.
func (q Query) For(version, namespace string) string {
	return strings.NewReplacer("${version}", version, "${namespace}", namespace).Replace(q.Expression)
}

// Measured is what a query gave; Known is false when there was no value.
type Measured struct {
	Value float64
	Known bool
}

// ParsePrometheus reads the answer of Prometheus's /api/v1/query to an expression that gives one number. No series, and
// NaN, which is what a division by no requests gives, are no value.
func ParsePrometheus(answer []byte) (Measured, error) {
	var body struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		return Measured{}, fmt.Errorf("the answer is none of Prometheus's: %w", err)
	}
	if body.Status != "success" {
		return Measured{}, errors.New(body.Error)
	}
	var pair []any
	switch body.Data.Type {
	case "scalar":
		if err := json.Unmarshal(body.Data.Result, &pair); err != nil {
			return Measured{}, fmt.Errorf("read the scalar: %w", err)
		}
	case "vector":
		var series []struct {
			Value []any `json:"value"`
		}
		if err := json.Unmarshal(body.Data.Result, &series); err != nil {
			return Measured{}, fmt.Errorf("read the series: %w", err)
		}
		switch len(series) {
		case 0:
			return Measured{}, nil
		case 1:
			pair = series[0].Value
		default:
			return Measured{}, fmt.Errorf("it gives %d series, and one number is wanted: put sum(), max() or the like around it", len(series))
		}
	default:
		return Measured{}, fmt.Errorf("it gives a %s, and one number is wanted", body.Data.Type)
	}
	if len(pair) != 2 {
		return Measured{}, errors.New("the answer has no value")
	}
	text, _ := pair[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return Measured{}, fmt.Errorf("the answer's value %q is no number", text)
	}
	if math.IsNaN(value) {
		return Measured{}, nil
	}
	return Measured{Value: value, Known: true}, nil
}

// Judge holds what a query gave against its bounds. These are figures that somebody else has summed up, so there is no
// test to make: the bounds have to leave room for chance.
func (q Query) Judge(stable, canary Measured) Check {
	c := Check{Name: q.Name, Stable: stable.Value, Canary: canary.Value, PWorse: 1, PEqual: 1}
	needed := q.MaxRatio > 0
	switch {
	case !canary.Known:
		c.Outcome, c.Reason = Inconclusive, fmt.Sprintf("Prometheus has no value of %s for the canary", q.Name)
	case q.Max != 0 && canary.Value > q.Max:
		c.Outcome, c.Reason = Abort, fmt.Sprintf("%s of the canary is %.4g, and %.4g is the most that is allowed", q.Name, canary.Value, q.Max)
	case needed && !stable.Known:
		c.Outcome, c.Reason = Inconclusive, fmt.Sprintf("Prometheus has no value of %s for the stable version", q.Name)
	case needed && canary.Value > stable.Value*q.MaxRatio:
		c.Outcome, c.Reason = Abort, fmt.Sprintf("%s of the canary is %.4g, against %.4g of the stable version, and %.4g times that is the most that is allowed",
			q.Name, canary.Value, stable.Value, q.MaxRatio)
	default:
		c.Outcome, c.Reason = Promote, fmt.Sprintf("%s of the canary is %.4g", q.Name, canary.Value)
	}
	return c
}
