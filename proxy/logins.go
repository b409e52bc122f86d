// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/internal/throttle"
)

const (
	// loginsAtOnce is how many logins one Vault is asked for at the same time.
	loginsAtOnce = 64
	// throttledKeys is how many addresses and accounts with refused logins are kept.
	throttledKeys = 10_000
	// refusedFor is how long a JWT or a token that Vault has refused is refused without
	// asking. It is short: what was wrong may have been Vault's configuration.
	refusedFor = 2 * time.Second
)

// errBusy means that too many logins are waiting for Vault.
var errBusy = errors.New("too many logins are waiting for vault")

// logins guards Vault's auth methods: against guesses, and against more logins at
// once than Vault can take.
type logins struct {
	byAddress, byAccount *throttle.Limiter
	again                *refusals

	mu    sync.Mutex
	slots map[string]chan struct{} // by server; as many as there are in the configuration
}

func newLogins(perAddress, perAccount int, now func() time.Time) (*logins, error) {
	l := &logins{slots: map[string]chan struct{}{}}
	var errs [3]error
	l.byAddress, errs[0] = throttle.New(perAddress, throttledKeys, now)
	l.byAccount, errs[1] = throttle.New(perAccount, throttledKeys, now)
	l.again, errs[2] = newRefusals(l.byAccount, now)
	return l, errors.Join(errs[:]...)
}

// attempt makes a login that counts for an address, and where it has a name for an
// account. It returns what do returns, a *throttle.Refused, or errBusy.
func (l *logins) attempt(ctx context.Context, server, address, account string, do func() error) (err error) {
	failed := false
	for _, counted := range []struct {
		by  *throttle.Limiter
		key string
	}{{l.byAccount, account}, {l.byAddress, address}} {
		if counted.key == "" {
			continue
		}
		done, err := counted.by.Begin(ctx, counted.key)
		if err != nil {
			return waited(err)
		}
		defer func() { done(failed) }()
	}
	leave, err := l.enter(ctx, server)
	if err != nil {
		return err
	}
	defer leave()
	err = do()
	failed = err != nil && loginProblem(err).status == http.StatusUnauthorized
	return err
}

// waited tells a wait that took too long from a refusal.
func waited(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errBusy
	}
	return err
}

// enter takes one of the server's places.
func (l *logins) enter(ctx context.Context, server string) (leave func(), err error) {
	slots := l.slotsOf(server)
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

func (l *logins) slotsOf(server string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	slots, ok := l.slots[server]
	if !ok {
		slots = make(chan struct{}, loginsAtOnce)
		l.slots[server] = slots
	}
	return slots
}

// keepServers forgets the servers that are in the configuration no more.
func (l *logins) keepServers(table realms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for server := range l.slots {
		if !table.has(server) {
			delete(l.slots, server)
		}
	}
}

// exchange makes a login with a JWT. One that has just been refused is refused
// again without asking Vault; that counts for the JWT and not for the address, so
// that a caller who goes on with it for a while does not shut out its neighbours.
func (l *logins) exchange(ctx context.Context, server, address string, jwt tokenKey, do func() error) error {
	if err := l.again.of(ctx, jwt); err != nil {
		return err
	}
	err := l.attempt(ctx, server, address, "", do)
	if err != nil && loginProblem(err).status == http.StatusUnauthorized {
		l.again.add(jwt, err)
	}
	return err
}

// accountKey is what logins with a password are counted under. Vault takes a
// username in any case.
func accountKey(r *realm, username string) string {
	return r.key() + "\x00" + strings.ToLower(username)
}
