// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"bytes"
	"context"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// An earlier version stored the name and the email of a person with each record and each
// rotation of the history. A reading of the records finds these, and what they say moves
// to where it can be erased. [Record.Named] stays set in storage until the history is
// done, since any Put of the record takes the names out of it.

// holdsNames reports whether a record or a rotation, as it is stored, has the field that
// an earlier version wrote with each person. Within a text its quotes would be escaped.
func holdsNames(stored []byte) bool { return bytes.Contains(stored, []byte(`"email":`)) }

// takeOutNames takes the names out of a tenant's history, and then out of its record.
func (s *Store) takeOutNames(ctx context.Context, tenantID string) error {
	return s.Hold(ctx, tenantID, func(h *Held) error {
		t := h.record
		if t == nil || !t.Named || t.State == Shredding { // then all of it goes
			return nil
		}
		if err := s.takeOutOfHistory(ctx, t); err != nil {
			return err
		}
		_, err := h.Update(ctx, func(next *Record) error { // which keeps those of the record
			next.Named = false
			return nil
		})
		return err
	})
}

// takeOutOfHistory puts what has names anew, without them. What cannot be read stays as it
// is: nobody reads a name there either.
func (s *Store) takeOutOfHistory(ctx context.Context, t *Record) error {
	names, err := s.mount.List(ctx, historyOf(t.Incarnation))
	if storage.IsDamaged(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		key := historyOf(t.Incarnation) + n
		r, err := s.readHistory(ctx, key)
		if storage.IsDamaged(err) || err == nil && (r == nil || !r.InitiatedBy.Named()) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.keepPerson(ctx, r.InitiatedBy); err != nil {
			return err
		}
		if err := s.mount.PutJSON(ctx, key, r); err != nil {
			return err
		}
	}
	return nil
}

// keepPeople keeps the names that a record has from an earlier version, which its next Put
// takes out.
func (s *Store) keepPeople(ctx context.Context, t *Record) error {
	if t == nil || !t.Named {
		return nil
	}
	for _, who := range t.people() {
		if err := s.keepPerson(ctx, who); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) keepPerson(ctx context.Context, who actor.Actor) error {
	if s.ledger == nil {
		return nil
	}
	return s.ledger.Keep(ctx, who)
}

// people returns the persons that a record names.
func (t *Record) people() []actor.Actor {
	people := []actor.Actor{t.DeletedBy}
	if t.Request != nil {
		people = append(people, t.Request.By)
	}
	for _, r := range []*Rotation{t.Rotation, t.Last} {
		if r != nil {
			people = append(people, r.InitiatedBy)
		}
	}
	for i := range t.Holders {
		people = append(people, t.Holders[i].ReportedBy)
	}
	if t.KEK != nil && t.KEK.Rotation != nil {
		people = append(people, t.KEK.Rotation.InitiatedBy)
	}
	return people
}
