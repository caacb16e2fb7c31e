// Package spelling finds out what was meant by a name that does not exist.
package spelling

import (
	"strings"

	"github.com/agext/levenshtein"
)

// shortest is the length from which a part of a name is enough to tell it.
const shortest = 3

// Nearest returns the name that text is most likely a slip of, whatever its case; empty if none is near.
// Two letters in the wrong order are one slip, and so is a name cut short. Of names as near, the first is taken.
func Nearest(text string, names []string) string {
	text = strings.ToLower(text)
	best, distance := "", max(1, min(3, len(text)/2))+1
	for _, name := range names {
		if d := slips(text, strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// slips counts the slips between a text and a name.
func slips(text, name string) int {
	d := levenshtein.Distance(text, name, nil)
	if len(text) >= shortest && strings.Contains(name, text) {
		d = min(d, 1)
	}
	if d < 2 {
		return d
	}
	letters := []rune(text)
	for i := 1; i < len(letters); i++ {
		letters[i-1], letters[i] = letters[i], letters[i-1]
		d = min(d, 1+levenshtein.Distance(string(letters), name, nil))
		letters[i-1], letters[i] = letters[i], letters[i-1]
	}
	return d
}
