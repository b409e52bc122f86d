// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
)

// list reads the keys of a list. Vault answers an empty one with 404, without a
// message.
func (c *Client) list(ctx context.Context, op, path string, p Page) ([]string, error) {
	keys, _, err := listInfo[struct{}](ctx, c, op, path, p)
	return keys, err
}

// listInfo reads the keys of a list, and what it says of each. more are names and values
// of further parameters.
func listInfo[T any](ctx context.Context, c *Client, op, path string, p Page, more ...string) ([]string, map[string]T, error) {
	query := p.query()
	for i := 0; i+1 < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	var answer struct {
		Keys []string     `json:"keys"`
		Info map[string]T `json:"key_info"`
	}
	err := c.do(ctx, call{op: op, method: http.MethodGet, path: path, query: query}, &answer)
	if isEmptyList(err) {
		return nil, nil, nil
	}
	return answer.Keys, answer.Info, err
}

// query asks for a part of a list.
func (p Page) query() url.Values {
	query := url.Values{"list": {"true"}}
	if p.After != "" {
		query.Set("after", p.After)
	}
	if p.Limit > 0 {
		query.Set("limit", strconv.Itoa(p.Limit))
	}
	return query
}

// isEmptyList reports whether an error is Vault's answer to a list that is empty.
func isEmptyList(err error) bool {
	var answered *Error
	return errors.As(err, &answered) && answered.Status == http.StatusNotFound && answered.silent
}

// All walks a list in parts of the given size, as in
//
//	for id, err := range client.All(ctx, 1000, c.Tenants) { … }
//
// It ends at the first error, which comes with an empty key.
func All(ctx context.Context, size int, list func(context.Context, Page) ([]string, error)) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		p := Page{Limit: max(size, 1)}
		for {
			keys, err := list(ctx, p)
			if err != nil {
				yield("", err)
				return
			}
			for _, key := range keys {
				if !yield(key, nil) {
					return
				}
			}
			if len(keys) < p.Limit {
				return
			}
			p.After = keys[len(keys)-1]
		}
	}
}
