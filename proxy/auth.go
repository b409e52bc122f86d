// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// credential is what a caller presents: a JWT to exchange, or a Vault token.
type credential struct {
	jwt   string
	token string
}

// bearer reads the first family's header: a JWT, nothing else.
func bearer(h http.Header) (credential, *problem) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return credential{}, unauthorized("an Authorization header with a bearer token is required, once")
	}
	scheme, jwt, _ := strings.Cut(values[0], " ")
	if jwt = strings.TrimSpace(jwt); !strings.EqualFold(scheme, "Bearer") || jwt == "" {
		return credential{}, unauthorized("the Authorization header must be: Bearer <JWT>")
	}
	return credential{jwt: jwt}, nil
}

// sessionID reads the second family's header: a JWT or a Vault token.
func sessionID(h http.Header) (credential, *problem) {
	values := h.Values("INFA-SESSION-ID")
	if len(values) != 1 || values[0] == "" {
		return credential{}, unauthorized("an INFA-SESSION-ID header is required, once")
	}
	id := values[0]
	switch {
	case jwtForm.MatchString(id) && !vaultToken.MatchString(id):
		return credential{jwt: id}, nil
	case len(id) <= maxToken && tokenForm.MatchString(id):
		return credential{token: id}, nil
	default:
		return credential{}, unauthorized("the INFA-SESSION-ID header is neither a JWT nor a Vault token")
	}
}

// session is a caller whose login, if one was needed, has succeeded.
type session struct {
	realm *realm
	token string
	// The rest is there for JWTs, to log in again.
	jwt   string
	claim *claims
}

// authenticate finds out who is asking. A JWT is exchanged before anything else
// of the request is looked at; a Vault token shows itself in the call it is for.
func (p *Proxy) authenticate(r *http.Request) (*session, error) {
	realm, prob := p.realmOf(r.Header)
	if prob != nil {
		return nil, prob
	}
	cred, prob := familyOf(r.URL.Path).credential(r.Header)
	if prob != nil {
		return nil, prob
	}
	if cred.jwt == "" {
		return &session{realm: realm, token: cred.token}, nil
	}
	claim, prob := parseJWT(cred.jwt, p.now(), realm.rolePrefix)
	if prob != nil {
		return nil, prob
	}
	s := &session{jwt: cred.jwt, realm: realm, claim: claim}
	return s, p.login(r.Context(), s)
}

// login fills in the session's token, from the cache where it has one.
func (p *Proxy) login(ctx context.Context, s *session) error {
	token, err := p.tokens.get(ctx, loginOf{
		realm: s.realm.key(), jwt: s.jwt, server: s.realm.vault.Server(), claims: s.claim.print(s.realm.userClaim), expiry: s.claim.expiry,
		login: func(ctx context.Context, entered func(string)) (vault.Token, error) {
			return p.exchange(ctx, s, entered)
		},
	})
	if err != nil {
		return loginProblem(err)
	}
	s.token = token.Value
	exchangeOf(ctx).setEntity(token.EntityID)
	return nil
}

// exchange logs in at Vault, and makes sure that Vault took the caller for whom the
// JWT names.
func (p *Proxy) exchange(ctx context.Context, s *session, entered func(entityID string)) (token vault.Token, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	start := p.now()
	defer func() { p.metrics.login(err, p.now().Sub(start)) }()
	key := keyOf(s.realm.key(), s.jwt)
	err = p.logins.exchange(ctx, s.realm.vault.Server(), exchangeOf(ctx).addressKey, key, func() error {
		var err error
		if token, err = s.realm.vault.Login(ctx, s.jwt); err != nil {
			return err
		}
		entered(token.EntityID)
		err = verify(ctx, s.realm, token, s.claim)
		if err != nil && token.Revocable {
			// It would end by itself; and the answer is the same if it stays.
			_ = s.realm.vault.Revoke(ctx, token.Value)
		}
		return err
	})
	return token, err
}

// call makes a call with the session's token. Where Vault no longer knows a
// token that a JWT was exchanged for (it was revoked, or Vault lost its memory),
// it logs in once more; Vault has not run a request that it refused that way.
func (p *Proxy) call(ctx context.Context, s *session, do func(ctx context.Context, token string) error) error {
	if s.jwt == "" {
		return p.withOwn(ctx, s, func(ctx context.Context) error { return p.settle(ctx, s, do(ctx, s.token)) })
	}
	err := do(ctx, s.token)
	if !vault.IsInvalidToken(err) {
		return err
	}
	p.tokens.drop(s.realm.key(), s.jwt, s.token)
	if err := p.login(ctx, s); err != nil {
		return err
	}
	if err = do(ctx, s.token); vault.IsBareDenial(err) {
		return forbidden(err) // a token that was issued just now is known
	}
	return err
}

// withOwn makes a call with a token that the caller has brought.
func (p *Proxy) withOwn(ctx context.Context, s *session, do func(context.Context) error) error {
	return p.own.try(ctx, exchangeOf(ctx).addressKey, keyOf(s.realm.key(), s.token), do)
}

// settle finds out what a bare "permission denied" means for a caller's own token.
func (p *Proxy) settle(ctx context.Context, s *session, err error) error {
	if !vault.IsBareDenial(err) {
		return err
	}
	checked := s.realm.vault.CheckToken(ctx, s.token)
	switch {
	case vault.IsInvalidToken(checked):
		return err
	case checked != nil && !isAnswer(asProblem(checked, noTenant).status):
		return checked // Vault has not said whether it knows the token
	}
	return forbidden(err)
}

// refuse returns the problem of a malformed request, or a 401 where it came with
// a Vault token that Vault does not know: who is asking is settled first. Asking
// only here spares a well-formed request the extra call.
func (p *Proxy) refuse(ctx context.Context, s *session, prob *problem) error {
	if s.jwt != "" {
		return prob
	}
	err := p.withOwn(ctx, s, func(ctx context.Context) error { return s.realm.vault.CheckToken(ctx, s.token) })
	var ve *vault.Error
	if err == nil || (errors.As(err, &ve) && ve.Status < 500 && !ve.InvalidToken()) {
		return prob
	}
	return err
}

// wait pauses before a repeated call, or not at all once the caller is gone.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
