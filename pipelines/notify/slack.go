package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Slack sends messages to a Slack incoming webhook, as Block Kit.
type Slack struct {
	// Label is what the target is called in reports: the name of its secret, never the secret.
	Label string
	// URL is the webhook's address. It is a secret: whoever has it can post.
	URL Secret
	// Client sends the requests; one with Go's defaults if nil.
	Client *http.Client
}

// slackHost is where webhooks of Slack lie; it is no secret.
const slackHost = "hooks.slack.com"

// Slack's limits: https://docs.slack.dev/reference/block-kit/blocks
const (
	slackHeader  = 150
	slackSection = 3000
	slackFields  = 10
	slackField   = 2000
	slackContext = 2000
	slackText    = 3000 // of the text that shows in notifications; Slack recommends 4,000 and cuts at 40,000
)

// Name names the target for people.
func (s Slack) Name() string { return named("slack", s.Label) }

// Deliver sends m once.
func (s Slack) Deliver(ctx context.Context, m Message) error {
	body, err := s.Payload(m)
	if err != nil {
		return err
	}
	p := post{client: s.Client, url: s.URL, label: s.Label, body: body, explain: explainSlack, safe: true}
	return p.send(ctx)
}

// block is one of Slack's layout blocks.
type block struct {
	Type     string        `json:"type"`
	Text     *slackTextOf  `json:"text,omitempty"`
	Fields   []slackTextOf `json:"fields,omitempty"`
	Elements []slackTextOf `json:"elements,omitempty"`
}

// slackTextOf is one of Slack's text objects.
type slackTextOf struct {
	Type string `json:"type"`
	Text string `json:"text"`
	// Verbatim keeps Slack from making links and mentions of what only looks like them.
	Verbatim bool  `json:"verbatim,omitempty"`
	Emoji    *bool `json:"emoji,omitempty"`
}

func mrkdwn(text string) *slackTextOf {
	return &slackTextOf{Type: "mrkdwn", Text: text, Verbatim: true}
}

// slackEscaper is what Slack asks for: without it, <!channel> would call everybody.
var slackEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// escaped returns text for mrkdwn, cut to limit bytes in its escaped form.
func escaped(text string, limit int) string {
	// Nothing but this package begins or ends a block of code.
	return cut(strings.ReplaceAll(text, fence, "`\u200b`\u200b`"), limit, slackEscaper.Replace)
}

const fence = "```"

// fenced returns text as a block of code of at most limit bytes.
func fenced(text string, limit int) string {
	return fence + "\n" + escaped(text, limit-2*len(fence)-2) + "\n" + fence
}

// Payload returns what Slack gets for m.
func (s Slack) Payload(m Message) ([]byte, error) {
	no := false
	title := symbol(m.Verdict) + " " + line(m.Title)
	blocks := []block{
		{Type: "header", Text: &slackTextOf{Type: "plain_text", Text: cut(title, slackHeader, asIs), Emoji: &no}},
	}
	section := func(text string) { blocks = append(blocks, block{Type: "section", Text: mrkdwn(text)}) }
	if what := line(m.What); what != "" && len(m.Causes) == 0 {
		section(escaped(what, slackSection))
	}
	var fields []slackTextOf
	for _, f := range m.summary() {
		if f.Name != "Ended" && len(fields) < slackFields {
			fields = append(fields, *mrkdwn("*" + f.Name + "*\n" + escaped(f.Value, slackField-100)))
		}
	}
	if len(fields) > 0 {
		blocks = append(blocks, block{Type: "section", Fields: fields})
	}
	for _, c := range m.Causes {
		text := fmt.Sprintf("*%s %s:* %s", escaped(line(c.Node), 200), c.Verdict, escaped(line(c.Reason), 1000))
		if detail := strings.TrimSpace(printable(c.Detail)); detail != "" {
			text += "\n" + fenced(detail, slackSection-len(text)-1)
		}
		section(text)
	}
	if len(m.Facts) > 0 {
		var lines []string
		for _, f := range m.Facts {
			lines = append(lines, line(f.Name)+": "+line(f.Value))
		}
		section(fenced(strings.Join(lines, "\n"), slackSection))
	}
	if link := webLink(m.Link); link != "" && len(link) < 2000 {
		section("<" + link + "|Open the run>")
	}
	blocks = append(blocks, block{Type: "context", Elements: []slackTextOf{
		*mrkdwn(escaped(line(m.Graph)+" · "+m.Time.Format(clock), slackContext)),
	}})
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Text   string  `json:"text"`
		Blocks []block `json:"blocks"`
		Unfurl bool    `json:"unfurl_links"`
	}{escaped(title+" – "+line(m.What), slackText), blocks, false})
	return b.Bytes(), err
}

// webLink returns address in the form that can stand in Slack's own markup, if it is one that people may be led to.
func webLink(address string) string {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return strings.NewReplacer("&", "&amp;", "<", "%3C", ">", "%3E", "|", "%7C").Replace(u.String())
}

// explainSlack says what Slack's refusals mean: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
func explainSlack(label, answer string) string {
	switch {
	case strings.Contains(answer, "no_service"), strings.Contains(answer, "no_team"), strings.Contains(answer, "invalid_token"):
		return "the webhook does not exist any more: make a new one in Slack and put its address into " + label
	case strings.Contains(answer, "channel_not_found"), strings.Contains(answer, "channel_is_archived"):
		return "the webhook's channel is gone: make a webhook for another one and put its address into " + label
	case strings.Contains(answer, "action_prohibited"), strings.Contains(answer, "posting_to_general_channel_denied"):
		return "the workspace's settings forbid it: ask its administrators"
	case strings.Contains(answer, "invalid_payload"), strings.Contains(answer, "invalid_blocks"):
		return "the message breaks Slack's rules, which is a fault of millrace: please report it"
	}
	return ""
}
