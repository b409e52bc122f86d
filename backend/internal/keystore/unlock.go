// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"fmt"
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
// begun has done so. One that has ended since the caller found the KEK locked is enough. The
// caller holds no lock and no place in a pool. It fails with a [provider.Error] or
// [ErrTooManyWait].
func (s *Store) Unlock(ctx context.Context, p provider.Place, from provider.Origin) error {
	return s.unlock(ctx, p, from, false)
}

// unlock is Unlock. With anew the provider is asked though the KEK is open.
func (s *Store) unlock(ctx context.Context, p provider.Place, from provider.Origin, anew bool) error {
	g := s.gates.Get(p.Incarnation, kekKey(p))
	for {
		c, err := s.join(ctx, g, p, from, anew)
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
// failed lately, or the KEK is open and need not be opened anew.
func (s *Store) join(ctx context.Context, g *gate, p provider.Place, from provider.Origin, anew bool) (*gateCall, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.call == nil {
		if !anew && s.isOpen(kekKey(p)) {
			return nil, nil
		}
		if s.now().Before(g.until) && (g.failed != nil || !anew && s.isOpen(kekKey(p))) {
			return nil, g.failed
		}
		g.call = &gateCall{from: from, done: make(chan struct{})}
		go s.ask(context.WithoutCancel(ctx), g, g.call, p)
	}
	if g.call.waiting >= maxWaiting {
		return nil, ErrTooManyWait
	}
	g.call.waiting++
	return g.call, nil
}

// isOpen reports whether the KEK at a storage key may be used now.
func (s *Store) isOpen(key string) bool {
	o, cached, _ := s.keks.Get(key)
	return cached && !o.term.Over()
}

// renewInBackground asks for another lease of a KEK, unless it was left, before the one that
// runs has ended. Every use of a key beneath it comes here then, so it does not wait.
func (s *Store) renewInBackground(p provider.Place, o *openKEK) {
	if is, cached, _ := s.keks.Get(kekKey(p)); !cached || is != o {
		return
	}
	o.term.RenewFrom(s.now().Add(firstRefusal)) // until then no other caller tries, however this try ends
	g := s.gates.Get(p.Incarnation, kekKey(p))
	if !g.mu.TryLock() {
		return
	}
	defer g.mu.Unlock()
	if now := s.now(); g.call == nil && !now.Before(o.renewAt) && !now.Before(g.until) {
		g.call = &gateCall{from: provider.Background, done: make(chan struct{})}
		go s.ask(context.Background(), g, g.call, p)
	}
}

// ask makes a call, and tells the callers that wait. It serves many, so it does not end
// with the request that begins it: it ends with the provider's timeout.
func (s *Store) ask(ctx context.Context, g *gate, c *gateCall, p provider.Place) {
	asked := s.now()
	err := s.openByProvider(ctx, g, p, c.from, asked)
	g.mu.Lock()
	defer g.mu.Unlock()
	c.err = s.settle(g, kekKey(p), err)
	g.call = nil
	close(c.done)
}

// settle notes what came of a call, and returns what callers get. g.mu is held.
func (s *Store) settle(g *gate, key string, err error) error {
	switch {
	case err == nil:
		g.failures, g.until, g.failed = 0, time.Time{}, nil
		return nil
	case errors.Is(err, ErrGone), errors.Is(err, ErrDamaged):
		return nil // the caller that begins again is told, or finds its key under another KEK
	case errors.Is(err, provider.ErrBusy):
		return err
	case errors.Is(err, provider.ErrDenied):
		s.closeKEK(key)
	case errors.Is(err, provider.ErrUnavailable):
		if o, cached, _ := s.keks.Get(key); cached && o.keepForGrace(s.now()) {
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
func (s *Store) openByProvider(ctx context.Context, g *gate, p provider.Place, from provider.Origin, asked time.Time) error {
	at := kekKey(p)
	_, _, lease := s.keks.Get(at)
	w, err := s.readProtected(ctx, p)
	if err != nil || w == nil {
		return err
	}
	key, config, err := s.providers.Unwrap(ctx, w.Provider, from, p, w.Wrapped, w.Is(p.KEKID))
	if errors.Is(err, provider.ErrNotFound) || storage.IsDamaged(err) {
		return &provider.Error{Provider: w.Provider, Kind: provider.ErrUnavailable, Word: "its settings cannot be read: write them anew"}
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if o, cached, _ := s.keks.Get(at); cached && o.renew(config, asked) {
		clear(key)
		return nil
	}
	o, err := s.openProtected(p, w.Provider, key, config, asked) //nolint:contextcheck // renewals outlive the request
	if err != nil {
		return fmt.Errorf("opening a KEK: %w", err)
	}
	s.keks.Keep(at, o, lease)
	return nil
}

// closeKEK forgets a KEK that its provider denies, and every key that was opened beneath it.
func (s *Store) closeKEK(key string) {
	if o, cached, _ := s.keks.Get(key); cached {
		o.term.Finish()
		s.keks.Drop(key)
		s.keys.dropOver()
	}
}

// Await unlocks the KEK that an error of background work names, and reports whether err
// names one, and whether it is open now: an answer that comes after its lease opens nothing.
func (s *Store) Await(ctx context.Context, err error) (waited, opened bool) {
	var locked *LockedError
	if !errors.As(err, &locked) {
		return false, false
	}
	err = s.Unlock(ctx, locked.Place, provider.Background)
	return true, err == nil && s.isOpen(kekKey(locked.Place))
}

// WaitingFor returns the provider that work on keys waits for, empty if none: keys beneath
// KEKs of these incarnations' own, empty for the mount's.
func (s *Store) WaitingFor(incarnations ...string) string {
	for _, g := range s.gates.In(incarnations...) {
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
func (s *Store) LeaseUntil(p provider.Place) time.Time { return s.leaseUntil(kekKey(p)) }

func (s *Store) leaseUntil(key string) time.Time {
	o, cached, _ := s.keks.Get(key)
	if !cached || o.term.Over() {
		return time.Time{}
	}
	return o.term.End()
}

// LeaseLeft returns how much longer a key that was opened now may be used, at most most:
// the least that is left of any KEK that a provider has opened, of these incarnations' own,
// empty for the mount's.
func (s *Store) LeaseLeft(most time.Duration, incarnations ...string) time.Duration {
	for key := range s.gates.In(incarnations...) {
		if until := s.leaseUntil(key); !until.IsZero() {
			most = min(most, max(until.Sub(s.now()), 0))
		}
	}
	return most
}

// DropOver forgets the KEKs whose lease, and grace, have ended, and the keys opened
// beneath them, which none uses any more.
func (s *Store) DropOver() {
	dropped := false
	for key, g := range s.gates.All() {
		o, cached, _ := s.keks.Get(key)
		if !cached || o.provider == "" {
			continue
		}
		g.mu.Lock()
		if s.now().After(o.asked.Add(o.lease + o.grace)) {
			o.term.Finish()
			s.keks.Drop(key)
			dropped = true
		}
		g.mu.Unlock()
	}
	if dropped {
		s.keys.dropOver()
	}
}
