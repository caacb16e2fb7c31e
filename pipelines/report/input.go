package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxInput bounds, in bytes, the report files that this package parses.
const MaxInput = 64 << 20

var (
	// ErrEmpty means that a report file has no content.
	ErrEmpty = errors.New("the file is empty: the tool ended before it wrote its report")
	// ErrTruncated means that a report file ends in the middle.
	ErrTruncated = errors.New("the file ends in the middle: the tool was most likely killed, or the disk was full, while it wrote its report")
)

// readInput reads all of r, at most [MaxInput] bytes.
func readInput(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxInput+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxInput {
		return nil, fmt.Errorf("the file has more than %d MiB, the most that is read: have the tool keep captured output out of its report", MaxInput>>20)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, ErrEmpty
	}
	return data, nil
}

// reference finds the numeric character references in XML.
var reference = regexp.MustCompile(`&#(x[0-9A-Fa-f]+|[0-9]+);`)

// cleanXML replaces what XML does not allow, and test output often holds, by U+FFFD:
// invalid UTF-8, control characters, and references to such.
func cleanXML(data []byte) []byte {
	if !utf8.Valid(data) || bytes.ContainsFunc(data, illegal) {
		data = bytes.ToValidUTF8(data, []byte("\uFFFD"))
		data = bytes.Map(func(r rune) rune {
			if illegal(r) {
				return utf8.RuneError
			}
			return r
		}, data)
	}
	if !bytes.Contains(data, []byte("&#")) {
		return data
	}
	return reference.ReplaceAllFunc(data, func(ref []byte) []byte {
		digits, base := string(ref[2:len(ref)-1]), 10
		if digits[0] == 'x' {
			digits, base = digits[1:], 16
		}
		n, err := strconv.ParseInt(digits, base, 32)
		if err != nil || n > unicode.MaxRune || illegal(rune(n)) {
			return []byte("\uFFFD")
		}
		return ref
	})
}

// illegal tells the characters that no XML 1.0 document may hold.
func illegal(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || 0xD800 <= r && r <= 0xDFFF || r == 0xFFFE || r == 0xFFFF
}

// oneLine makes s safe to show in a line of a terminal or a table: its first line that is not blank,
// without control characters and without those that turn the direction of text around.
func oneLine(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(printable(line)); line != "" {
			return line
		}
	}
	return ""
}

// flat is like oneLine, but keeps all lines of s, one behind the other, up to a length that people still read.
func flat(s string) string {
	const longest = 1000
	s = strings.Join(strings.Fields(printable(s)), " ")
	if cut := head(s, longest); cut != s {
		return cut + "…"
	}
	return s
}

// escape finds the terminal control sequences that tools print for colours, titles and links.
var escape = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])")

// printable removes what could drive a terminal or deceive a reader from s; newlines and tabs stay.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && deceiving(r) }) < 0 {
		return s
	}
	s = escape.ReplaceAllString(s, "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r':
			return -1
		case deceiving(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// deceiving tells control characters and the marks that reorder text (see Unicode's UAX 9).
func deceiving(r rune) bool {
	return unicode.IsControl(r) || 0x202A <= r && r <= 0x202E || 0x2066 <= r && r <= 0x2069 ||
		r == 0x200E || r == 0x200F || r == 0x061C || r == 0x2028 || r == 0x2029
}

// inside returns name relative to root when it lies below it, slash-separated and clean; else name itself, clean.
// An empty root leaves every name as it is.
func inside(root, name string) string {
	if name == "" {
		return ""
	}
	name = path.Clean(name)
	if root == "" {
		return name
	}
	root = path.Clean(root)
	if name == root {
		return "."
	}
	return strings.TrimPrefix(name, strings.TrimSuffix(root, "/")+"/")
}
