package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-ci/millrace/pipelines/step"
)

// MaxSigned is how long addresses can hold at most; S3 allows no longer.
const MaxSigned = 7 * 24 * time.Hour

// Sign returns addresses by which whoever has them may GET or PUT the objects named, in their order, for some time and
// without credentials. They are secrets.
func (b Bucket) Sign(ctx context.Context, method string, names []string, valid time.Duration) ([]string, error) {
	if len(b.Credentials) == 0 {
		return nil, fmt.Errorf("%s: without credentials, no address can be signed: set %s", b, or(b.variables()))
	}
	const out = "/answer/signed.json"
	_, ctr, err := b.do(ctx, "sign", map[string]any{"method": method, "names": names, "seconds": int(min(valid, MaxSigned).Seconds()), "out": out}, false, nil)
	if err != nil {
		return nil, err
	}
	text, err := ctr.File(out).Contents(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the signed addresses: %w", step.Explain(err))
	}
	var urls []string
	if err := json.Unmarshal([]byte(text), &urls); err != nil || len(urls) != len(names) {
		return nil, errors.New("read the signed addresses: there are too few")
	}
	return urls, nil
}
