// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

const (
	tenantID   = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	rotationID = "rot-3fa85f64-5717-4562-b3fc-2c963f66afa6"
)

// seen is a request that arrived.
type seen struct {
	method, path, query, token, namespace, wrap string
	body                                        map[string]any
}

// script answers requests in turn: a status and body, or an error of the network.
type script struct {
	t       *testing.T
	answers []reply
	seen    []seen
}

type reply struct {
	status int
	body   string
	header http.Header
	err    error
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	got := seen{
		method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, token: r.Header.Get("X-Vault-Token"),
		namespace: r.Header.Get("X-Vault-Namespace"), wrap: r.Header.Get("X-Vault-Wrap-TTL"),
	}
	if r.Body != nil {
		raw, err := io.ReadAll(r.Body)
		require.NoError(s.t, err)
		if len(raw) > 0 {
			require.NoError(s.t, json.Unmarshal(raw, &got.body))
		}
	}
	s.seen = append(s.seen, got)
	next := s.answers[min(len(s.seen), len(s.answers))-1]
	if next.err != nil {
		return nil, next.err
	}
	header := next.header
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: next.status, Header: header, Body: io.NopCloser(strings.NewReader(next.body)), Request: r,
	}, nil
}

func scripted(t *testing.T, answers ...reply) (*Client, *script) {
	t.Helper()
	s := &script{t: t, answers: answers}
	config := api.DefaultConfig()
	config.Address = "http://vault.invalid"
	config.HttpClient = &http.Client{Transport: s}
	vault, err := api.NewClient(config)
	require.NoError(t, err)
	vault.SetToken("token")
	c, err := New(vault)
	require.NoError(t, err)
	return c, s
}

func tenantOf(t *testing.T, c *Client) *Tenant {
	t.Helper()
	tenant, err := c.Tenant(tenantID)
	require.NoError(t, err)
	return tenant
}

func second[T any](_ T, err error) error { return err }
