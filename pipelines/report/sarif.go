package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

// severityProperty is where a SARIF result written here keeps its exact severity, as SARIF has three levels for our five.
const severityProperty = "severity"

// WriteSARIF writes findings as SARIF 2.1.0, one run for each tool, in an order that does not depend on timing.
// A tool in versions that has no finding gets a run without results: it ran, and found nothing.
func WriteSARIF(w io.Writer, findings []Finding, versions map[string]string) error {
	byTool := map[string][]Finding{}
	for tool := range versions {
		byTool[tool] = nil
	}
	for _, f := range findings {
		byTool[f.Tool] = append(byTool[f.Tool], f)
	}
	doc := sarif.NewReport()
	for _, tool := range slices.Sorted(maps.Keys(byTool)) {
		SortFindings(byTool[tool])
		doc.AddRun(sarifRun(tool, versions[tool], byTool[tool]))
	}
	if err := doc.PrettyWrite(w); err != nil {
		return fmt.Errorf("write SARIF: %w", err)
	}
	return nil
}

func sarifRun(tool, version string, findings []Finding) *sarif.Run {
	run := sarif.NewRun()
	run.Tool = sarif.NewTool()
	run.Tool.Driver = sarif.NewToolComponent().WithName(tool)
	if version != "" {
		run.Tool.Driver.WithVersion(version)
	}
	// The library looks rules up by walking through all of them, which is too slow for a large report.
	rules := map[string]int{}
	for _, f := range findings {
		id := f.Rule
		if id == "" {
			id = f.Tool
		}
		index, ok := rules[id]
		if !ok {
			index = len(rules)
			rules[id] = index
			rule := sarif.NewReportingDescriptor().WithID(id)
			if f.URL != "" {
				rule.WithHelpURI(f.URL)
			}
			run.Tool.Driver.AddRule(rule)
		}
		properties := sarif.NewPropertyBag().Add(severityProperty, string(f.Severity))
		if f.URL != "" {
			properties.Add("url", f.URL)
		}
		result := sarif.NewRuleResult(id).WithRuleIndex(index).WithLevel(level(f.Severity)).
			WithMessage(sarif.NewMessage().WithText(f.Message)).WithProperties(properties).
			WithPartialFingerprints(map[string]string{"finding/v1": fingerprint(f)})
		if f.File != "" {
			place := sarif.NewPhysicalLocation().WithArtifactLocation(
				sarif.NewArtifactLocation().WithURI((&url.URL{Path: f.File}).String()))
			if f.Line > 0 {
				region := sarif.NewRegion().WithStartLine(f.Line)
				if f.Column > 0 {
					region.WithStartColumn(f.Column)
				}
				place.WithRegion(region)
			}
			result.AddLocation(sarif.NewLocationWithPhysicalLocation(place))
		}
		run.AddResult(result)
	}
	return run
}

// fingerprint knows a finding again after lines were added above it.
func fingerprint(f Finding) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Tool, f.Rule, f.File, f.Message}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func level(s Severity) string {
	switch s {
	case Critical, High:
		return "error"
	case Medium:
		return "warning"
	default:
		return "note"
	}
}

// ReadSARIF reads the findings of a SARIF 2.1.0 document, for example of golangci-lint or bandit.
//
// A result's severity is, in this order: what [WriteSARIF] or bandit put in its properties; the rule's CVSS score
// (security-severity); its level, where error is high, warning medium, note low. Results that were suppressed, that say
// that all is well, or that are gone since the baseline are no findings. root is as in [ParseCobertura].
func ReadSARIF(r io.Reader, root string) ([]Finding, error) {
	data, err := readInput(r)
	if err != nil {
		return nil, fmt.Errorf("read SARIF: %w", err)
	}
	doc, err := sarif.FromBytes(data)
	if err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) && syntax.Offset >= int64(len(data)) {
			err = ErrTruncated
		}
		return nil, fmt.Errorf("read SARIF: %w", err)
	}
	if doc.Version != "2.1.0" {
		return nil, fmt.Errorf("read SARIF: its version is %q, and only 2.1.0 can be read", doc.Version)
	}
	var findings []Finding
	for _, run := range doc.Runs {
		if run == nil || run.Tool == nil || run.Tool.Driver == nil || run.Tool.Driver.Name == nil {
			return nil, errors.New("read SARIF: a run doesn't name its tool")
		}
		reader := sarifReader{run: run, root: root, rules: map[string]*sarif.ReportingDescriptor{}}
		for _, rule := range run.Tool.Driver.Rules {
			if rule != nil && rule.ID != nil {
				reader.rules[*rule.ID] = rule
			}
		}
		for _, result := range run.Results {
			if result != nil && stands(result) {
				findings = append(findings, reader.finding(result))
			}
		}
	}
	SortFindings(findings)
	return findings, nil
}

// stands tells whether a result is a finding that nobody has dealt with.
func stands(result *sarif.Result) bool {
	if result.Kind == "pass" || result.Kind == "notApplicable" || deref(result.BaselineState) == "absent" {
		return false
	}
	for _, s := range result.Suppressions {
		if s != nil && (deref(s.Status) == "" || deref(s.Status) == "accepted") {
			return false
		}
	}
	return true
}

type sarifReader struct {
	run   *sarif.Run
	root  string
	rules map[string]*sarif.ReportingDescriptor
}

func (s sarifReader) finding(result *sarif.Result) Finding {
	f := Finding{Tool: *s.run.Tool.Driver.Name, Rule: deref(result.RuleID)}
	if f.Rule == "" && result.Rule != nil {
		f.Rule = deref(result.Rule.ID)
	}
	if drivers := s.run.Tool.Driver.Rules; f.Rule == "" && 0 <= result.RuleIndex && result.RuleIndex < len(drivers) &&
		drivers[result.RuleIndex] != nil {
		// The index is of use only without an ID: a missing one reads as 0.
		f.Rule = deref(drivers[result.RuleIndex].ID)
	}
	rule := s.rules[f.Rule]
	if f.Rule == "" {
		f.Rule = f.Tool
	}
	f.Severity = gradeSARIF(result, rule)
	f.Message = sarifMessage(result.Message, rule)
	if _, own := property(result.Properties, severityProperty); own {
		f.URL, _ = property(result.Properties, "url") // findings of one rule may have different pages
	} else if rule != nil {
		f.URL = deref(rule.HelpURI)
	}
	if len(result.Locations) == 0 || result.Locations[0] == nil || result.Locations[0].PhysicalLocation == nil {
		return f
	}
	place := result.Locations[0].PhysicalLocation
	if place.ArtifactLocation != nil {
		f.File = s.file(place.ArtifactLocation)
	}
	if place.Region != nil && f.File != "" {
		if place.Region.StartLine != nil {
			f.Line = max(*place.Region.StartLine, 0)
		}
		if place.Region.StartColumn != nil && f.Line > 0 {
			f.Column = max(*place.Region.StartColumn, 0)
		}
	}
	return f
}

func (s sarifReader) file(location *sarif.ArtifactLocation) string {
	address, err := url.Parse(deref(location.URI))
	if err != nil || (address.Scheme != "" && address.Scheme != "file") {
		return deref(location.URI)
	}
	return inside(s.root, address.Path)
}

func gradeSARIF(result *sarif.Result, rule *sarif.ReportingDescriptor) Severity {
	for _, name := range []string{severityProperty, "issue_severity"} {
		if text, ok := property(result.Properties, name); ok {
			if severity, err := ParseSeverity(text); err == nil {
				return severity
			}
		}
	}
	if rule != nil {
		if text, ok := property(rule.Properties, "security-severity"); ok {
			if score, err := strconv.ParseFloat(text, 64); err == nil {
				return SeverityOfCVSS(score)
			}
		}
	}
	grade := result.Level
	if grade == "" && rule != nil && rule.DefaultConfiguration != nil {
		grade = rule.DefaultConfiguration.Level
	}
	switch grade {
	case "error":
		return High
	case "note":
		return Low
	case "none":
		return Info
	default: // the standard's default is warning
		return Medium
	}
}

// SeverityOfCVSS grades a CVSS base score from 0 to 10 by the standard's own scale: critical from 9.0, high from 7.0, medium from 4.0.
func SeverityOfCVSS(score float64) Severity {
	switch {
	case score >= 9:
		return Critical
	case score >= 7:
		return High
	case score >= 4:
		return Medium
	case score > 0:
		return Low
	default:
		return Info
	}
}

func sarifMessage(message *sarif.Message, rule *sarif.ReportingDescriptor) string {
	if message == nil {
		return ""
	}
	text := deref(message.Text)
	if text == "" && rule != nil {
		if found, ok := rule.MessageStrings[deref(message.ID)]; ok {
			text = deref(found.Text)
		}
	}
	for i, argument := range message.Arguments {
		text = strings.ReplaceAll(text, "{"+strconv.Itoa(i)+"}", argument)
	}
	return strings.TrimSpace(text)
}

func property(bag *sarif.PropertyBag, name string) (string, bool) {
	if bag == nil {
		return "", false
	}
	text, ok := bag.Properties[name].(string)
	return text, ok
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
