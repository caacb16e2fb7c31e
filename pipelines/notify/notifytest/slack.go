// Package notifytest has receivers for notifications, for tests: one that checks messages by the limits that Slack
// documents, and a mail server.
package notifytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Slack's documented limits, in characters: https://docs.slack.dev/reference/block-kit/blocks and, for text,
// https://docs.slack.dev/changelog/2018-truncating-really-long-messages
const (
	maxBlocks   = 50
	maxHeader   = 150
	maxSection  = 3000
	maxFields   = 10
	maxField    = 2000
	maxElements = 10
	maxText     = 40_000
)

// CheckSlack returns what is wrong with the body of a request to an incoming webhook, by Slack's documentation.
//
// Characters are counted as UTF-16 does, which is never less than Slack would. Of the blocks, it knows those without
// interaction: header, section, context and divider.
func CheckSlack(body []byte) []string {
	var c checker
	if !utf8.Valid(body) {
		c.problem("the body is not UTF-8")
	}
	var message struct {
		Text        string            `json:"text"`
		Blocks      []json.RawMessage `json:"blocks"`
		UnfurlLinks *bool             `json:"unfurl_links"`
	}
	if err := strict(body, &message); err != nil {
		c.problem("the body: %v", err)
		return c.problems
	}
	if message.Text == "" {
		c.problem("text is missing: it is what a notification shows")
	}
	c.length("text", message.Text, maxText)
	c.markup("text", message.Text)
	if n := len(message.Blocks); n == 0 || n > maxBlocks {
		c.problem("it has %d blocks: want 1 to %d", n, maxBlocks)
	}
	for i, raw := range message.Blocks {
		c.block(fmt.Sprintf("blocks[%d]", i), raw)
	}
	return c.problems
}

type checker struct{ problems []string }

func (c *checker) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

type textObject struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	Verbatim *bool  `json:"verbatim"`
	Emoji    *bool  `json:"emoji"`
}

func (c *checker) block(at string, raw json.RawMessage) {
	var block struct {
		Type     string       `json:"type"`
		Text     *textObject  `json:"text"`
		Fields   []textObject `json:"fields"`
		Elements []textObject `json:"elements"`
	}
	if err := strict(raw, &block); err != nil {
		c.problem("%s: %v", at, err)
		return
	}
	switch block.Type {
	case "header":
		if block.Text == nil || block.Text.Type != "plain_text" {
			c.problem("%s: a header needs a text of type plain_text", at)
			return
		}
		c.text(at+".text", *block.Text, maxHeader)
	case "section":
		if block.Text == nil && len(block.Fields) == 0 {
			c.problem("%s: a section needs text or fields", at)
		}
		if block.Text != nil {
			c.text(at+".text", *block.Text, maxSection)
		}
		if n := len(block.Fields); n > maxFields {
			c.problem("%s: it has %d fields: want at most %d", at, n, maxFields)
		}
		for i, f := range block.Fields {
			c.text(fmt.Sprintf("%s.fields[%d]", at, i), f, maxField)
		}
	case "context":
		if n := len(block.Elements); n == 0 || n > maxElements {
			c.problem("%s: it has %d elements: want 1 to %d", at, n, maxElements)
		}
		for i, e := range block.Elements {
			c.text(fmt.Sprintf("%s.elements[%d]", at, i), e, maxSection)
		}
	case "divider":
	default:
		c.problem("%s: unknown block %q", at, block.Type)
	}
}

func (c *checker) text(at string, t textObject, limit int) {
	if strings.TrimSpace(t.Text) == "" {
		c.problem("%s: it is empty", at)
	}
	c.length(at, t.Text, limit)
	switch t.Type {
	case "mrkdwn":
		if t.Emoji != nil {
			c.problem("%s: emoji is for plain_text", at)
		}
		c.markup(at, t.Text)
	case "plain_text":
		if t.Verbatim != nil {
			c.problem("%s: verbatim is for mrkdwn", at)
		}
	default:
		c.problem("%s: unknown type %q", at, t.Type)
	}
}

func (c *checker) length(at, text string, limit int) {
	if n := len(utf16.Encode([]rune(text))); n > limit {
		c.problem("%s: it has %d characters: want at most %d", at, n, limit)
	}
	if strings.ContainsRune(text, utf8.RuneError) {
		c.problem("%s: a character was cut in two", at)
	}
}

var (
	entity = regexp.MustCompile(`&(amp|lt|gt);`)
	link   = regexp.MustCompile(`<https?://[^<>|\s]+(\|[^<>|]+)?>`)
)

// markup finds what Slack would take for an entity, a link or a mention, and is none that a pipeline may send.
func (c *checker) markup(at, text string) {
	rest := link.ReplaceAllString(entity.ReplaceAllString(text, ""), "")
	if i := strings.IndexAny(rest, "&<>"); i >= 0 {
		c.problem("%s: %q is not escaped", at, rest[i:min(len(rest), i+20)])
	}
	if strings.Count(text, "```")%2 != 0 {
		c.problem("%s: a block of code does not end", at)
	}
}

// strict decodes JSON, and refuses keys that Slack doesn't know.
func strict(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(to)
}

// Slack is an [http.Handler] that acts like Slack's incoming webhooks: it takes messages that [CheckSlack] finds nothing
// wrong with, at one path alone.
type Slack struct {
	// Path is the webhook's.
	Path string
	Inbox
}

// ServeHTTP answers as Slack does: with the status and a word.
func (s *Slack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, planned := s.take(w, r)
	if planned {
		return
	}
	switch {
	case r.URL.Path != s.Path:
		http.Error(w, "no_service", http.StatusNotFound)
	case r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		s.refuse("%s of %s", r.Method, r.Header.Get("Content-Type"))
		http.Error(w, "invalid_payload", http.StatusBadRequest)
	default:
		if problems := CheckSlack(body); len(problems) > 0 {
			s.refuse("%s", strings.Join(problems, "\n"))
			http.Error(w, "invalid_blocks", http.StatusBadRequest)
			return
		}
		s.accept(body)
		fmt.Fprint(w, "ok")
	}
}
