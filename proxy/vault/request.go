// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"time"
)

// Request is a call of the engine on behalf of a person at the administrators' page.
type Request struct {
	// Method is GET, PUT or DELETE. A list is a GET with list=true.
	Method string
	// Path is below the engine's mount.
	Path string
	// Query goes with a GET, Body with a PUT.
	Query url.Values
	Body  map[string]any
}

// Self is what Vault tells the owner of a token.
type Self struct {
	DisplayName string
	// Expires is when the token ends; zero: never.
	Expires time.Time
}

var (
	errPath         = errors.New("a path of the engine must be clean")
	errCapabilities = errors.New("vault's answer on capabilities lacks a path")
)

// Do makes a call of the engine and returns the answer's data, nil where there is none.
func (c *Client) Do(ctx context.Context, token string, r Request) (json.RawMessage, error) {
	// The library resolves "..", so that a call could leave the mount.
	if path.Clean("/"+r.Path) != "/"+r.Path {
		return nil, errPath
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	at, caller := c.cfg.Mount+"/"+r.Path, c.as(ctx, token)
	var data json.RawMessage
	out := &answer{Data: &data}
	switch r.Method {
	case http.MethodGet:
		resp, err := caller.ReadRawWithDataWithContext(ctx, at, r.Query)
		err = finish(ctx, resp, err, out)
		return data, err
	case http.MethodDelete:
		resp, err := caller.DeleteRawWithContext(ctx, at)
		err = finish(ctx, resp, err, out)
		return data, err
	default:
		err := c.write(ctx, token, at, r.Body, out)
		return data, err
	}
}

// maxFile bounds a file of the evidence log: a bundle has at most 256 entries of 16 KiB.
const maxFile = 8 << 20

// Raw reads a path of the engine whose answer is not Vault's JSON.
func (c *Client) Raw(ctx context.Context, token, at string) ([]byte, error) {
	if path.Clean("/"+at) != "/"+at {
		return nil, errPath
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.as(ctx, token).ReadRawWithContext(ctx, c.cfg.Mount+"/"+at)
	if err != nil {
		return nil, finish(ctx, resp, err, nil)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxFile))
	if err != nil {
		return nil, answerError(ctx, nil, err)
	}
	return raw, nil
}

// Self asks Vault about a token. The error tells whether Vault knows it.
func (c *Client) Self(ctx context.Context, token string) (Self, error) {
	var out struct {
		DisplayName string     `json:"display_name"`
		Expires     *time.Time `json:"expire_time"`
	}
	if err := c.read(ctx, token, "auth/token/lookup-self", &answer{Data: &out}); err != nil {
		return Self{}, err
	}
	self := Self{DisplayName: out.DisplayName}
	if out.Expires != nil {
		self.Expires = *out.Expires
	}
	return self, nil
}

// Capabilities asks Vault what a token may do at paths of the engine. The answer has
// each path that was asked for.
func (c *Client) Capabilities(ctx context.Context, token string, paths []string) (map[string][]string, error) {
	full := make([]string, 0, len(paths))
	for _, p := range paths {
		full = append(full, c.cfg.Mount+"/"+p)
	}
	var data map[string]json.RawMessage
	if err := c.write(ctx, token, "sys/capabilities-self", map[string]any{"paths": full}, &answer{Data: &data}); err != nil {
		return nil, err
	}
	out := make(map[string][]string, len(paths))
	for i, p := range paths {
		var names []string
		if json.Unmarshal(data[full[i]], &names) != nil {
			return nil, errCapabilities
		}
		out[p] = names
	}
	return out, nil
}
