// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/ui"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// pageHost signs people in for the administrators' page.
type pageHost struct{ p *Proxy }

// Realms implements ui.Host.
func (h pageHost) Realms() []string { return slices.Sorted(maps.Keys(*h.p.realms.Load())) }

// DefaultRealm implements ui.Host.
func (h pageHost) DefaultRealm() string { return DefaultRealm }

// SignIn implements ui.Host.
func (h pageHost) SignIn(ctx context.Context, c ui.Credentials) (ui.Account, error) {
	found, known := (*h.p.realms.Load())[cmp.Or(c.Realm, DefaultRealm)]
	if !known {
		return nil, h.p.refusal(ctx, unauthorized("the realm is not known"))
	}
	a := &account{p: h.p, session: session{realm: found}}
	var err error
	switch {
	case c.JWT != "":
		err = a.withJWT(ctx, c.JWT)
	case c.Token != "":
		err = a.withToken(ctx, c.Token)
	default:
		err = a.withPassword(ctx, c.Username, c.Password)
	}
	if err != nil {
		return nil, h.p.refusal(ctx, loginProblem(err))
	}
	return a, nil
}

// account is a person at the administrators' page.
type account struct {
	p       *Proxy
	session session
	name    string
	tenant  string
	expires time.Time
	// own means that the sign-in made the token, and that signing out ends it.
	own bool
}

func (a *account) withJWT(ctx context.Context, jwt string) error {
	cred, prob := sessionID(http.Header{"Infa-Session-Id": {jwt}})
	if prob != nil || cred.jwt == "" {
		return unauthorized("this is no JWT")
	}
	claim, prob := parseJWT(cred.jwt, a.p.now(), a.session.realm.rolePrefix)
	if prob != nil {
		return prob
	}
	a.session.jwt, a.session.claim = cred.jwt, claim
	a.name, a.tenant, a.expires = cmp.Or(claim.user("name"), claim.user(a.session.realm.userClaim)), claim.tenant, claim.expiry
	s := a.session
	return a.p.login(ctx, &s)
}

func (a *account) withToken(ctx context.Context, token string) error {
	if len(token) > maxToken || !tokenForm.MatchString(token) {
		return unauthorized("this is no Vault token")
	}
	server := a.session.realm.vault.Server()
	return a.p.logins.attempt(ctx, server, exchangeOf(ctx).addressKey, "", func() error {
		self, err := a.session.realm.vault.Self(ctx, token)
		if err != nil {
			return err
		}
		a.p.own.remember(keyOf(a.session.realm.key(), token))
		a.session.token, a.name, a.expires = token, self.DisplayName, self.Expires
		return nil
	})
}

func (a *account) withPassword(ctx context.Context, username, password string) error {
	if !usernameForm.MatchString(username) || password == "" {
		return unauthorized("Vault refused the login")
	}
	user, err := a.p.passwordLogin(ctx, a.session.realm, username, password)
	if err != nil {
		return err
	}
	exchangeOf(ctx).setEntity(user.Token.EntityID)
	a.session.token, a.name, a.own = user.Token.Value, user.Username, user.Token.Revocable
	self, err := a.session.realm.vault.Self(ctx, user.Token.Value)
	if err != nil {
		return err
	}
	a.expires = self.Expires
	return nil
}

// Name implements ui.Account.
func (a *account) Name() string { return a.name }

// Realm implements ui.Account.
func (a *account) Realm() string { return a.session.realm.name }

// Tenant implements ui.Account.
func (a *account) Tenant() string { return a.tenant }

// Expires implements ui.Account.
func (a *account) Expires() time.Time { return a.expires }

// Do implements ui.Account.
func (a *account) Do(ctx context.Context, r vault.Request) (data json.RawMessage, err error) {
	err = a.call(ctx, func(ctx context.Context, token string) (err error) {
		data, err = a.session.realm.vault.Do(ctx, token, r)
		return err
	})
	return data, err
}

// Raw implements ui.Account.
func (a *account) Raw(ctx context.Context, at string) (raw []byte, err error) {
	err = a.call(ctx, func(ctx context.Context, token string) (err error) {
		raw, err = a.session.realm.vault.Raw(ctx, token, at)
		return err
	})
	return raw, err
}

// Capabilities implements ui.Account.
func (a *account) Capabilities(ctx context.Context, paths []string) (caps map[string][]string, err error) {
	err = a.call(ctx, func(ctx context.Context, token string) (err error) {
		caps, err = a.session.realm.vault.Capabilities(ctx, token, paths)
		return err
	})
	return caps, err
}

// call makes a call as the person. Someone who came with a JWT has the token of the
// cache, which is good for the JWT's claims and no others.
func (a *account) call(ctx context.Context, do func(ctx context.Context, token string) error) error {
	s := a.session
	var err error
	if s.jwt != "" {
		// A realm that a reload took away is still the session's: as for a request in flight.
		if !s.claim.expiry.IsZero() && !a.p.now().Before(s.claim.expiry) {
			return a.p.refusal(ctx, unauthorized("the token has expired"))
		}
		err = a.p.login(ctx, &s)
	}
	if err == nil {
		err = a.p.call(ctx, &s, do)
	}
	if err != nil {
		return a.p.refusal(ctx, err)
	}
	return nil
}

// End implements ui.Account. The token of a JWT is shared with the REST calls, and ends
// by itself; one that the person brought may be in use elsewhere.
func (a *account) End(ctx context.Context) error {
	if !a.own {
		return nil
	}
	if err := a.session.realm.vault.Revoke(ctx, a.session.token); err != nil {
		return a.p.refusal(ctx, err)
	}
	return nil
}

// refusal is an error as the page shows it. The log gets what the page does not.
func (p *Proxy) refusal(ctx context.Context, err error) *ui.Refusal {
	prob := asProblem(err, missing{codeNotFound, "Not found", "Vault has nothing here"})
	ex := exchangeOf(ctx)
	ex.setReason(prob.why())
	var ve *vault.Error
	if errors.As(err, &ve) && (ve.NotMounted() || ve.Status == http.StatusMethodNotAllowed) {
		// A path that this engine does not have, or an engine that is not there.
		return &ui.Refusal{Status: http.StatusNotFound, Reason: "Vault has nothing here"}
	}
	if prob.cause != nil && prob.status >= http.StatusInternalServerError {
		p.log.Error("request failed", "request_id", ex.id, "status", prob.status, "error", prob.cause)
	}
	return &ui.Refusal{Status: prob.status, Reason: prob.reason, RetryAfter: prob.retryAfter}
}

// page serves the administrators' page.
func (p *Proxy) page(w http.ResponseWriter, r *http.Request) error {
	p.ui.ServeHTTP(w, r)
	return nil
}
