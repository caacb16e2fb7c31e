package notify

import (
	"context"
	"fmt"
	"io"
	"strings"

	"dagger.io/dagger"

	"github.com/millrace-ci/millrace/pipelines/step"
)

// Secret is a value that is never printed: a webhook's address, a key, a password. The zero value is none.
//
// It holds the plain text, in this process alone, and not a [dagger.Secret]: a message that the engine is gone could not
// be sent if its secrets had to be asked of that engine.
type Secret struct{ value string }

// NewSecret hides a value. White space around it, such as the newline at the end of a file, is no part of it.
func NewSecret(value string) Secret { return Secret{strings.TrimSpace(value)} }

// Plain reads an engine's secret. It is for the start of a run, while the engine is there.
func Plain(ctx context.Context, s *dagger.Secret) (Secret, error) {
	if s == nil {
		return Secret{}, nil
	}
	value, err := s.Plaintext(ctx)
	if err != nil {
		return Secret{}, fmt.Errorf("read a secret for notifications: %w", step.Explain(err))
	}
	return NewSecret(value), nil
}

// IsSet reports whether there is a value.
func (s Secret) IsSet() bool { return s.value != "" }

const hidden = "***"

// Format prints stars, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the value in JSON, YAML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// shortest is the length from which a part of a secret address is hidden by itself: "services" is no secret.
const shortest = 9

// scrub replaces secrets, and the parts of addresses that are, by stars.
func scrub(text string, secrets ...Secret) string {
	for _, s := range secrets {
		if !s.IsSet() {
			continue
		}
		text = strings.ReplaceAll(text, s.value, hidden)
		for _, part := range strings.FieldsFunc(s.value, func(r rune) bool { return strings.ContainsRune("/?&=#:@", r) }) {
			if len(part) >= shortest && part != slackHost && !loopback(part) {
				text = strings.ReplaceAll(text, part, hidden)
			}
		}
	}
	return text
}
