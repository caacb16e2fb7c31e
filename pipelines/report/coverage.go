package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/cover"
)

// Coverage is which parts of the code a test run reached: lines of Python, statements of Go.
type Coverage struct {
	// Files are sorted by path.
	Files []FileCoverage
}

// FileCoverage is the coverage of one file.
type FileCoverage struct {
	// Path is slash-separated; see the parsers for what it is relative to.
	Path string
	// Total is the number of lines or statements that could be reached, Covered how many were.
	Total, Covered int

	blocks map[block]hit
}

// block is a piece of code that is reached as a whole. A line is a block from column 0 to column 0.
type block struct{ startLine, startColumn, endLine, endColumn int }

type hit struct {
	weight  int
	covered bool
}

// Percent is the covered share of f; 0 when there is nothing to cover.
func (f FileCoverage) Percent() float64 { return percent(f.Covered, f.Total) }

// Percent is the covered share of all code; 0 when there is nothing to cover, so that no threshold is met by measuring nothing.
func (c Coverage) Percent() float64 {
	total, covered := c.Count()
	return percent(covered, total)
}

// Count returns the number of lines or statements that could be reached, and how many were.
func (c Coverage) Count() (total, covered int) {
	for _, f := range c.Files {
		total += f.Total
		covered += f.Covered
	}
	return total, covered
}

// Packages sums the coverage up by folder, sorted by path.
func (c Coverage) Packages() []FileCoverage {
	sums := map[string]*FileCoverage{}
	for _, f := range c.Files {
		dir := path.Dir(f.Path)
		if sums[dir] == nil {
			sums[dir] = &FileCoverage{Path: dir}
		}
		sums[dir].Total += f.Total
		sums[dir].Covered += f.Covered
	}
	packages := make([]FileCoverage, 0, len(sums))
	for _, sum := range sums {
		packages = append(packages, *sum)
	}
	sortFiles(packages)
	return packages
}

func sortFiles(files []FileCoverage) {
	slices.SortFunc(files, func(a, b FileCoverage) int { return strings.Compare(a.Path, b.Path) })
}

func percent(covered, total int) float64 {
	if total == 0 {
		return 0
	}
	return 100 * float64(covered) / float64(total)
}

// coverageSum gathers coverage by file and block.
type coverageSum map[string]map[block]hit

func (s coverageSum) add(file string, b block, h hit) {
	if s[file] == nil {
		s[file] = map[block]hit{}
	}
	old := s[file][b]
	s[file][b] = hit{weight: max(old.weight, h.weight), covered: old.covered || h.covered}
}

func (s coverageSum) coverage() Coverage {
	var c Coverage
	for name, blocks := range s {
		f := FileCoverage{Path: name, blocks: blocks}
		for _, h := range blocks {
			f.Total += h.weight
			if h.covered {
				f.Covered += h.weight
			}
		}
		c.Files = append(c.Files, f)
	}
	sortFiles(c.Files)
	return c
}

// MergeCoverage joins the coverage of shards: what any of them reached is covered, and nothing counts twice.
func MergeCoverage(shards ...Coverage) Coverage {
	sum := coverageSum{}
	for _, shard := range shards {
		for _, f := range shard.Files {
			if sum[f.Path] == nil {
				sum[f.Path] = map[block]hit{} // keeps files without any code
			}
			for b, h := range f.blocks {
				sum.add(f.Path, b, h)
			}
		}
	}
	return sum.coverage()
}

// ParseCobertura reads Cobertura XML as coverage.py and pytest-cov write it.
//
// root is the folder that the source tree had when the tests ran, for example "/src": paths are then relative to it.
// Without it, or with several <source> folders, paths are as the report has them.
func ParseCobertura(r io.Reader, root string) (Coverage, error) {
	data, err := readInput(r)
	if err != nil {
		return Coverage{}, fmt.Errorf("read Cobertura report: %w", err)
	}
	var doc struct {
		XMLName xml.Name `xml:"coverage"`
		Sources []string `xml:"sources>source"`
		Classes []struct {
			File  string `xml:"filename,attr"`
			Lines []struct {
				Number string `xml:"number,attr"`
				Hits   string `xml:"hits,attr"`
			} `xml:"lines>line"`
		} `xml:"packages>package>classes>class"`
	}
	if err := newXML(data).Decode(&doc); err != nil {
		return Coverage{}, fmt.Errorf("read Cobertura report: %w", explainXML(err))
	}
	sum := coverageSum{}
	for _, class := range doc.Classes {
		if class.File == "" {
			return Coverage{}, errors.New("read Cobertura report: a <class> has no filename")
		}
		name := class.File
		if root != "" && len(doc.Sources) == 1 && !path.IsAbs(name) {
			name = path.Join(strings.TrimSpace(doc.Sources[0]), name)
		}
		name = inside(root, name)
		if sum[name] == nil {
			sum[name] = map[block]hit{}
		}
		for _, line := range class.Lines {
			n, err := strconv.Atoi(line.Number)
			if err != nil || n < 0 {
				return Coverage{}, fmt.Errorf("read Cobertura report: %s has a line numbered %q", class.File, line.Number)
			}
			hits, err := strconv.ParseFloat(line.Hits, 64) // counts may be too large for an int
			if err != nil {
				return Coverage{}, fmt.Errorf("read Cobertura report: line %d of %s was hit %q times", n, class.File, line.Hits)
			}
			sum.add(name, block{startLine: n, endLine: n}, hit{weight: 1, covered: hits > 0})
		}
	}
	return sum.coverage(), nil
}

// ParseCoverprofile reads what "go test -coverprofile" writes, counting statements as "go tool cover" does.
// Paths are relative to the Go module of that path; those of other modules, or all when module is empty, keep their import path.
func ParseCoverprofile(r io.Reader, module string) (Coverage, error) {
	data, err := readInput(r)
	if err != nil {
		return Coverage{}, fmt.Errorf("read coverprofile: %w", err)
	}
	profiles, err := cover.ParseProfilesFromReader(bytes.NewReader(data))
	if err != nil {
		return Coverage{}, fmt.Errorf("read coverprofile: %w", err)
	}
	sum := coverageSum{}
	for _, profile := range profiles {
		name := profile.FileName
		if module != "" {
			name = strings.TrimPrefix(name, module+"/")
		}
		for _, b := range profile.Blocks {
			sum.add(name, block{b.StartLine, b.StartCol, b.EndLine, b.EndCol}, hit{weight: b.NumStmt, covered: b.Count > 0})
		}
	}
	return sum.coverage(), nil
}
