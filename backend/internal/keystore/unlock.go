// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const (
	// maxWaiting bounds the callers that wait for one KEK.
	maxWaiting = 64
	// A failed call answers all callers for firstRefusal, after further failures for longer,
	// up to maxRefusal.
	firstRefusal = time.Second
	maxRefusal   = 10 * time.Second
)

// ErrTooManyWait reports a KEK for which many callers wait already.
var ErrTooManyWait = errors.New("too many requests wait for a key provider")

// gates has one gate for each KEK under a provider that was asked for.
type gates struct {
	mu sync.Mutex
	of map[string]*gate
}

func (g *gates) get(kekID string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of[kekID] == nil {
		g.of[kekID] = &gate{}
	}
	return g.of[kekID]
}

// all returns the gates, by KEK. Their locks are taken without that of gates.
func (g *gates) all() map[string]*gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.of)
}

func (g *gates) drop(kekID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, kekID)
}

// gate makes one call to the provider of a KEK, however many callers wait for it.
type gate struct {
	mu       sync.Mutex
	call     *gateCall
	failures int       // in a row
	until    time.Time // when the provider is asked again, after a failure
	failed   error     // what callers get until then; nil: the KEK may be used
}

type gateCall struct {
	from    provider.Origin
	waiting int
	done    chan struct{}
	err     error // once done
}

// Unlock has the provider of a KEK open it, or waits until a call that another caller has
// begun has done so. The caller holds no lock and no place in a pool. It fails with a
// [provider.Error] or [ErrTooManyWait].
func (s *Store) Unlock(ctx context.Context, kekID string, from provider.Origin) error {
	g := s.gates.get(kekID)
	for {
		c, err := s.join(ctx, g, kekID, from)
		if c == nil {
			return err
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if errors.Is(c.err, provider.ErrBusy) && from == provider.Request && c.from == provider.Background {
			continue // the places of background work were taken: those of requests may not be
		}
		return c.err
	}
}

// join returns the call to wait for. It returns none, and what callers get, if a call has
// failed lately.
func (s *Store) join(ctx context.Context, g *gate, kekID string, from provider.Origin) (*gateCall, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.call == nil {
		if s.now().Before(g.until) && (g.failed != nil || s.isOpen(kekID)) {
			return nil, g.failed
		}
		g.call = &gateCall{from: from, done: make(chan struct{})}
		go s.ask(context.WithoutCancel(ctx), g, g.call, kekID)
	}
	if g.call.waiting >= maxWaiting {
		return nil, ErrTooManyWait
	}
	g.call.waiting++
	return g.call, nil
}

// isOpen reports whether a KEK may be used now.
func (s *Store) isOpen(kekID string) bool {
	o, cached, _ := s.keks.Get(kekPrefix + kekID)
	return cached && !o.term.Over()
}

// renewInBackground asks for another lease before the one that runs has ended.
func (s *Store) renewInBackground(ctx context.Context, o *openKEK) {
	g := s.gates.get(o.ID)
	if !g.mu.TryLock() {
		return
	}
	now := s.now()
	if g.call != nil || now.Before(o.renewAt) || now.Before(g.until) {
		g.mu.Unlock()
		return
	}
	g.call = &gateCall{from: provider.Background, done: make(chan struct{})}
	call := g.call
	g.mu.Unlock()
	go s.ask(context.WithoutCancel(ctx), g, call, o.ID)
}

// ask makes a call, and tells the callers that wait. It serves many, so it does not end
// with the request that begins it: it ends with the provider's timeout.
func (s *Store) ask(ctx context.Context, g *gate, c *gateCall, kekID string) {
	asked := s.now()
	err := s.openByProvider(ctx, g, kekID, c.from, asked)
	g.mu.Lock()
	defer g.mu.Unlock()
	c.err = s.settle(g, kekID, err)
	g.call = nil
	close(c.done)
}

// settle notes what came of a call, and returns what callers get. g.mu is held.
func (s *Store) settle(g *gate, kekID string, err error) error {
	switch {
	case err == nil:
		g.failures, g.until, g.failed = 0, time.Time{}, nil
		return nil
	case errors.Is(err, ErrGone), errors.Is(err, ErrDamaged):
		return nil // the caller that begins again is told, or finds its key under another KEK
	case errors.Is(err, provider.ErrBusy):
		return err
	case errors.Is(err, provider.ErrDenied):
		s.closeKEK(kekID)
	case errors.Is(err, provider.ErrUnavailable):
		if o, cached, _ := s.keks.Get(kekPrefix + kekID); cached && o.keepForGrace(s.now()) {
			err = nil
		}
	default:
		return err // of storage
	}
	wait := min(firstRefusal<<min(g.failures, 8), maxRefusal)
	g.failures++
	g.until, g.failed = s.now().Add(wait), err
	return err
}

// openByProvider reads a KEK and has its provider open it.
func (s *Store) openByProvider(ctx context.Context, g *gate, kekID string, from provider.Origin, asked time.Time) error {
	_, _, lease := s.keks.Get(kekPrefix + kekID)
	p, err := s.readProtected(ctx, kekID)
	if err != nil || p == nil {
		return err
	}
	key, config, err := s.providers.Unwrap(ctx, p.Provider, from, provider.Place{KEKID: kekID}, p.Wrapped, p.is(kekID))
	if errors.Is(err, provider.ErrNotFound) || storage.IsDamaged(err) {
		return &provider.Error{Provider: p.Provider, Kind: provider.ErrUnavailable, Word: "its settings cannot be read: write them anew"}
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if o, cached, _ := s.keks.Get(kekPrefix + kekID); cached && o.renew(config, asked) {
		clear(key)
		return nil
	}
	o, err := s.openProtected(kekID, p.Provider, key, config, asked)
	if err != nil {
		return fmt.Errorf("opening a KEK: %w", err)
	}
	s.keks.Keep(kekPrefix+kekID, o, lease)
	return nil
}

// closeKEK forgets a KEK that its provider denies, and every key that was opened beneath it.
func (s *Store) closeKEK(kekID string) {
	if o, cached, _ := s.keks.Get(kekPrefix + kekID); cached {
		o.term.finish()
		s.keks.Drop(kekPrefix + kekID)
		s.keys.dropOver()
	}
}

// Await unlocks the KEK that an error of background work names, and reports whether err
// names one. What comes of it shows when the work is begun again.
func (s *Store) Await(ctx context.Context, err error) (waited bool) {
	var locked *LockedError
	if !errors.As(err, &locked) {
		return false
	}
	_ = s.Unlock(ctx, locked.KEKID, provider.Background)
	return true
}

// WaitingFor returns the provider that work on the mount's keys waits for, empty if none.
func (s *Store) WaitingFor() string {
	for _, g := range s.gates.all() {
		if name := g.waitsFor(); name != "" {
			return name
		}
	}
	return ""
}

func (g *gate) waitsFor() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var failed *provider.Error
	if errors.As(g.failed, &failed) {
		return failed.Provider
	}
	return ""
}

// LeaseUntil returns until when an opened KEK may be used, zero if it is not open, or lies
// in Vault's storage.
func (s *Store) LeaseUntil(kekID string) time.Time {
	o, cached, _ := s.keks.Get(kekPrefix + kekID)
	if !cached || o.term.Over() {
		return time.Time{}
	}
	return o.term.until()
}

// LeaseLeft returns how much longer a key that was opened now may be used, at most most:
// the least that is left of any KEK that a provider has opened.
func (s *Store) LeaseLeft(most time.Duration) time.Duration {
	for id := range s.gates.all() {
		if until := s.LeaseUntil(id); !until.IsZero() {
			most = min(most, max(until.Sub(s.now()), 0))
		}
	}
	return most
}

// DropOver forgets the KEKs whose lease, and grace, have ended, and the keys opened
// beneath them, which none uses any more.
func (s *Store) DropOver() {
	dropped := false
	for id, g := range s.gates.all() {
		o, cached, _ := s.keks.Get(kekPrefix + id)
		if !cached || o.provider == "" {
			continue
		}
		g.mu.Lock()
		if s.now().After(o.asked.Add(o.lease + o.grace)) {
			o.term.finish()
			s.keks.Drop(kekPrefix + id)
			dropped = true
		}
		g.mu.Unlock()
	}
	if dropped {
		s.keys.dropOver()
	}
}
