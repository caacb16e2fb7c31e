package report

import (
	"bytes"
	"errors"
	"fmt"
)

// File is a file of a run's report.
type File struct {
	Name string
	Data []byte
}

// Files returns the run's record in all its forms: run.json, index.html, junit.xml, findings.sarif and summary.md.
// The steps' own files belong beside them, below [ReportsPath]. A form that can't be written does not keep the others
// from it: the error says which ones are missing.
func Files(run Run) ([]File, error) {
	var files []File
	var missing []error
	add := func(name string, data []byte, err error) {
		if err != nil {
			missing = append(missing, fmt.Errorf("write %s: %w", name, err))
			return
		}
		files = append(files, File{name, data})
	}
	record, err := run.Encode()
	add("run.json", record, err)
	var html, junit, sarif bytes.Buffer
	err = WriteHTML(&html, run)
	add("index.html", html.Bytes(), err)
	err = WriteJUnit(&junit, run)
	add("junit.xml", junit.Bytes(), err)
	err = WriteSARIF(&sarif, run.Findings(), run.Tools())
	add("findings.sarif", sarif.Bytes(), err)
	add("summary.md", []byte(Markdown(run)), nil)
	return files, errors.Join(missing...)
}
