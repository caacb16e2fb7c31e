package image

import (
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// steadiest orders tags so that those which never move to another image come first.
// A push that ends half-way then leaves the branch's tag on the image that it had, which is whole.
func steadiest(tags []string) []string {
	rank := func(tag string) int {
		switch {
		case strings.HasPrefix(tag, "sha-"):
			return 0
		case semver.IsValid("v"+tag) && strings.Count(tag, ".") >= 2:
			return 1
		default:
			return 2
		}
	}
	sorted := slices.Clone(tags)
	slices.SortStableFunc(sorted, func(a, b string) int { return rank(a) - rank(b) })
	seen := map[string]bool{}
	return slices.DeleteFunc(sorted, func(tag string) bool {
		double := seen[tag]
		seen[tag] = true
		return double
	})
}
