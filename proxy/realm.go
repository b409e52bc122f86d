// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// DefaultRealm is the realm of a request without a realmname header.
const DefaultRealm = "default"

// Vault is what the proxy needs of a realm's Vault. *vault.Client is one. Each call
// is made with the caller's token and bounded by a timeout of its own. Errors are
// a *vault.Error where Vault answered, and wrap vault.ErrUnreachable or
// vault.ErrTimeout where it did not.
type Vault interface {
	// ID tells Vaults, their namespaces and mounts from each other. It holds no secret.
	ID() string
	// Server is where Vault is. Realms of the same server share a bound on logins.
	Server() string
	// Login exchanges a JWT at the JWT auth method.
	Login(ctx context.Context, jwt string) (vault.Token, error)
	// LoginUser checks a password at the userpass auth method.
	LoginUser(ctx context.Context, username, password string) (vault.User, error)
	// Identify reads what Vault knows of a caller, with the caller's own token.
	Identify(ctx context.Context, token, entityID string) (vault.Alias, error)
	// Revoke ends a token.
	Revoke(ctx context.Context, token string) error
	// Do makes a call of the engine and returns the answer's data.
	Do(ctx context.Context, token string, r vault.Request) (json.RawMessage, error)
	// Raw reads a path of the engine whose answer is not Vault's JSON.
	Raw(ctx context.Context, token, at string) ([]byte, error)
	// Self asks Vault about a token.
	Self(ctx context.Context, token string) (vault.Self, error)
	// Capabilities asks Vault what a token may do at paths of the engine.
	Capabilities(ctx context.Context, token string, paths []string) (map[string][]string, error)
	// CheckToken returns an error that tells whether Vault knows the token.
	CheckToken(ctx context.Context, token string) error
	// Rotate starts a rotation. The same key gets the same rotation back.
	Rotate(ctx context.Context, token, tenantID, idempotencyKey string) (vault.Rotation, error)
	// Rotation reads one rotation of a tenant.
	Rotation(ctx context.Context, token, tenantID, rotationID string) (vault.Rotation, error)
	// Settings reads the organization's rotation settings.
	Settings(ctx context.Context, token string) (vault.Settings, error)
	// SetSettings changes the rotation interval and returns the new settings.
	SetSettings(ctx context.Context, token, interval string) (vault.Settings, error)
	// Health asks for Vault's seal state, without a token.
	Health(ctx context.Context) (vault.Health, error)
	// Serves makes a request that needs no token and is audited.
	Serves(ctx context.Context) error
}

// Realm is an organization: where its callers log in and where its keys are.
type Realm struct {
	Vault Vault
	// UserClaim is the claim of a JWT that names the user, as the user_claim of the
	// auth method's role says; "sub" by default.
	UserClaim string
	// RolePrefix is what the product's roles begin with in the roles claim, as
	// JWT_ROLE_PREFIX of bootstrap.sh says.
	RolePrefix string
}

// realm is a Realm with its name.
type realm struct {
	name       string
	vault      Vault
	userClaim  string
	rolePrefix string
	health     *healthProbe
}

// key tells realms from each other that share a name, before and after a reload.
func (r *realm) key() string {
	return strings.Join([]string{r.name, r.userClaim, r.vault.ID()}, "\x00")
}

// realms is the table of realms, by name. It is replaced as a whole.
type realms map[string]*realm

func (t realms) has(server string) bool {
	for _, r := range t {
		if r.vault.Server() == server {
			return true
		}
	}
	return false
}

func newRealms(byName map[string]Realm, now func() time.Time) (realms, error) {
	if len(byName) == 0 {
		return nil, errors.New("proxy: a realm is required")
	}
	table := realms{}
	for name, r := range byName {
		if name == "" || r.Vault == nil {
			return nil, errors.New("proxy: a realm needs a name and a Vault")
		}
		if r.UserClaim == "" {
			r.UserClaim = "sub"
		}
		table[name] = &realm{name: name, vault: r.Vault, userClaim: r.UserClaim, rolePrefix: r.RolePrefix, health: &healthProbe{vault: r.Vault, now: now}}
	}
	return table, nil
}

// SetRealms replaces the realms, as a reload of the configuration does. Requests in
// flight end where they began. A Vault token stays cached if the realm's Vault still
// has the same ID.
func (p *Proxy) SetRealms(byName map[string]Realm) error {
	table, err := newRealms(byName, p.now)
	if err != nil {
		return err
	}
	p.realms.Store(&table)
	p.logins.keepServers(table)
	return nil
}

// realmOf reads the realmname header; absent or empty is the default realm.
func (p *Proxy) realmOf(h http.Header) (*realm, *problem) {
	values := h.Values("realmname")
	name := DefaultRealm
	if len(values) > 0 && values[0] != "" {
		name = values[0]
	}
	found, known := (*p.realms.Load())[name]
	if !known || len(values) > 1 {
		return nil, unauthorized("the realm is not known")
	}
	return found, nil
}
