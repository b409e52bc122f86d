// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"errors"
	"time"
)

// authData is the part of a login's answer that the proxy reads.
type authData struct {
	ClientToken   string            `json:"client_token"`
	LeaseDuration int64             `json:"lease_duration"`
	NumUses       int               `json:"num_uses"`
	EntityID      string            `json:"entity_id"`
	Metadata      map[string]string `json:"metadata"`
}

// token returns the login's token. One that may be used a few times only has no
// lease to share, so that it is not kept for other requests.
func (a *authData) token() Token {
	t := Token{Value: a.ClientToken}
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
	user := User{Token: out.Auth.token(), EntityID: out.Auth.EntityID, Username: out.Auth.Metadata["username"]}
	if user.Username == "" {
		user.Username = username
	}
	return user, nil
}
