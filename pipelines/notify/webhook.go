package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed message.schema.json
var messageSchema []byte

// MessageJSONSchema returns the JSON schema (draft 2020-12) of what webhooks get.
func MessageJSONSchema() []byte { return bytes.Clone(messageSchema) }

// Webhook posts messages as JSON to an address; see [MessageJSONSchema].
//
// With a key, requests are signed by the Standard Webhooks specification, for which there are libraries in most
// languages: headers webhook-id, webhook-timestamp and webhook-signature, the last an HMAC-SHA256. The id is the
// message's own, and the same at every attempt.
type Webhook struct {
	// Label is what the target is called in reports: the name of its secret, never the secret.
	Label string
	// URL is the address, which may hold credentials.
	URL Secret
	// Key signs the requests. One that begins with whsec_ is base64 after that, any other is taken as it is.
	Key Secret
	// Client sends the requests; one with Go's defaults if nil.
	Client *http.Client
}

// Name names the target for people.
func (w Webhook) Name() string { return named("webhook", w.Label) }

// Payload returns the body that is posted for m.
func (w Webhook) Payload(m Message) ([]byte, error) {
	if m.Events == nil {
		m.Events = []Event{}
	}
	return json.Marshal(m)
}

// Deliver sends m once.
func (w Webhook) Deliver(ctx context.Context, m Message) error {
	body, err := w.Payload(m)
	if err != nil {
		return err
	}
	header := http.Header{}
	header.Set("webhook-id", m.ID)
	at := time.Now()
	header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	if w.Key.IsSet() {
		signature, err := sign(w.Key, m.ID, at, body)
		if err != nil {
			return err
		}
		header.Set("webhook-signature", signature)
	}
	p := post{client: w.Client, url: w.URL, label: w.Label, body: body, header: header, hide: []Secret{w.Key}}
	return p.send(ctx)
}

// sign returns the signature header: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
func sign(key Secret, id string, at time.Time, body []byte) (string, error) {
	raw := []byte(key.value)
	if encoded, ok := strings.CutPrefix(key.value, "whsec_"); ok {
		var err error
		if raw, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return "", fmt.Errorf("the signing key begins with whsec_ and is not base64 after that")
		}
	}
	mac := hmac.New(sha256.New, raw)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}
