// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package deletion

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// shredWithin bounds how long a delete without a window waits for the end. Shredding a
// tenant of a million items takes longer, and goes on in the background.
const shredWithin = 10 * time.Second

// shredding is a tenant that is being shredded at the wish of requests, all of which wait
// for the same end.
type shredding struct {
	done     chan struct{}
	keysGone atomic.Bool
	failed   error // set before done is closed
}

// shredNow shreds a tenant in the background and waits up to shredWithin for the end.
// Without an error the keys are gone. If it fails, the schedule repeats it, but after
// [ErrRestored]: then a restore was first.
func (e *Engine) shredNow(ctx context.Context, t *tenant.Record) error {
	s := e.startShredding(t)
	if s == nil {
		return ErrKeysLeft // the engine stops
	}
	timer := time.NewTimer(shredWithin)
	defer timer.Stop()
	select {
	case <-s.done:
		switch {
		case s.keysGone.Load():
			return nil
		case s.failed != nil:
			return s.failed
		}
		return e.outcome(ctx, t)
	case <-timer.C:
	case <-ctx.Done():
	}
	if !s.keysGone.Load() {
		return ErrKeysLeft
	}
	return nil
}

// startShredding begins to shred a tenant, or has that looked at once more for which other
// requests wait, and joins them. It returns nil if the engine stops.
func (e *Engine) startShredding(t *tenant.Record) *shredding {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &shredding{done: make(chan struct{})}
	// By incarnation: a tenant that was created anew is not that whose end others wait for.
	begun := e.jobs.RunFunc("shred/"+t.Incarnation, func(ctx context.Context) {
		if s.failed = e.shred(ctx, t.ID, func() { s.keysGone.Store(true) }); s.failed != nil {
			e.log.Warn("shredding failed, the schedule retries it", "tenant_id", t.ID, "error", s.failed)
		}
	}, func() {
		e.mu.Lock()
		if e.shredding[t.Incarnation] == s {
			delete(e.shredding, t.Incarnation)
		}
		e.mu.Unlock()
		close(s.done)
	})
	if begun {
		e.shredding[t.Incarnation] = s
	}
	return e.shredding[t.Incarnation]
}

// outcome says what has become of a tenant that is not to be shredded any more.
func (e *Engine) outcome(ctx context.Context, t *tenant.Record) error {
	now, err := e.tenants.Read(ctx, t.ID)
	if errors.Is(err, tenant.ErrNotFound) || err == nil && now.Incarnation != t.Incarnation {
		return nil // another try has shredded it
	}
	if err != nil {
		return err
	}
	if now.State != tenant.Active {
		return ErrKeysLeft
	}
	return ErrRestored
}
