// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// DefaultMount is where the engine is mounted unless [WithMount] says otherwise.
const DefaultMount = "dek"

// DefaultRetries is how often a call is repeated at most, and DefaultTimeout how
// long one attempt may take.
const (
	DefaultRetries = 4
	DefaultTimeout = 60 * time.Second
)

// errMount is what [New] refuses.
var errMount = errors.New("mount must be a path without empty parts, and without parts of one or two dots")

// Client calls one mount of the engine. It is safe for concurrent use.
//
// A call is repeated after a failure if that cannot do harm. Reads, encryption
// and decryption, data keys, and writes that leave the same state when they are
// made twice are repeated after any failure that may pass: no connection, 412,
// 429, 500, 502, 503, 504. Starting a rotation is such a write, since each call
// sends one idempotency key with all of its attempts. Writes of items and
// deletions are repeated only if Vault certainly refused the attempt, or never
// got it; otherwise the caller decides: [OutcomeUnknown].
type Client struct {
	vault   *api.Client // the caller's, for its token and namespace
	sender  *api.Client // a copy that repeats nothing by itself
	syncing sync.Mutex

	mount   string
	retries int
	timeout time.Duration
}

// Option changes what [New] makes.
type Option func(*Client)

// WithMount says where the engine is mounted; it may have several parts.
func WithMount(path string) Option { return func(c *Client) { c.mount = strings.Trim(path, "/") } }

// WithRetries says how often a call is repeated at most; 0 repeats none.
func WithRetries(n int) Option { return func(c *Client) { c.retries = max(n, 0) } }

// WithTimeout says how long one attempt of a call may take, if its context has no
// earlier end.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// New makes a client that sends what vault would send: with its address, TLS
// settings, headers, and the token and namespace that it has at each call. So
// whoever renews vault's token renews it for the Client. The number of retries
// that vault is set to is not used.
func New(vault *api.Client, opts ...Option) (*Client, error) {
	if vault == nil {
		return nil, errors.New("client: no Vault client")
	}
	sender, err := vault.Clone()
	if err != nil {
		return nil, fmt.Errorf("copying the Vault client: %w", err)
	}
	sender.SetMaxRetries(0)
	c := &Client{vault: vault, sender: sender, mount: DefaultMount, retries: DefaultRetries, timeout: DefaultTimeout}
	for _, opt := range opts {
		opt(c)
	}
	for part := range strings.SplitSeq(c.mount, "/") {
		if part == "" || part == "." || part == ".." {
			return nil, errMount
		}
	}
	return c, nil
}

// KV has the calls of KV version 2 for the items of the mount, on its face of KV: a
// secret's path is <tenant_id>/<kind>/<name>. They are the caller's client's own, and
// repeated as that is set to.
func (c *Client) KV() *api.KVv2 { return c.vault.KVv2(c.mount) }

// follow gives the sender the token and the namespace that the caller's client
// has now, and makes a request as that client would.
func (c *Client) follow(method, path string) *api.Request {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	if token := c.vault.Token(); token != c.sender.Token() {
		c.sender.SetToken(token)
	}
	if ns := c.vault.Namespace(); ns != c.sender.Namespace() {
		if ns == "" {
			c.sender.ClearNamespace()
		} else {
			c.sender.SetNamespace(ns)
		}
	}
	r := c.vault.NewRequest(method, path)
	r.WrapTTL = "" // a wrapped answer has no data: VAULT_WRAP_TTL is for people
	return r
}
