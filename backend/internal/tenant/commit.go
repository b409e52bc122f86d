// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/helper/jsonutil"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
)

// ErrUnchanged is returned by a change that leaves the record as it is.
var ErrUnchanged = errors.New("nothing to change")

// Held is a tenant whose lock is held exclusively. A tenant's record is changed only
// through it.
type Held struct {
	store  *Store
	id     string
	record *Record // nil: there is none
}

// Hold takes the tenant's lock exclusively, reads its record under it, and calls f. A
// missing tenant is no error.
func (s *Store) Hold(ctx context.Context, tenantID string, f func(*Held) error) error {
	defer s.Exclusive(tenantID)()
	t, err := s.Read(ctx, tenantID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return f(&Held{store: s, id: tenantID, record: t})
}

// Update changes the record of a tenant: it holds the tenant's lock exclusively, passes
// a copy of the record to change, and stores that. It returns the record as it is then.
// An error of change refuses the change; [ErrUnchanged] leaves the record as it is and
// is no error. It fails with [ErrNotFound]. After any other error it is unknown whether
// the change was made.
func (s *Store) Update(ctx context.Context, tenantID string, change func(*Record) error) (t *Record, err error) {
	err = s.Hold(ctx, tenantID, func(h *Held) error {
		t, err = h.Update(ctx, change)
		return err
	})
	return t, err
}

// Record is the tenant's record, nil if there is none. It is shared: to change it,
// change a clone.
func (h *Held) Record() *Record { return h.record }

// Active is the record of a tenant that can be used. It fails with [ErrNotFound]
// or [ErrDeleting].
func (h *Held) Active() (*Record, error) {
	if h.record == nil {
		return nil, ErrNotFound
	}
	return h.record, h.record.Usable()
}

// Update is [Store.Update] of a tenant that is held.
func (h *Held) Update(ctx context.Context, change func(*Record) error) (*Record, error) {
	if h.record == nil {
		return nil, ErrNotFound
	}
	next := h.record.Clone()
	if err := change(next); errors.Is(err, ErrUnchanged) {
		// A change whose error hid its effect may show only now, and is acknowledged.
		h.store.watch(h.id, h.record, nil)
		h.putUntoldAsRead(ctx)
		return h.record, nil
	} else if err != nil {
		return nil, err
	}
	return next, h.Put(ctx, next)
}

// Put stores the next record. After an error it is unknown whether the change was made;
// repeating it settles that.
func (h *Held) Put(ctx context.Context, next *Record) error {
	var known int64
	if h.record != nil && h.record.Incarnation == next.Incarnation {
		known = h.record.EvidenceSeq
	}
	if err := h.store.keepPeople(ctx, h.record); err != nil {
		return err
	}
	h.store.dropLogged(next)
	if err := h.store.put(ctx, next); err != nil {
		return err
	}
	h.record = next
	h.store.tell(ctx, next, known)
	return nil
}

// putUntoldAsRead makes sure of a record that is acknowledged as it was read, and tells of
// its events, if one of them may not have been told. If it fails, the events are told
// later, since the Put failed.
func (h *Held) putUntoldAsRead(ctx context.Context) {
	if h.store.ledger == nil || len(h.record.Unlogged) == 0 {
		return
	}
	last := h.record.Unlogged[len(h.record.Unlogged)-1]
	if h.store.ledger.Knows(h.record.ID, h.record.Incarnation, last) {
		return
	}
	_ = h.PutAsRead(ctx) // the watcher is told of an error
}

// PutAsRead puts the record again as it was read, or deletes it again if there was none. A
// Put or a delete that failed may have taken effect in storage while Vault's cache still
// shows the state before it. After this, storage holds what was read. Only the names that an
// earlier version has stored with it move to where they can be erased.
func (h *Held) PutAsRead(ctx context.Context) error {
	if err := h.store.keepPeople(ctx, h.record); err != nil {
		return err
	}
	return h.store.putAsRead(ctx, h.record, h.id)
}

// ignoreMissing is nil for a tenant that is not there.
func ignoreMissing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// putAsRead makes sure that storage holds the record as read. t is nil if there was none.
func (s *Store) putAsRead(ctx context.Context, t *Record, tenantID string) error {
	var err error
	if t != nil {
		if err = s.put(ctx, t); err == nil {
			s.tell(ctx, t, ledger.MaxSeq)
		}
	} else {
		err = s.forget(ctx, tenantID)
	}
	if err != nil {
		return fmt.Errorf("making sure of the tenant's record: %w", err)
	}
	return nil
}

// put stores the record of a tenant. It does not if ctx is over: an engine that hung
// before the write may have been replaced since, by one that has written a newer record.
func (s *Store) put(ctx context.Context, t *Record) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("writing %s: %w", recordKey(t.ID), err)
	}
	value, err := jsonutil.EncodeJSON(t)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", recordKey(t.ID), err)
	}
	s.records.Begin(t.ID)
	err = s.mount.Put(ctx, recordKey(t.ID), value)
	var kept **Record
	if err == nil {
		written := t.sized(len(value))
		kept = &written
	}
	s.records.End(t.ID, kept)
	s.note(t.ID, t, err)
	return err
}

// forget deletes the record of a tenant, as put stores it.
func (s *Store) forget(ctx context.Context, tenantID string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("deleting %s: %w", recordKey(tenantID), err)
	}
	s.records.Begin(tenantID)
	err := s.mount.Delete(ctx, recordKey(tenantID))
	s.records.End(tenantID, nil)
	s.note(tenantID, nil, err)
	return err
}

// note reports a write of a record to what else is kept in memory. t is the record as it
// is now, nil if there is none; after an error its state is unknown.
func (s *Store) note(tenantID string, t *Record, err error) {
	s.list.note(tenantID, t != nil, err)
	s.watch(tenantID, t, err)
}

// errElsewhere tells a watcher that another node has written a record.
var errElsewhere = errors.New("written by another node")

// Watch reports every write of a tenant's record to f, while the tenant's lock is held:
// t is the record as it is now, nil if it was deleted. After an error its state is
// unknown. What another node has written, and what cannot be read any more, is reported as
// an error, and not always under the lock. Watch is called before the store is used.
func (s *Store) Watch(f func(tenantID string, t *Record, err error)) { s.watch = f }
