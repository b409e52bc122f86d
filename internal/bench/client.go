// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxIdle is more than any figure has connections.
const maxIdle = 128

// client speaks HTTP to Vault or the proxy: connections stay open, nothing is
// tried twice.
type client struct {
	http   *http.Client
	base   string // with "/v1/" for Vault
	header http.Header
}

func newClient(base string, header http.Header) *client {
	return &client{
		http: &http.Client{
			Timeout: 90 * time.Second,
			Transport: &http.Transport{
				MaxIdleConns: maxIdle, MaxIdleConnsPerHost: maxIdle,
				IdleConnTimeout: time.Hour, DisableCompression: true,
			},
		},
		base: base, header: header,
	}
}

func vaultClient(addr, token string) *client {
	return newClient(addr+"/v1/", http.Header{"X-Vault-Token": {token}})
}

// statusError is an answer other than 2xx. It has what Vault says of it, which
// names no values.
type statusError struct {
	method, path string
	code         int
	body         []byte
}

func (e *statusError) Error() string {
	const shown = 300
	return fmt.Sprintf("%s %s: %d %s", e.method, e.path, e.code, e.body[:min(len(e.body), shown)])
}

// send makes one request and reads the answer to its end.
func (c *client) send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body)) // #nosec G704 -- the stack's
	if err != nil {
		return nil, err
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req) // #nosec G704 -- the stack's
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, &statusError{method, path, resp.StatusCode, answer}
	}
	return answer, nil
}

// call sends body as JSON and decodes what Vault has under "data" into data,
// unless that is nil.
func (c *client) call(ctx context.Context, method, path string, body, data any) error {
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return err
		}
	}
	answer, err := c.send(ctx, method, path, encoded)
	if err != nil || data == nil {
		return err
	}
	wrapped := struct {
		Data any `json:"data"`
	}{data}
	if err := json.Unmarshal(answer, &wrapped); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *client) post(ctx context.Context, path string, body any) error {
	return c.call(ctx, http.MethodPost, path, body, nil)
}
