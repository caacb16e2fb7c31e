package kube

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// smokeJUnit writes smoke tests as JUnit XML, which every CI host shows.
func smokeJUnit(checks []SmokeCheck) (string, error) {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    string   `xml:"time,attr"`
		Failure *failure `xml:"failure,omitempty"`
	}
	suite := struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testcase `xml:"testcase"`
	}{Name: "smoke", Tests: len(checks)}
	for _, c := range checks {
		one := testcase{Class: "smoke", Name: c.Name, Time: fmt.Sprintf("%.3f", c.Seconds)}
		if !c.Passed {
			suite.Failures++
			var differences []string
			for _, d := range c.Wrong {
				differences = append(differences, "expected "+d.Expected+", and got "+d.Got)
			}
			one.Failure = &failure{Message: strings.Join(differences, "; "), Text: strings.ToValidUTF8(c.Body, "\uFFFD")}
		}
		suite.Cases = append(suite.Cases, one)
	}
	text, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write junit.xml: %w", err)
	}
	return xml.Header + string(text) + "\n", nil
}
