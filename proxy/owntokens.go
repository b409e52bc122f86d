// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/internal/throttle"
)

// knownTokens is how many Vault tokens are remembered that Vault has known.
const knownTokens = 10_000

// ownTokens guards Vault against tokens that callers bring and that it does not know:
// each is a call with its lines in the audit log. Only the call itself tells a good token
// from a worthless one. So calls with tokens that Vault has known before are not counted,
// and the others count for the client's address if Vault does not know the token. They
// are counted apart from logins: neither kind of refusal shuts out callers of the other.
type ownTokens struct {
	byAddress *throttle.Limiter
	known     *lru.Cache[tokenKey, struct{}]
	again     *refusals
}

// unknownTokens is how many calls of an address may come with unknown tokens, for each
// login of it that may be refused. A token is no guess at a password: what is bounded is
// what it costs Vault.
const unknownTokens = 10

func newOwnTokens(refusedPerAddress int, now func() time.Time) (*ownTokens, error) {
	byAddress, err := throttle.New(unknownTokens*refusedPerAddress, throttledKeys, now)
	if err != nil {
		return nil, err
	}
	again, err := newRefusals(nil, now)
	if err != nil {
		return nil, err
	}
	known, err := lru.New[tokenKey, struct{}](knownTokens)
	if err != nil {
		return nil, fmt.Errorf("known tokens: %w", err)
	}
	return &ownTokens{byAddress: byAddress, known: known, again: again}, nil
}

// remember says that Vault knows a token, as of one that it has just issued.
func (o *ownTokens) remember(token tokenKey) { o.known.Add(token, struct{}{}) }

// try makes a call with a caller's own token. It returns what do returns, or the problem
// of a caller who has come with too many tokens that Vault does not know. A call with a
// token that is not known goes on when its caller goes away: its outcome counts.
func (o *ownTokens) try(ctx context.Context, address string, token tokenKey, do func(context.Context) error) error {
	if _, known := o.known.Get(token); known {
		return o.judge(token, do(ctx))
	}
	if err := o.again.of(ctx, token); err != nil {
		return tooManyTokens(err)
	}
	if address == "" {
		return o.judge(token, do(context.WithoutCancel(ctx)))
	}
	done, err := o.byAddress.Begin(ctx, address)
	if err != nil {
		return tooManyTokens(waited(err))
	}
	unknown := false
	defer func() { done(unknown) }()
	err = o.judge(token, do(context.WithoutCancel(ctx)))
	unknown = isUnknown(err)
	return err
}

// judge remembers what the outcome of a call says of its token.
func (o *ownTokens) judge(token tokenKey, err error) error {
	switch {
	case isUnknown(err):
		o.known.Remove(token)
		o.again.add(token, err)
	case err == nil || isAnswer(asProblem(err, noTenant).status):
		o.remember(token)
	}
	return err
}

// isUnknown reports whether a call failed because Vault does not know its token.
func isUnknown(err error) bool {
	return err != nil && asProblem(err, noTenant).status == http.StatusUnauthorized
}

// isAnswer reports whether a refusal is one that Vault makes after it has looked at the
// token, which its quotas do not.
func isAnswer(status int) bool {
	return status < http.StatusInternalServerError && status != http.StatusTooManyRequests
}

// tooManyTokens tells a caller who has to wait so.
func tooManyTokens(err error) error {
	var refused *throttle.Refused
	if !errors.As(err, &refused) {
		return err
	}
	p := throttled(refused)
	p.reason = "too many tokens were not known to Vault; try again later"
	return p
}
