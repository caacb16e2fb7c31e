package project

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/millrace-ci/millrace/pipelines/spelling"
)

// ConfigError is a mistake in the configuration.
type ConfigError struct {
	// File is the configuration's name.
	File string
	// Line and Column count from 1; 0 if the mistake has no place.
	Line, Column int
	// Text is the offending line.
	Text string
	// Problem says what is wrong and what was meant.
	Problem string
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString(showPath(e.File))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	fmt.Fprintf(&b, ": %s", e.Problem)
	if e.Text != "" {
		fmt.Fprintf(&b, "\n    %s", e.Text)
	}
	return b.String()
}

// ExitCode is the status of a process that ends with this error.
func (e *ConfigError) ExitCode() int { return 2 }

// Linters are the tools that lint.tools and lint.args may name.
var Linters = []string{"black", "isort", "flake8", "mypy", "pylint", "golangci-lint"}

// Severities are the values of security.severity, the least severe first.
var Severities = []string{"info", "low", "medium", "high", "critical"}

// maxConfig bounds a configuration file, in bytes: far more than anybody writes by hand.
const maxConfig = 1 << 20

// configure lets a configuration file overrule what was detected.
func (p *Project) configure(l *listing, file File) error {
	c, err := parseConfig(file)
	if err != nil {
		return err
	}
	p.ConfigFile = file.Name
	if c.root == nil {
		return nil
	}
	if err := c.checkKeys(c.root, reflect.TypeFor[Project](), ""); err != nil {
		return err
	}
	detected := p.Images
	p.Images = nil
	if err := yaml.NodeToValue(c.root, p, yaml.Strict()); err != nil {
		return c.decodeError(err)
	}
	if err := c.validate(p, l); err != nil {
		return err
	}
	if p.Images != nil && len(p.Images) == 0 {
		return nil // "images: []" says that there are none
	}
	return c.mergeImages(p, l, detected)
}

// config is a configuration file as it was written.
type config struct {
	file  File
	lines []string
	root  ast.Node
	// places has the node of each value by its path, such as "images[0].dockerfile".
	places map[string]ast.Node
}

func parseConfig(file File) (*config, error) {
	c := &config{file: file, places: map[string]ast.Node{}}
	switch {
	case len(file.Data) > maxConfig:
		return nil, &ConfigError{File: file.Name, Problem: fmt.Sprintf("it has %d KiB, and %d are the most that it may have", len(file.Data)>>10, maxConfig>>10)}
	case !utf8.Valid(file.Data):
		return nil, &ConfigError{File: file.Name, Problem: "it is not UTF-8 text"}
	}
	c.lines = strings.Split(strings.ReplaceAll(string(file.Data), "\r\n", "\n"), "\n")
	doc, err := parser.ParseBytes(file.Data, 0)
	if err != nil {
		return nil, c.decodeError(err)
	}
	var bodies []ast.Node
	for _, d := range doc.Docs {
		if d.Body != nil && d.Body.Type() != ast.NullType && d.Body.Type() != ast.CommentType {
			bodies = append(bodies, d.Body)
		}
	}
	if len(bodies) > 1 {
		return nil, c.at(bodies[1], "a second document begins here: there can be only one")
	}
	if len(bodies) == 1 {
		c.root = bodies[0]
	}
	return c, nil
}

// decodeError turns an error of the YAML library into one of ours.
func (c *config) decodeError(err error) error {
	var located yaml.Error
	if errors.As(err, &located) && located.GetToken() != nil {
		return c.atToken(located.GetToken(), "%s", located.GetMessage())
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return &ConfigError{File: c.file.Name, Problem: first}
}

func (c *config) at(n ast.Node, format string, args ...any) error {
	if n == nil {
		return &ConfigError{File: c.file.Name, Problem: fmt.Sprintf(format, args...)}
	}
	return c.atToken(start(n), format, args...)
}

// start returns the token at which a node begins; a mapping's own token is its first colon.
func start(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return start(n.Values[0])
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

func (c *config) atToken(t *token.Token, format string, args ...any) error {
	e := &ConfigError{File: c.file.Name, Problem: strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
		if e.Line >= 1 && e.Line <= len(c.lines) {
			e.Text = strings.TrimSpace(c.lines[e.Line-1])
		}
	}
	return e
}

// atPath is for a mistake in the value at a path; it falls back to the nearest value above it.
func (c *config) atPath(p, format string, args ...any) error {
	problem := p + ": " + fmt.Sprintf(format, args...)
	for at := p; at != ""; {
		if n, ok := c.places[at]; ok {
			return c.at(n, "%s", problem)
		}
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	return c.at(c.root, "%s", problem)
}

// keys returns the YAML names of a struct's fields with their types, in the order of the struct.
func keys(t reflect.Type) (names []string, types map[string]reflect.Type) {
	types = map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
			types[name] = t.Field(i).Type
		}
	}
	return names, types
}

func namesOf(t reflect.Type) []string {
	names, _ := keys(t)
	return names
}

// checkKeys finds keys that don't exist and values of the wrong type, and notes where each value stands.
// The YAML library finds them too, but can't say what was meant.
func (c *config) checkKeys(n ast.Node, t reflect.Type, at string) error {
	switch v := n.(type) {
	case *ast.AnchorNode:
		return c.checkKeys(v.Value, t, at)
	case *ast.TagNode:
		return c.at(n, "%s: tags such as %s are not supported", orRoot(at), v.GetToken().Value)
	case *ast.AliasNode:
		// What it stands for was checked where it was written; the decoding checks the type.
		c.places[at] = n
		return nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem() // a value that can be left out
	}
	c.places[at] = n
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Type() == ast.NullType {
		return c.at(n, "%s: has no value: give it one, or remove it", at)
	}
	switch {
	case t == reflect.TypeFor[Date]():
		if _, err := ParseDate(scalar(n)); err != nil {
			return c.at(n, "%s: %v", at, err)
		}
		return nil
	case t == reflect.TypeFor[time.Duration]():
		if _, err := time.ParseDuration(scalar(n)); err != nil {
			return c.at(n, "%s: %q is no duration: write it as 90s, 10m or 1h30m", at, scalar(n))
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return c.checkMapping(n, t, at)
	case reflect.Slice:
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			return c.at(n, "%s: want a list, not %s", orRoot(at), describe(n))
		}
		for i, item := range seq.Values {
			if err := c.checkKeys(item, t.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.String:
		if n.Type() != ast.StringType && n.Type() != ast.LiteralType {
			return c.at(n, "%s: want text, not %s: put it in quotes", at, describe(n))
		}
	case reflect.Bool:
		if n.Type() != ast.BoolType {
			return c.at(n, "%s: want true or false, not %s", at, describe(n))
		}
	case reflect.Int:
		if n.Type() != ast.IntegerType {
			return c.at(n, "%s: want a whole number, not %s", at, describe(n))
		}
	case reflect.Float64:
		if n.Type() != ast.IntegerType && n.Type() != ast.FloatType {
			return c.at(n, "%s: want a number, not %s", at, describe(n))
		}
	}
	return nil
}

func (c *config) checkMapping(n ast.Node, t reflect.Type, at string) error {
	var values []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	default:
		return c.at(n, "%s: want keys and values, not %s", orRoot(at), describe(n))
	}
	for _, kv := range values {
		if _, ok := kv.Key.(*ast.MergeKeyNode); ok {
			continue
		}
		key := kv.Key.GetToken().Value
		below := key
		if at != "" {
			below = at + "." + key
		}
		if kv.Value.Type() == ast.NullType && (t.Kind() == reflect.Map || slices.Contains(namesOf(t), key)) {
			return c.at(kv.Key, "%s: has no value: give it one, or remove the key", below)
		}
		if t.Kind() == reflect.Map {
			if err := c.checkKeys(kv.Value, t.Elem(), below); err != nil {
				return err
			}
			continue
		}
		names, types := keys(t)
		elem, ok := types[key]
		if !ok {
			return c.at(kv.Key, "unknown key %q%s: %s", key, inSection(at), c.suggest(key, names))
		}
		if err := c.checkKeys(kv.Value, elem, below); err != nil {
			return err
		}
	}
	return nil
}

func inSection(at string) string {
	if at == "" {
		return ""
	}
	return " in " + at
}

func orRoot(at string) string {
	if at == "" {
		return "the file"
	}
	return at
}

// suggest says what was meant by a key that does not exist.
func (c *config) suggest(key string, names []string) string {
	if near := spelling.Nearest(key, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	// Right name, wrong place?
	sections, types := keys(reflect.TypeFor[Project]())
	for _, section := range sections {
		t := types[section]
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			continue
		}
		if inner, _ := keys(t); slices.Contains(inner, key) {
			return fmt.Sprintf("it belongs below %q", section)
		}
	}
	return "use one of " + strings.Join(names, ", ")
}

// scalar returns the text of a value as it was written.
func scalar(n ast.Node) string {
	if s, ok := n.(*ast.StringNode); ok {
		return s.Value
	}
	return n.GetToken().Value
}

func describe(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "keys and values"
	case ast.SequenceType:
		return "a list"
	case ast.NullType:
		return "nothing"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "the number " + n.GetToken().Value
	case ast.BoolType:
		return n.GetToken().Value
	}
	return fmt.Sprintf("the text %q", scalar(n))
}

var (
	versionPattern  = regexp.MustCompile(`^3\.[0-9]+(\.[0-9]+)?$`)
	platformPattern = regexp.MustCompile(`^[a-z0-9_]+/[a-z0-9_]+(/[a-z0-9_.]+)?$`)
	registryPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
	repoPattern     = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
)

// validate checks what types alone can't, and brings paths into their plain form.
func (c *config) validate(p *Project, l *listing) error {
	for _, list := range []struct {
		at    string
		paths []string
	}{
		{"python.sources", p.Python.Sources},
		{"python.requirements", p.Python.Requirements},
		{"python.tests", p.Python.Tests},
		{"go.modules", p.Go.Modules},
		{"manifests", p.Manifests},
		{"load_tests", p.LoadTests},
	} {
		for i := range list.paths {
			list.paths[i] = clean(list.paths[i])
			at := fmt.Sprintf("%s[%d]", list.at, i)
			if err := c.mustExist(l, at, list.paths[i]); err != nil {
				return err
			}
			if list.at == "go.modules" && !l.exists[clean(list.paths[i]+"/go.mod")] {
				return c.atPath(at, "%s has no go.mod", showPath(list.paths[i]))
			}
		}
	}
	if !versionPattern.MatchString(p.Python.Version) {
		return c.atPath("python.version", "%q is no version of Python 3: write it as \"3.11\"", p.Python.Version)
	}
	for i, tool := range p.Lint.Tools {
		if err := c.mustBeOf(fmt.Sprintf("lint.tools[%d]", i), "tool", tool, Linters); err != nil {
			return err
		}
	}
	for tool := range p.Lint.Args {
		if err := c.mustBeOf("lint.args."+tool, "tool", tool, Linters); err != nil {
			return err
		}
	}
	switch {
	case p.Test.Coverage != nil && !(*p.Test.Coverage >= 0 && *p.Test.Coverage <= 100):
		return c.atPath("test.coverage", "%v is no percentage: use 0 to 100", *p.Test.Coverage)
	case p.Test.Shards < 1 || p.Test.Shards > 64:
		return c.atPath("test.shards", "%d is out of range: use 1 to 64", p.Test.Shards)
	case p.Test.Timeout <= 0:
		return c.atPath("test.timeout", "%v is too short: use a duration such as 10m", p.Test.Timeout)
	}
	if err := c.mustBeOf("security.severity", "severity", p.Security.Severity, Severities); err != nil {
		return err
	}
	for i, a := range p.Security.Allow {
		at := fmt.Sprintf("security.allow[%d]", i)
		switch {
		case strings.TrimSpace(a.ID) == "":
			return c.atPath(at, "id is missing: name the rule or advisory that is accepted")
		case strings.TrimSpace(a.Reason) == "":
			return c.atPath(at, "reason is missing: say why %s is accepted", a.ID)
		case a.Expires.IsZero():
			return c.atPath(at, "expires is missing: say until when %s is accepted, such as 2026-12-31", a.ID)
		}
	}
	if r := p.Publish.Registry; r != "" && !registryPattern.MatchString(r) {
		return c.atPath("publish.registry", "%q is no registry: use a host such as ghcr.io or localhost:5000, and put the path into repository", r)
	}
	if r := p.Publish.Repository; r != "" && !repoPattern.MatchString(r) {
		return c.atPath("publish.repository", "%q is no repository: use lower-case letters, digits and . _ - between slashes", r)
	}
	if u, err := url.Parse(p.Codecov.URL); p.Codecov.URL != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return c.atPath("codecov.url", "%q is no web address: use one such as https://codecov.example.com", p.Codecov.URL)
	}
	if err := c.validateEnvironments(p, l); err != nil {
		return err
	}
	if err := c.validateNotify(p); err != nil {
		return err
	}
	if err := c.validateModels(p, l); err != nil {
		return err
	}
	return c.validateDrift(p.Drift, p.Data, l)
}

func (c *config) mustExist(l *listing, at, p string) error {
	switch {
	case strings.HasPrefix(p, "/"):
		return c.atPath(at, "%s is absolute: use a path relative to the source tree", showPath(p))
	case p == ".." || strings.HasPrefix(p, "../"):
		return c.atPath(at, "%s lies outside of the source tree", showPath(p))
	case l.exists[p]:
		return nil
	case Ignored(p + "/x"):
		// Such folders are not listed, so whoever names one is taken at their word.
		return nil
	}
	candidates := make([]string, 0, len(l.exists))
	for e := range l.exists {
		candidates = append(candidates, e)
	}
	slices.Sort(candidates)
	if near := spelling.Nearest(p, candidates); near != "" {
		return c.atPath(at, "%s does not exist: did you mean %s?", showPath(p), showPath(near))
	}
	return c.atPath(at, "%s does not exist in the source tree", showPath(p))
}

func (c *config) mustBeOf(at, what, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	hint := "use one of " + strings.Join(allowed, ", ")
	if near := spelling.Nearest(value, allowed); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return c.atPath(at, "unknown %s %q: %s", what, value, hint)
}

// mergeImages puts the images of the file, now in p, over the detected ones of the same name.
func (c *config) mergeImages(p *Project, l *listing, detected []Image) error {
	configured := p.Images
	p.Images = detected
	seen := map[string]bool{}
	for i, img := range configured {
		at := fmt.Sprintf("images[%d]", i)
		switch {
		case img.Name == "":
			return c.atPath(at, "name is missing: name the image, such as api")
		case !validImageName.MatchString(img.Name):
			return c.atPath(at+".name", "%q is no image name: use lower-case letters, digits and single . _ - between them", img.Name)
		case seen[img.Name]:
			return c.atPath(at+".name", "a second entry for %q: put both into one", img.Name)
		}
		seen[img.Name] = true
		for j, platform := range img.Platforms {
			if !platformPattern.MatchString(platform) {
				return c.atPath(fmt.Sprintf("%s.platforms[%d]", at, j), "%q is no platform: write it as linux/amd64", platform)
			}
		}
		if img.Dockerfile != "" {
			img.Dockerfile = clean(img.Dockerfile)
			if err := c.mustExist(l, at+".dockerfile", img.Dockerfile); err != nil {
				return err
			}
			if l.folders[img.Dockerfile] {
				return c.atPath(at+".dockerfile", "%s is a folder: name the Dockerfile in it", showPath(img.Dockerfile))
			}
		}
		if img.Context != "" {
			img.Context = clean(img.Context)
			if err := c.mustExist(l, at+".context", img.Context); err != nil {
				return err
			}
			if !l.folders[img.Context] {
				return c.atPath(at+".context", "%s is a file: name a folder", showPath(img.Context))
			}
		}
		j := slices.IndexFunc(p.Images, func(o Image) bool { return o.Name == img.Name })
		if j < 0 {
			if img.Dockerfile == "" {
				return c.atPath(at+".name", "no Dockerfile was found for %q: %s", img.Name, meantImage(img, detected))
			}
			p.Images = append(p.Images, img)
			continue
		}
		p.Images[j].overlay(img)
	}
	slices.SortFunc(p.Images, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// meantImage says what to do about an image that was not detected.
func meantImage(img Image, detected []Image) string {
	names := make([]string, 0, len(detected))
	for _, d := range detected {
		names = append(names, d.Name)
	}
	hint := "say where its Dockerfile is, with the key dockerfile"
	if img.Skip {
		hint = "remove the entry, there is nothing to leave out"
	}
	if near := spelling.Nearest(img.Name, names); near != "" {
		return fmt.Sprintf("did you mean %q? Else %s", near, hint)
	}
	return hint
}

// overlay sets what over says.
func (img *Image) overlay(over Image) {
	if over.Dockerfile != "" {
		img.Dockerfile = over.Dockerfile
	}
	if over.Context != "" {
		img.Context = over.Context
	}
	if over.Target != "" {
		img.Target = over.Target
	}
	if over.Args != nil {
		img.Args = over.Args
	}
	if over.Platforms != nil {
		img.Platforms = over.Platforms
	}
	img.Skip = over.Skip
}
