package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/millrace-ci/millrace/pipelines/spelling"
)

// maxListed bounds how many names an error message lists.
const maxListed = 20

// Check reports mistakes in the graph and in the options that name nodes of it, all of them at once.
// A graph or options that Check rejects do not run.
func (g *Graph) Check(opts ...RunOption) error {
	return g.check(settingsOf(opts))
}

func (g *Graph) check(s settings) error {
	wrong := append([]error(nil), g.wrong...)
	known := make(map[string]bool, len(g.nodes))
	for _, n := range g.nodes {
		switch {
		case n.name == "":
			wrong = append(wrong, errors.New("a node has no name: pass one to Add"))
		case strings.ContainsFunc(n.name, func(r rune) bool { return !unicode.IsPrint(r) }):
			wrong = append(wrong, fmt.Errorf("node name %q holds characters that can't be printed", n.name))
		case known[n.name]:
			wrong = append(wrong, fmt.Errorf("two nodes are named %q: names must be unique", n.name))
		}
		known[n.name] = true
	}
	lists := []struct {
		option string
		names  []string
	}{{"only", s.only}, {"skip", s.skip}}
	for _, l := range s.left {
		lists = append(lists, struct {
			option string
			names  []string
		}{"leave", l.names})
	}
	for _, list := range lists {
		for _, name := range list.names {
			if !known[name] {
				wrong = append(wrong, fmt.Errorf("%s: graph %q has no node %q; %s", list.option, g.name, name, g.suggest(name)))
			}
		}
	}
	return errors.Join(wrong...)
}

// LeavesNothing reports whether [Only] and [Skip] alone keep every node from running. Such a run passes and does nothing,
// which nobody wants who types those options by hand.
func (g *Graph) LeavesNothing(opts ...RunOption) bool {
	s := settingsOf(opts)
	return len(g.nodes) > 0 && len(s.only)+len(s.skip) > 0 &&
		!slices.ContainsFunc(s.skips(g.nodes), func(k skip) bool { return !k.asked })
}

// suggest returns what the user may have meant by a name that does not exist.
func (g *Graph) suggest(name string) string {
	names := make([]string, 0, len(g.nodes))
	for _, n := range g.nodes {
		names = append(names, n.name)
	}
	near := spelling.Nearest(name, names)
	switch {
	case len(names) == 0:
		return "it has no nodes"
	case near != "":
		return fmt.Sprintf("did you mean %q?", near)
	case len(names) > maxListed:
		return fmt.Sprintf("it has %s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
	default:
		return "it has " + strings.Join(names, ", ")
	}
}
