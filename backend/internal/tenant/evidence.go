// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"slices"
	"strconv"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A record carries the events that it decided until the evidence log has them. Put tells
// the ledger of everything that the record carries; what a stored checkpoint has, the
// next Put that comes along drops. There is no Put for that alone.

// Carry adds an event to those that the record carries, under the next number of its
// incarnation. The caller puts the record: only then is the event decided, and the ledger
// told of it. It fails with [ledger.ErrFull].
func (t *Record) Carry(h evidence.Head, d evidence.Detail) error {
	if len(t.Unlogged) >= ledger.MaxCarried {
		return ledger.ErrFull
	}
	h.TenantID, h.Incarnation, h.Seq = t.ID, t.Incarnation, t.EvidenceSeq+1
	h.EventID = evidence.EventID(t.Incarnation, strconv.FormatInt(h.Seq, 10), d.Type())
	carried, err := ledger.Encode(h, d)
	if err != nil {
		return err
	}
	t.EvidenceSeq = h.Seq
	t.Unlogged = append(t.Unlogged, carried)
	return nil
}

// RoomForEvents is how many more events the record may carry.
func (t *Record) RoomForEvents() int { return ledger.MaxCarried - len(t.Unlogged) }

// UseLedger sets the ledger that is told of the events that records carry. Without one,
// events are carried and not logged. It is called before the store is used.
func (s *Store) UseLedger(l *ledger.Ledger) { s.ledger = l }

// dropLogged drops from a record that is about to be put what the log has.
func (s *Store) dropLogged(t *Record) {
	if s.ledger == nil || len(t.Unlogged) == 0 {
		return
	}
	at, known := s.ledger.Logged(t.ID, t.Incarnation)
	if !known || at.Seq < t.Unlogged[0].Seq {
		return
	}
	t.Unlogged = slices.DeleteFunc(t.Unlogged, func(e ledger.Event) bool { return e.Seq <= at.Seq })
	t.EvidenceAt = &at
}

// tell hands over what a record carries that was put with success. Events numbered after
// known were decided with that Put.
func (s *Store) tell(ctx context.Context, t *Record, known int64) {
	if s.ledger != nil && len(t.Unlogged) > 0 {
		s.ledger.Tell(ctx, t.Unlogged, known, t.EvidenceAt)
	}
}

// AwaitLogged waits until the log has the events of a record that was put with success,
// or ctx ends. The caller holds no lock.
func (s *Store) AwaitLogged(ctx context.Context, t *Record) error {
	if s.ledger == nil || len(t.Unlogged) == 0 {
		return nil
	}
	return s.ledger.Await(ctx, t.Unlogged)
}

// TellAgain tells the ledger of the events that a tenant's record carries and the log
// lacks: after a start, and after a Put that failed. The record is put again as it was
// read before they are told, under the lock: a Put with a hidden effect may have undone
// them. Names that an earlier version has stored are taken out. A tenant that is not there
// is no error.
func (s *Store) TellAgain(ctx context.Context, tenantID string) error {
	t, err := s.Refresh(ctx, tenantID)
	if err != nil {
		return ignoreMissing(err)
	}
	if t.Named {
		if err := s.takeOutNames(ctx, tenantID); err != nil {
			return err
		}
	}
	if lacks, err := s.lacks(ctx, t); err != nil || !lacks {
		return err
	}
	return s.Hold(ctx, tenantID, func(h *Held) error {
		if h.record == nil || len(h.record.Unlogged) == 0 {
			return nil
		}
		return h.PutAsRead(ctx)
	})
}

func (s *Store) lacks(ctx context.Context, t *Record) (bool, error) {
	if s.ledger == nil || len(t.Unlogged) == 0 {
		return false, nil
	}
	// The log takes the events of an incarnation in their order: with the last it has all,
	// and none of them needs to be decoded.
	last := t.Unlogged[len(t.Unlogged)-1].Seq
	if has, err := s.ledger.Reached(ctx, t.ID, t.Incarnation, last); has || err != nil {
		return false, err
	}
	return s.ledger.Lacks(ctx, t.Unlogged)
}
