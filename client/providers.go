// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"time"
)

// Provider is a key outside of Vault's storage that wraps key-encryption keys.
type Provider struct {
	Type       string            `json:"type"`       // awskms, azurekeyvault, gcpckms, kmsv2 or transit
	Parameters map[string]string `json:"parameters"` // a credential is <configured>
	Socket     string            `json:"socket"`     // of type kmsv2
	Lease      Duration          `json:"lease"`
	Grace      Duration          `json:"grace"`
	Timeout    Duration          `json:"timeout"`
	Mount      bool              `json:"mount"`   // whether the mount's KEK may be under it
	Tenants    []string          `json:"tenants"` // whose own KEKs may; * alone: all
	State      string            `json:"state"`   // ok, unavailable or denied
	Since      *time.Time        `json:"since"`
	CheckedAt  *time.Time        `json:"checked_at"`
	LastError  string            `json:"last_error"`
	InUse      int               `json:"in_use"` // KEKs under it
}

// ProviderChange is what a write of a provider names: nil fields stay as they are, or have
// their default in a new one.
type ProviderChange struct {
	Type       *string           `json:"type,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"` // all of them
	Socket     *string           `json:"socket,omitempty"`
	Lease      *Duration         `json:"lease,omitempty"`
	Grace      *Duration         `json:"grace,omitempty"`
	Timeout    *Duration         `json:"timeout,omitempty"`
	Mount      *bool             `json:"mount,omitempty"`
	Tenants    *[]string         `json:"tenants,omitempty"` // all of them
}

func providerPath(name string) string { return "providers/" + url.PathEscape(name) }

// Providers lists the key providers.
func (c *Client) Providers(ctx context.Context, p Page) ([]string, error) {
	return c.list(ctx, "list providers", "providers", p)
}

// Provider reads a key provider.
func (c *Client) Provider(ctx context.Context, name string) (*Provider, error) {
	out := new(Provider)
	return orNil(out, c.do(ctx, call{op: "read provider", method: http.MethodGet, path: providerPath(name)}, out))
}

// SetProvider creates or changes a key provider, which has to wrap and unwrap a probe.
func (c *Client) SetProvider(ctx context.Context, name string, change ProviderChange) (*Provider, error) {
	out := new(Provider)
	return orNil(out, c.do(ctx, call{op: "write provider", method: http.MethodPut, path: providerPath(name), body: change}, out))
}

// DeleteProvider deletes a key provider that is not in use.
func (c *Client) DeleteProvider(ctx context.Context, name string) error {
	return c.do(ctx, call{op: "delete provider", method: http.MethodDelete, path: providerPath(name)}, nil)
}

// CheckProvider has a key provider wrap and unwrap a probe, now.
func (c *Client) CheckProvider(ctx context.Context, name string) (*Provider, error) {
	out := new(Provider)
	return orNil(out, c.do(ctx, call{op: "check provider", method: http.MethodPut, path: providerPath(name) + "/check"}, out))
}

// MoveKEK moves the mount's key-encryption key under a provider, empty for Vault's storage.
// It is a rotation, as [Client.RotateKEK].
func (c *Client) MoveKEK(ctx context.Context, provider, reason string) (*KEK, error) {
	out := new(KEK)
	return orNil(out, c.do(ctx, call{
		op: "move key-encryption key", method: http.MethodPut, path: "kek/rotate",
		body: map[string]string{"provider": provider, "reason": reason, "idempotency_key": rand.Text()},
	}, out))
}

// KEK reads which key-encryption key wraps the tenant's keys, and how its latest move goes:
// one of the tenant's own, under a provider, or the mount's.
func (t *Tenant) KEK(ctx context.Context) (*KEK, error) {
	out := new(KEK)
	return orNil(out, t.c.do(ctx, call{op: "read tenant's key-encryption key", method: http.MethodGet, path: t.path("/kek")}, out))
}

// MoveKEK moves the tenant's keys to a key-encryption key of its own under a provider, empty
// for the mount's.
func (t *Tenant) MoveKEK(ctx context.Context, provider, reason string) (*KEK, error) {
	out := new(KEK)
	return orNil(out, t.c.do(ctx, call{
		op: "move tenant's key-encryption key", method: http.MethodPut, path: t.path("/kek/rotate"),
		body: map[string]string{"provider": provider, "reason": reason, "idempotency_key": rand.Text()},
	}, out))
}
