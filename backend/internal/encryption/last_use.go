// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"errors"
	"maps"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	// knownUses bounds the versions whose latest day of use is in memory: some 10 MB. One
	// that is forgotten costs a read of what is stored.
	knownUses = 1 << 16
	// maxUnwritten bounds the tenants whose use is not written yet. Beyond it a use is
	// noted when the key is used next.
	maxUnwritten = 1 << 16
	// maxFailedWrites ends a round of writes: then it is storage that fails.
	maxFailedWrites = 3
)

// uses notes on which day each version was last used for callers. A request notes it in
// memory; [Engine.WriteUses] writes it behind, so that a version costs at most one write
// a day and no request waits for one. What a crash takes with it is noted again at the
// next use.
type uses struct {
	known *lru.Cache[string, tenant.Day] // by key ID, which is random

	mu        sync.Mutex
	unwritten map[string]tenant.ExternalUse // by tenant
}

func newUses() *uses {
	known, err := lru.New[string, tenant.Day](knownUses)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &uses{known: known, unwritten: map[string]tenant.ExternalUse{}}
}

// note notes a use of a version's external key.
func (u *uses) note(tenantID, keyID string, day tenant.Day) {
	if last, known := u.known.Get(keyID); known && last >= day {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	days := u.unwritten[tenantID]
	if days == nil {
		if len(u.unwritten) >= maxUnwritten {
			return
		}
		days = tenant.ExternalUse{}
		u.unwritten[tenantID] = days
	}
	days[keyID] = max(days[keyID], day)
	u.known.Add(keyID, day)
}

// take returns what is to be written, which is then the caller's to write.
func (u *uses) take() map[string]tenant.ExternalUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.unwritten
	u.unwritten = map[string]tenant.ExternalUse{}
	return taken
}

// putBack keeps what could not be written for the next round.
func (u *uses) putBack(tenantID string, days tenant.ExternalUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if later := u.unwritten[tenantID]; later != nil {
		merge(days, later)
	}
	u.unwritten[tenantID] = days
}

// merge notes in days what more tells, if that is later.
func merge(days, more tenant.ExternalUse) {
	for keyID, day := range more {
		days[keyID] = max(days[keyID], day)
	}
}

// noteUse notes a use of a version of t. It never fails and never waits for storage.
func (e *Engine) noteUse(t *tenant.Record, keyID string) {
	e.uses.note(t.ID, keyID, tenant.DayOf(e.now()))
}

// used notes the uses of one request, each version's once.
type used struct {
	engine *Engine
	tenant *tenant.Record
	latest int // the version noted last: a request's texts are mostly of one
}

func (u *used) note(v *keyring.Version) {
	if v.Number != u.latest {
		u.latest = v.Number
		u.engine.noteUse(u.tenant, v.KeyID)
	}
}

// LastUse returns the day on which each version of t was last used for callers, by key
// ID. If what is stored cannot be read, it returns what is known in memory, and the error.
func (e *Engine) LastUse(ctx context.Context, t *tenant.Record) (map[string]tenant.Day, error) {
	used, err := e.tenants.ExternalUse(ctx, t)
	for i := range t.Keys.Versions {
		keyID := t.Keys.Versions[i].KeyID
		if day, known := e.uses.known.Peek(keyID); known {
			used[keyID] = max(used[keyID], day)
		}
	}
	return used, err
}

// WriteUses writes, in the background, what requests have noted since the last time.
func (e *Engine) WriteUses(r *jobs.Runner) {
	r.RunFunc("external-use", func(ctx context.Context) {
		if err := e.writeUses(ctx); jobs.ReadOnly(err) {
			r.NoteReadOnly(err)
		} else if err != nil && ctx.Err() == nil {
			e.log().Warn("the last use of external keys could not be noted, it is tried again at the next tick", "error", err)
		}
	}, nil)
}

// writeUses writes each tenant's use. One that fails waits for the next time, and keeps
// no other waiting, unless storage fails altogether.
func (e *Engine) writeUses(ctx context.Context) error {
	var errs []error
	for tenantID, days := range e.uses.take() {
		if ctx.Err() != nil || len(errs) == maxFailedWrites {
			e.uses.putBack(tenantID, days)
			continue
		}
		if err := e.writeUse(ctx, tenantID, days); err != nil {
			e.uses.putBack(tenantID, days)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeUse writes what was noted for one tenant, if it is news. Versions that the record
// has forgotten are left out. It holds the tenant's lock shared, as a request does that
// writes an item: a tenant that is shredded afterwards has the entry deleted.
func (e *Engine) writeUse(ctx context.Context, tenantID string, days tenant.ExternalUse) error {
	defer e.tenants.Shared(tenantID)()
	t, err := e.tenants.Read(ctx, tenantID)
	if errors.Is(err, tenant.ErrNotFound) || err == nil && t.State == tenant.Shredding {
		return nil
	}
	if err != nil {
		return err
	}
	stored, err := e.tenants.ExternalUse(ctx, t)
	if err != nil && !storage.IsDamaged(err) {
		return err // what is damaged is written anew, with what is known
	}
	next := tenant.ExternalUse{}
	for i := range t.Keys.Versions {
		keyID := t.Keys.Versions[i].KeyID
		if day := max(stored[keyID], days[keyID]); day != "" {
			next[keyID] = day
		}
	}
	if maps.Equal(next, stored) {
		return nil
	}
	return e.tenants.PutExternalUse(ctx, t, next)
}
