// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"
)

// entityForm is an ID of Vault's, which becomes part of a path.
var entityForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// authData is the part of a login's answer that the proxy reads.
type authData struct {
	ClientToken   string            `json:"client_token"`
	LeaseDuration int64             `json:"lease_duration"`
	NumUses       int               `json:"num_uses"`
	EntityID      string            `json:"entity_id"`
	TokenType     string            `json:"token_type"`
	Metadata      map[string]string `json:"metadata"`
}

// token returns the login's token. One that may be used a few times only has no
// lease to share, so that it is not kept for other requests.
func (a *authData) token() Token {
	t := Token{Value: a.ClientToken, EntityID: a.EntityID, Revocable: a.TokenType == "service"}
	if a.NumUses == 0 {
		t.Lease = time.Duration(a.LeaseDuration) * time.Second
	}
	return t
}

var errNoToken = errors.New("vault's answer to a login holds no token")

// Login exchanges a JWT at the JWT auth method.
func (c *Client) Login(ctx context.Context, jwt string) (Token, error) {
	var out answer
	err := c.write(ctx, "", "auth/"+c.cfg.AuthMount+"/login", map[string]string{"role": c.cfg.Role, "jwt": jwt}, &out)
	if err != nil {
		return Token{}, err
	}
	if out.Auth == nil || out.Auth.ClientToken == "" {
		return Token{}, errNoToken
	}
	return out.Auth.token(), nil
}

// LoginUser checks a password at the userpass auth method. The caller has checked that the username is one
// path segment.
func (c *Client) LoginUser(ctx context.Context, username, password string) (User, error) {
	var out answer
	err := c.write(ctx, "", "auth/"+c.cfg.UserpassMount+"/login/"+username, map[string]string{"password": password}, &out)
	if err != nil {
		return User{}, err
	}
	if out.Auth == nil || out.Auth.ClientToken == "" {
		return User{}, errNoToken
	}
	user := User{Token: out.Auth.token(), Username: out.Auth.Metadata["username"]}
	if user.Username == "" {
		user.Username = username
	}
	return user, nil
}

// ErrNoAlias means that Vault knows the entity by no alias, or by more than one, at
// the JWT auth method.
var ErrNoAlias = errors.New("vault knows the caller by no single alias of the auth method")

// Identify reads what Vault knows of a caller now, with the caller's own token, which
// Vault's default policy allows. It is more than a login or a lookup of the token
// says: those show the login's own claims, whatever became of them.
func (c *Client) Identify(ctx context.Context, token, entityID string) (Alias, error) {
	if !entityForm.MatchString(entityID) {
		return Alias{}, ErrNoAlias
	}
	var entity struct {
		Aliases []Alias `json:"aliases"`
	}
	if err := c.read(ctx, token, "identity/entity/id/"+entityID, &answer{Data: &entity}); err != nil {
		return Alias{}, err
	}
	var found []Alias
	for _, alias := range entity.Aliases {
		// In front of it stands the namespace, if there is one.
		if strings.HasSuffix("/"+strings.Trim(alias.Mount, "/"), "/auth/"+c.cfg.AuthMount) {
			found = append(found, alias)
		}
	}
	if len(found) != 1 {
		return Alias{}, ErrNoAlias
	}
	return found[0], nil
}
