package graph

import "errors"

// transient marks an error that may go away by itself.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// Transient marks err as one that may go away by itself, such as a registry that is not reachable, so that [Retry]
// tries again. The message stays the same. Transient(nil) is nil.
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return transient{err}
}

// IsTransient reports whether err, or an error that it wraps, was marked by [Transient].
func IsTransient(err error) bool { return errors.As(err, new(transient)) }
