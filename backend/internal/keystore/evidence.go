// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// The record of the KEK carries the events that it decided until the evidence log has them,
// as a tenant's record does. A KEK has a random ID, so the IDs of its events are derived
// from that alone: it is switched to once, and destroyed once.

// UseLedger lets the ledger know of what happens to KEKs and providers. It is called before
// the store is used.
func (s *Store) UseLedger(l *ledger.Ledger) {
	s.ledger = l
	s.providers.UseLedger(l)
}

// beginEvent prepares the event of a switch from the KEK in r. What it returns makes of the
// record that is to be put what that carries. It fails with [ledger.ErrFull].
func (s *Store) beginEvent(ctx context.Context, r *KEKRecord, rotation *KEKRotation) (func(*KEKRecord) ([]ledger.Event, error), error) {
	if s.ledger == nil {
		return func(*KEKRecord) ([]ledger.Event, error) { return nil, nil }, nil
	}
	carried := s.ledger.Unlogged(ctx, r.Unlogged)
	if len(carried) >= ledger.MaxCarried {
		return nil, ledger.ErrFull // before a KEK is made
	}
	h, err := s.ledger.Head(ctx, rotation.Reason)
	if err != nil {
		return nil, err
	}
	h.Trigger = triggerOf(rotation)
	return func(to *KEKRecord) ([]ledger.Event, error) {
		h.EventID = evidence.EventID(evidence.TypeKEKRotated, to.KEKID)
		return ledger.Carry(carried, h, &evidence.KEKRotated{
			PreviousKeyID: r.KEKID, NewKeyID: to.KEKID, PreviousProvider: r.Provider, NewProvider: to.Provider,
		})
	}, nil
}

func triggerOf(r *KEKRotation) string {
	if r.InitiatedBy == actor.System {
		return "scheduled"
	}
	return "manual"
}

// destroyedEvents returns what the record carries once these KEKs are destroyed.
func (s *Store) destroyedEvents(ctx context.Context, r *KEKRecord, ids []string) ([]ledger.Event, error) {
	if s.ledger == nil {
		return r.Unlogged, nil
	}
	carried := s.ledger.Unlogged(ctx, r.Unlogged)
	h := evidence.Head{Time: s.now(), Trigger: triggerOf(r.Rotation)}
	var err error
	if h.Actor, err = s.ledger.Actor(ctx, r.Rotation.InitiatedBy.Bare()); err != nil {
		return nil, err
	}
	for _, id := range ids {
		h.EventID = evidence.EventID(evidence.TypeKeyDestroyed, id)
		carried, err = ledger.Carry(carried, h, &evidence.KeyDestroyed{KeyID: id, Which: evidence.WhichKEK, Why: evidence.WhyRotation})
		if err != nil {
			return nil, err
		}
	}
	return carried, nil
}

// MayLack reports whether the entries of KEKs and providers are to be read for events that
// the evidence log may lack.
func (s *Store) MayLack(now time.Time) bool {
	return s.ledger != nil && (s.watch.Due(now) || s.providers.MayLack(now))
}

// TellAgain tells the ledger of the events that these entries carry and the log lacks. An
// entry is put again as it was read before they are told: a Put with a hidden effect may
// have undone them. It waits until the log is open, holding no lock. A name that an earlier
// version has stored with the KEK's record moves to where it can be erased.
func (s *Store) TellAgain(ctx context.Context, now time.Time) error {
	s.watch.Begin(now)
	err := s.tellAgain(ctx)
	if err != nil {
		s.watch.Again()
	}
	return errors.Join(err, s.providers.TellAgain(ctx, now, &s.kekLock))
}

func (s *Store) tellAgain(ctx context.Context) error {
	r, err := s.KEK(ctx)
	if errors.Is(err, ErrNoKEK) || storage.IsDamaged(err) {
		return nil
	}
	if err != nil || r.Rotation == nil {
		return err
	}
	if needs, err := s.ledger.NeedsPut(ctx, r.Rotation.InitiatedBy, r.Unlogged); err != nil || !needs {
		return err
	}
	// Nothing is wrapped between the reading and the Put.
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	if r, err = s.KEK(ctx); err != nil {
		return err
	}
	return s.putKEKRecord(ctx, r)
}
