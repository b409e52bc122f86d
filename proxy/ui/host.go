// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// Host is what the page needs of the proxy. Errors are a *Refusal.
type Host interface {
	// Realms are the names of the realms, sorted.
	Realms() []string
	// DefaultRealm is the realm at which the proxy logs an administrator in by default.
	DefaultRealm() string
	// SignIn logs a person in at Vault, within the proxy's throttles.
	SignIn(ctx context.Context, c Credentials) (Account, error)
}

// Credentials are what a person signs in with: a username and password, a JWT, or a
// Vault token.
type Credentials struct {
	Realm              string
	Username, Password string
	JWT, Token         string
}

// Account is a person who has signed in. It is safe for concurrent use. Calls are made
// with the person's token; errors are a *Refusal.
type Account interface {
	// Name is what Vault or the JWT calls the person.
	Name() string
	// Realm is where the person has signed in.
	Realm() string
	// Tenant is the tenant that the JWT names, empty without one.
	Tenant() string
	// Expires is when the token ends; zero: not by itself.
	Expires() time.Time
	// Do makes a call of the engine and returns the answer's data.
	Do(ctx context.Context, r vault.Request) (json.RawMessage, error)
	// Raw reads a path of the engine whose answer is not Vault's JSON.
	Raw(ctx context.Context, at string) ([]byte, error)
	// Capabilities asks Vault what the person may do at paths of the engine.
	Capabilities(ctx context.Context, paths []string) (map[string][]string, error)
	// End ends what the sign-in made at Vault. A token that the person brought stays.
	End(ctx context.Context) error
}

// Refusal is an answer that is not the one asked for. It is safe to show in full.
type Refusal struct {
	// Status is that of HTTP: 401 where the session has ended.
	Status int
	// Reason is for the person.
	Reason string
	// RetryAfter is in seconds, empty if it is not known.
	RetryAfter string
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Reason) }
