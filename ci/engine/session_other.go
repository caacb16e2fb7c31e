//go:build !unix

package engine

import "errors"

const canBeApart = false

func becomeApart(string, []string, []string) error { return errors.ErrUnsupported }
