// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer: more than a batch of the largest
// size that Vault takes (32 MiB) gets back.
const maxAnswer = 64 << 20

// call is one request to the engine.
type call struct {
	op     string // for people: begins the text of its errors
	method string
	path   string // below the mount; every part was checked
	query  url.Values
	body   any // encoded as JSON; nil: none
	repeat repeat
	raw    bool // the answer is a text as it is: out is a *string
}

// envelope is what Vault puts around each answer.
type envelope struct {
	Data     json.RawMessage `json:"data"`
	Errors   []string        `json:"errors"`
	Warnings []string        `json:"warnings"`
}

// do makes a call, repeats it as far as it may be, and decodes the answer's data
// into out, unless that is nil or there is none.
func (c *Client) do(ctx context.Context, what call, out any) error {
	var body []byte
	if what.body != nil {
		var err error
		if body, err = json.Marshal(what.body); err != nil {
			return fmt.Errorf("%s: encoding the request: %w", what.op, err)
		}
	}
	for attempt := 0; ; attempt++ {
		data, err := c.send(ctx, what, body)
		if err == nil {
			defer clear(data) // it may hold a key
			if text, ok := out.(*string); ok && what.raw {
				*text = string(data)
				return nil
			}
			return decode(what.op, data, out)
		}
		if attempt >= c.retries || !mayRepeat(what.repeat, err) {
			return err
		}
		if !pause(ctx, backoff(attempt, err)) {
			return err
		}
	}
}

func decode(op string, data json.RawMessage, out any) error {
	if out == nil {
		return nil
	}
	if len(data) == 0 || string(data) == "null" {
		return &Error{Op: op, Status: http.StatusBadGateway, Message: "the answer has no data: is this the path of a DEK engine?"}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a float64 would change whole numbers from 2^53 on
	if err := d.Decode(out); err != nil {
		// The decoder's own text may quote what it read.
		return &Error{Op: op, Status: http.StatusBadGateway, Message: "the answer has another form than this client knows"}
	}
	return nil
}

// send makes one attempt.
func (c *Client) send(ctx context.Context, what call, body []byte) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := c.follow(what.method, "/v1/"+c.mount+"/"+what.path)
	for name, values := range what.query {
		r.Params[name] = values
	}
	if body != nil {
		r.BodyBytes = body
		if r.Headers == nil {
			r.Headers = http.Header{}
		}
		r.Headers.Set("Content-Type", contentType(what.method))
	}
	// The raw form: api.Client's others drop the data of an answer that is an error.
	resp, err := c.sender.RawRequestWithContext(ctx, r) //nolint:staticcheck // deprecated in favour of forms that drop data
	if resp == nil {
		return nil, &TransportError{Op: what.op, Err: withoutURL(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	raw, readErr := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	defer clear(raw)
	if readErr != nil {
		return nil, &TransportError{Op: what.op, Err: fmt.Errorf("reading the answer: %w", readErr)}
	}
	if len(raw) > maxAnswer {
		return nil, &TransportError{Op: what.op, Err: fmt.Errorf("the answer has over %d bytes", maxAnswer)}
	}
	if what.raw && resp.StatusCode == http.StatusOK {
		return bytes.Clone(raw), nil
	}
	return open(ctx, what.op, resp.StatusCode, resp.Header, raw)
}

// contentType is what Vault asks for.
func contentType(method string) string {
	if method == http.MethodPatch {
		return "application/merge-patch+json"
	}
	return "application/json"
}

// open takes the data out of an answer, or the error.
func open(ctx context.Context, op string, status int, header http.Header, raw []byte) (json.RawMessage, error) {
	var e envelope
	isVault := len(raw) > 0 && json.Unmarshal(raw, &e) == nil
	if status >= 200 && status < 300 {
		if len(raw) > 0 && !isVault {
			return nil, &Error{Op: op, Status: http.StatusBadGateway, Message: "the answer is not one of Vault's"}
		}
		tellWarnings(ctx, e.Warnings)
		return e.Data, nil
	}
	return nil, &Error{
		Op: op, Status: status, Message: messageOf(status, e.Errors), RetryAfter: retryAfter(header),
		raw: e.Data, fromVault: isVault && e.Errors != nil, silent: isVault && len(e.Errors) == 0,
	}
}

// messageOf makes one line of Vault's list of errors, without the words that
// its framework puts before each.
func messageOf(status int, errs []string) string {
	var lines []string
	for _, e := range errs {
		for line := range strings.Lines(e) {
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "*"))
			if line != "" && !strings.HasSuffix(line, "occurred:") {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		return http.StatusText(status)
	}
	return strings.Join(lines, "; ")
}

// withoutURL takes the URL out of a transport's error: it has an item's name in it.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// pause waits, and reports whether the time passed before the context ended.
func pause(ctx context.Context, d time.Duration) bool {
	if end, has := ctx.Deadline(); has && time.Until(end) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
