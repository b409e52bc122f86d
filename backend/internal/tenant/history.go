// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// keepHistory bounds the ended rotations of a tenant that are filed. With the one in its
// record the last 100 are kept.
const keepHistory = 99

// PutHistory files an ended rotation, and drops the oldest beyond those that are kept.
func (s *Store) PutHistory(ctx context.Context, t *Record, r *Rotation) error {
	if err := s.mount.PutJSON(ctx, historyKey(t.Incarnation, r.To), r); err != nil {
		return err
	}
	if r.To <= keepHistory {
		return nil // there are no more than versions
	}
	names, err := s.mount.List(ctx, historyOf(t.Incarnation))
	if storage.IsDamaged(err) {
		return nil // what is too old stays
	}
	if err != nil {
		return fmt.Errorf("listing history: %w", err)
	}
	slices.Sort(names)
	for len(names) > keepHistory {
		if err := s.mount.Delete(ctx, historyOf(t.Incarnation)+names[0]); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}

// History reads the ended rotation that made a version, nil if none is filed.
func (s *Store) History(ctx context.Context, t *Record, version int) (*Rotation, error) {
	return s.readHistory(ctx, historyKey(t.Incarnation, version))
}

func (s *Store) readHistory(ctx context.Context, key string) (*Rotation, error) {
	r := new(Rotation)
	found, err := s.mount.GetJSON(ctx, key, r)
	if err != nil || !found {
		return nil, err
	}
	return r, nil
}

// AllHistory reads the ended rotations of t, newest first. Those that cannot be read
// any more are left out.
func (s *Store) AllHistory(ctx context.Context, t *Record) ([]*Rotation, error) {
	names, err := s.mount.List(ctx, historyOf(t.Incarnation))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	slices.Reverse(names)
	var all []*Rotation
	for _, n := range names {
		r, err := s.readHistory(ctx, historyOf(t.Incarnation)+n)
		if storage.IsDamaged(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r != nil {
			all = append(all, r)
		}
	}
	return all, nil
}

// Progress says how far an unfinished rotation was when that was last stored. It
// describes, and decides nothing.
type Progress struct {
	RotationID string      `json:"rotation_id"`
	Rotated    item.Counts `json:"rotated"`
	At         time.Time   `json:"at"`
}

// PutProgress notes how far a rotation of t is.
func (s *Store) PutProgress(ctx context.Context, t *Record, p Progress) error {
	return s.mount.PutJSON(ctx, progressKey(t.Incarnation), p)
}

// Progress reads what was last noted for a rotation, nil if nothing was, or if it
// cannot be read any more.
func (s *Store) Progress(ctx context.Context, t *Record, rotationID string) (*Progress, error) {
	p := new(Progress)
	found, err := s.mount.GetJSON(ctx, progressKey(t.Incarnation), p)
	if storage.IsDamaged(err) {
		return nil, nil
	}
	if err != nil || !found || p.RotationID != rotationID {
		return nil, err
	}
	return p, nil
}

// DeleteHistory deletes the history of an incarnation that is no more.
func (s *Store) DeleteHistory(ctx context.Context, incarnation string) error {
	return s.mount.DeleteBelow(ctx, historyOf(incarnation))
}

// DeleteProgress deletes the stored progress.
func (s *Store) DeleteProgress(ctx context.Context, incarnation string) error {
	return s.mount.Delete(ctx, progressKey(incarnation))
}
