// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Run carries out one rotation in its present phase. Its methods are safe for
// concurrent use, Move in particular.
type Run struct {
	e      *Engine
	intent intents.Intent
	phase  tenant.Phase
	target int // the version that pages move to

	began time.Time

	mu            sync.Mutex
	counted       bool
	rotatedBefore item.Counts // what had been rotated when the run began, once counted
	// seen are the pages that this run has put, or found, on the target version;
	// after a cancel, put only. They cannot leave it: every write since the phase
	// began uses that version.
	seen     map[page.Prefix]itemstore.Moved
	failures map[page.Prefix]tenant.Failure
	failed   int // items on those pages, at least one each
	// pagesLost is how many pages were given up before, once account has looked.
	pagesLost int
	// strayed are pages that were listed and were not current when their turn came. That
	// happens to a page once, when it splits.
	strayed map[page.Prefix]bool
	movedAt time.Time // when a page was last moved
	notedAt time.Time // when progress was last stored

	ended       *tenant.Rotation // the rotation as it ended
	endedRecord *tenant.Record   // the record that was put with that

	pagesListed int       // how many pages the latest List showed, or memory before the first
	listedAt    time.Time // when the latest List was made
}

// Ended returns the rotation as it ended, once Finish says that it is done.
func (r *Run) Ended() *tenant.Rotation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// newRun returns a run for t's unfinished rotation, whose intent is the one that its
// record names: a failed rotation that is tried again has another.
func (e *Engine) newRun(t *tenant.Record, intent intents.Intent) *Run {
	intent.ID = t.Rotation.IntentID
	now := e.now()
	r := &Run{
		e: e, intent: intent, phase: t.Rotation.Phase, target: target(t.Rotation),
		began: now, movedAt: now, notedAt: now,
		seen: map[page.Prefix]itemstore.Moved{}, failures: map[page.Prefix]tenant.Failure{}, strayed: map[page.Prefix]bool{},
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live[intent.RotationID] = r
	return r
}

// target is the version that a rotation moves pages to.
func target(r *tenant.Rotation) int {
	if r.Phase == tenant.RollingBack {
		return r.From
	}
	return r.To
}

// tenant reads the record and makes sure that it still says what the run works
// for. The caller holds the tenant's lock.
func (r *Run) tenant(ctx context.Context) (*tenant.Record, error) {
	t, err := r.e.tenants.Read(ctx, r.intent.TenantID)
	if err != nil && !errors.Is(err, tenant.ErrNotFound) {
		return nil, err
	}
	return r.check(t)
}

// check returns the record if it says what the run works for, else errRecordChanged.
func (r *Run) check(t *tenant.Record) (*tenant.Record, error) {
	if t == nil || t.Incarnation != r.intent.Incarnation || t.Rotation == nil ||
		t.Rotation.ID != r.intent.RotationID || t.Rotation.Phase != r.phase || t.Rotation.Paused {
		return nil, errRecordChanged
	}
	return t, nil
}

// OpenKeys opens the keys that the pages will need.
func (r *Run) OpenKeys(ctx context.Context) error {
	t, err := r.read(ctx)
	if err != nil {
		return err
	}
	for _, n := range []int{t.Rotation.From, t.Rotation.To} {
		if v, err := t.Keys.Usable(n); err == nil {
			r.e.keys.OpenPageKeys(ctx, t.Owner(), v)
		}
	}
	return nil
}

// Pending returns the pages that the run has not seen on the target version. The first
// time it takes those that are in memory, if there are any, and else it lists them afresh.
// If none are left, Finish is called next.
func (r *Run) Pending(ctx context.Context) ([]itemstore.PageRef, error) {
	t, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	if first := r.first(t); len(first) > 0 {
		return first, nil
	}
	config, err := r.e.settings.Config(ctx)
	if err != nil {
		return nil, err
	}
	return r.unseen(ctx, t, config.RetiredKeyRetention > 0)
}

// first returns what is in memory of the pages, if none have been looked at yet.
func (r *Run) first(t *tenant.Record) (known []itemstore.PageRef) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pagesListed == 0 {
		known = r.e.items.KnownPages(t)
		r.pagesListed = len(known)
	}
	return known
}

// unseen lists the pages afresh and returns those that still have to be moved or looked at:
// see confirmed. keyStays says that the old key is kept for a retention, so that every page
// is read once more before it is destroyed. If the pages cannot be listed, that is noted
// as a failure and no page is pending: settle then ends the rotation as failed.
func (r *Run) unseen(ctx context.Context, t *tenant.Record, keyStays bool) ([]itemstore.PageRef, error) {
	refs, err := r.e.items.ListPages(ctx, t)
	if storage.IsDamaged(err) {
		r.failUnlisted(err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pagesListed, r.listedAt = len(refs), r.e.now()
	var pending []itemstore.PageRef
	for _, ref := range refs {
		_, failed := r.failures[ref.Prefix]
		if ref.Leftover || !failed && !r.confirmed(ref.Prefix, keyStays) {
			pending = append(pending, ref)
		}
	}
	return pending, nil
}

// smallTenant is the number of pages up to which a List is so fast that Finish makes it under
// the tenant's exclusive lock at once, without one before it.
const smallTenant = 64

func (r *Run) isSmall() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pagesListed <= smallTenant
}

// confirmed reports whether a page is known to be on the target version. A successful Put
// is enough if the old key is kept for a retention, because every page is read again before it
// is destroyed, and after a cancel. Where the key is destroyed at once, the page must have
// been read back after the Put.
func (r *Run) confirmed(p page.Prefix, keyStays bool) bool {
	how, seen := r.seen[p]
	return seen && (how == itemstore.Current || keyStays || r.phase == tenant.RollingBack)
}

// Move moves one page. It holds the tenant's lock shared from reading the
// record until the page is written, so that no change of phase comes between. A
// page that does not open is noted as a failure, and is no error.
func (r *Run) Move(ctx context.Context, ref itemstore.PageRef) error {
	defer r.e.tenants.Shared(r.intent.TenantID)()
	t, err := r.tenant(ctx)
	if err != nil {
		return err
	}
	back := r.phase == tenant.RollingBack
	moved, err := r.e.items.Move(ctx, t, ref, r.target, back)
	if errors.Is(err, page.ErrDamaged) {
		r.fail(ref.Prefix, err, max(1, r.e.items.PageItems(ctx, t, ref.Prefix)))
		return nil
	}
	if err != nil {
		return err
	}
	if !r.note(ref, moved, back) {
		r.e.items.ForgetPages(t)
		return storage.ErrContended
	}
	return nil
}

// note keeps the result of a move. On the way back, only a write that succeeded after
// the cancel counts. It returns false for a page that is listed again and again but is
// not current: then what is cached of the pages is wrong.
func (r *Run) note(ref itemstore.PageRef, moved itemstore.Moved, back bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.movedAt = r.e.now()
	switch {
	case ref.Leftover:
	case moved == itemstore.Superseded:
		again := r.strayed[ref.Prefix]
		r.strayed[ref.Prefix] = true
		return !again
	case moved == itemstore.Rewritten || !back:
		r.seen[ref.Prefix] = moved
	}
	return true
}

func (r *Run) fail(p page.Prefix, err error, items int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[p] = tenant.Failure{Page: p.String(), Reason: err.Error()}
	r.failed += items
}

// Count makes sure that the number of items on each version is known, for the accounts
// and for callers that ask. The first time it reads every page.
func (r *Run) Count(ctx context.Context) error {
	t, err := r.read(ctx)
	if err != nil {
		return err
	}
	usage, err := r.e.items.Usage(ctx, t)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && !r.counted {
		r.counted, r.rotatedBefore = true, rotatedBy(usage, t.Rotation, r.phase == tenant.RollingBack)
	}
	return err
}

// read reads the record under the tenant's shared lock.
func (r *Run) read(ctx context.Context) (*tenant.Record, error) {
	defer r.e.tenants.Shared(r.intent.TenantID)()
	return r.tenant(ctx)
}

// noteEvery is the shortest time between two Puts of progress.
const noteEvery = time.Second

// NoteProgress stores how far the rotation is, at most once a second, if that is known.
func (r *Run) NoteProgress(ctx context.Context) error {
	now := r.e.now()
	r.mu.Lock()
	due := now.Sub(r.notedAt) >= noteEvery
	if due {
		r.notedAt = now
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	// The lock is held over the write, so that it does not come after the tenant
	// has been shredded.
	defer r.e.tenants.Shared(r.intent.TenantID)()
	t, err := r.tenant(ctx)
	if err != nil {
		return err
	}
	usage, known := r.e.items.KnownUsage(t)
	if !known {
		return nil
	}
	return r.e.tenants.PutProgress(ctx, t, tenant.Progress{
		RotationID: r.intent.RotationID, At: now,
		Rotated: rotatedBy(usage, t.Rotation, r.phase == tenant.RollingBack),
	})
}
