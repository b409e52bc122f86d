// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// KEKPhase is the phase of a rotation of the KEK.
type KEKPhase string

// The phases of a rotation of the KEK.
const (
	KEKRewrapping KEKPhase = "rewrapping" // keys move to the new KEK

	KEKCompleted KEKPhase = "completed" // every key has; older KEKs are destroyed
	KEKFailed    KEKPhase = "failed"    // some keys could not; older KEKs are kept
)

// KEKRotation describes a rotation of the KEK to the one that the record names.
type KEKRotation struct {
	From           string      `json:"from_kek_id"`
	FromProvider   string      `json:"from_provider,omitempty"`
	Phase          KEKPhase    `json:"phase"`
	IdempotencyKey string      `json:"idempotency_key,omitempty"`
	Reason         string      `json:"reason,omitempty"`
	InitiatedBy    actor.Actor `json:"initiated_by"`
	StartedAt      time.Time   `json:"started_at"`
	// Leaves are the KEKs that were in storage as it began, and are there still or are
	// destroyed without an event. Nil: it began before that was noted.
	Leaves  []string  `json:"leaves,omitempty"`
	EndedAt time.Time `json:"ended_at,omitzero"`

	// What it found, once it has ended.
	Tenants  int          `json:"tenants,omitempty"`
	Keys     int          `json:"keys,omitempty"`
	Failed   int          `json:"failed,omitempty"`
	Failures []KeyFailure `json:"failures,omitempty"`
}

// Unfinished reports whether a rotation has begun and not ended.
func (r *KEKRotation) Unfinished() bool { return r != nil && r.Phase == KEKRewrapping }

// KeyFailure is a key that could not be moved to another KEK, and why. Without a
// key ID it is all of a tenant.
type KeyFailure struct {
	TenantID string `json:"tenant_id"`
	KeyID    string `json:"key_id,omitempty"`
	Reason   string `json:"reason"`
}

// ErrKEKChanged reports that the current KEK is not the one that the caller works for,
// or that its rotation is over.
var ErrKEKChanged = errors.New("the key-encryption key or its rotation has changed")

// switchTries is how often the Put that switches the KEK is tried. If each try fails,
// the KEK may still have been switched: then the next reader of the record goes on
// with its rotation.
const switchTries = 3

// SwitchKEK makes a new KEK the current one. It calls next under the KEK's exclusive
// lock for the rotation that begins; if next returns nil or an error, nothing changes.
// It returns the record as it is then. The new KEK is under the provider to, empty for
// Vault's storage; nil: where the current one is. It fails with [ErrNoKEK], [ErrProvider]
// or a [provider.Error]: moving out of a provider needs it once more.
//
// The new KEK is stored first, and then the record that names it, which is the
// commit point. A KEK that no record names is destroyed at the end of the next rotation,
// which moves what it may have wrapped while a failed Put of the record was to be seen.
func (s *Store) SwitchKEK(ctx context.Context, to *string, next func(now *KEKRecord) (*KEKRotation, error)) (*KEKRecord, error) {
	var ready *PreparedKEK
	for range switchTries {
		r, needs, err := s.trySwitch(ctx, to, ready, next)
		if needs == nil || err != nil {
			return r, err
		}
		// Providers are called without a lock, so the record is looked at again.
		if ready, err = s.prepareSwitch(ctx, keyring.Owner{}, r, *needs); err != nil {
			return nil, err
		}
	}
	return nil, storage.ErrContended
}

// trySwitch is SwitchKEK if no provider has to be called for it, or has been. Otherwise it
// changes nothing, and needs is the provider that the new KEK is to be under.
func (s *Store) trySwitch(ctx context.Context, to *string, ready *PreparedKEK, next func(now *KEKRecord) (*KEKRotation, error)) (r *KEKRecord, needs *string, err error) {
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	if r, err = s.KEK(ctx); err != nil {
		return nil, nil, err
	}
	rotation, err := next(r)
	if rotation == nil || err != nil {
		return r, nil, err
	}
	under := r.Provider
	if to != nil {
		under = *to
	}
	if (under != "" || r.Provider != "") && !ready.fits(r.KEKID, under) {
		return r, &under, nil
	}
	switched := &KEKRecord{Provider: under, CreatedAt: rotation.StartedAt, Rotation: rotation}
	if rotation.Leaves, err = s.StoredKEKs(ctx); err != nil {
		return nil, nil, err
	}
	log, err := s.beginEvent(ctx, r, rotation)
	if err != nil {
		return nil, nil, err
	}
	if switched.KEKID, err = s.storeNewKEK(ctx, ready); err != nil {
		return nil, nil, err
	}
	if switched.Unlogged, err = log(switched); err != nil {
		return nil, nil, err
	}
	for range switchTries {
		if err = s.putKEKRecord(ctx, switched); err == nil {
			return switched, nil, nil
		}
	}
	return nil, nil, err
}

// EndKEKRotation ends the rotation to a KEK as end says. If it has completed, all
// other KEKs are destroyed first: the caller has seen every key on this one since
// AwaitLocks. If the process dies in between, the rotation is still unfinished, and
// both are repeated. If there are many it destroys some of them and returns nil: it is to
// be called again. It fails with [ErrKEKChanged] or [ledger.ErrFull].
func (s *Store) EndKEKRotation(ctx context.Context, kekID string, end func(*KEKRotation)) (*KEKRotation, error) {
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	r, err := s.unfinishedKEK(ctx, kekID)
	if err != nil {
		return nil, err
	}
	ended := *r.Rotation
	end(&ended)
	left, err := s.leaveKEKs(ctx, r, ended.Phase == KEKCompleted)
	if err != nil {
		return nil, err
	}
	ended.Leaves = left
	if ended.Phase == KEKCompleted && len(left) > 0 {
		r.Rotation.Leaves = left
		return nil, s.putKEKRecord(ctx, r)
	}
	if r.Provider != "" {
		s.endInVault()
	}
	r.Rotation = &ended
	if err := s.putKEKRecord(ctx, r); err != nil {
		return nil, err
	}
	_ = s.mount.Delete(ctx, kekProgress) // what stays of it describes a rotation that is over
	return &ended, nil
}

// SettleKEK puts the record of the unfinished rotation to a KEK again as it was read. After
// that storage holds what was read: a Put of an older record, which failed with effect, may
// be hidden by Vault's cache. It fails with [ErrKEKChanged].
func (s *Store) SettleKEK(ctx context.Context, kekID string) error {
	r, err := s.unfinishedKEK(ctx, kekID)
	if err == nil && s.ledger != nil {
		err = s.ledger.Keep(ctx, r.Rotation.InitiatedBy) // if an earlier version stored the name here
	}
	if err != nil {
		return err
	}
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	if r, err = s.unfinishedKEK(ctx, kekID); err != nil {
		return err
	}
	return s.putKEKRecord(ctx, r)
}

// unfinishedKEK reads the record if it says that the rotation to kekID is
// unfinished. It fails with [ErrKEKChanged].
func (s *Store) unfinishedKEK(ctx context.Context, kekID string) (*KEKRecord, error) {
	r, err := s.KEK(ctx)
	if err != nil {
		return nil, err
	}
	if r.KEKID != kekID || !r.Rotation.Unfinished() {
		return nil, ErrKEKChanged
	}
	return r, nil
}

// destroyedAtOnce bounds the KEKs of whose end one Put tells.
const destroyedAtOnce = 32

// leaveKEKs destroys the KEKs that a rotation has left, if it has completed, and has the
// record carry an event of each that is gone. It returns those that are left. The event
// follows the deletion, and Leaves keeps the ID until a Put has both.
func (s *Store) leaveKEKs(ctx context.Context, r *KEKRecord, completed bool) (left []string, err error) {
	stored, err := s.StoredKEKs(ctx)
	if err != nil {
		return nil, err
	}
	others := r.Rotation.Leaves
	if others == nil {
		others = []string{r.Rotation.From}
	}
	others = slices.Concat(others, stored)
	slices.Sort(others)
	others = slices.DeleteFunc(slices.Compact(others), func(id string) bool { return id == r.KEKID })
	if !completed { // those that are gone were destroyed before a crash
		gone := slices.DeleteFunc(others, func(id string) bool { return slices.Contains(stored, id) })
		r.Unlogged, err = s.destroyedEvents(ctx, r, gone)
		return stored, err
	}
	gone, left := others[:min(len(others), destroyedAtOnce)], others[min(len(others), destroyedAtOnce):]
	for _, id := range gone {
		if err := s.destroyKEK(ctx, kekPrefix+id); err != nil {
			return nil, err
		}
	}
	r.Unlogged, err = s.destroyedEvents(ctx, r, gone)
	return left, err
}

func (s *Store) destroyKEK(ctx context.Context, key string) error {
	s.forgetKEK(key)
	s.keks.Begin(key)
	defer s.keks.End(key, nil)
	return s.mount.Delete(ctx, key)
}

// forgetKEK drops what is in memory of the KEK at a storage key. Keys opened beneath one
// under a provider are opened anew.
func (s *Store) forgetKEK(key string) {
	if o, cached, _ := s.keks.Get(key); cached && o.provider != "" {
		o.term.Finish()
	}
	s.gates.Drop(incarnationOf(key), key)
	s.keks.Drop(key)
	s.under.Delete(key)
}

// KEKProgress says how far a rotation of the KEK was when that was last stored. It
// describes, and decides nothing.
type KEKProgress struct {
	KEKID   string    `json:"kek_id"`
	Tenants int       `json:"tenants"` // looked at
	Keys    int       `json:"keys"`    // of these, on the new KEK
	Failed  int       `json:"failed,omitempty"`
	Percent float64   `json:"percent"`
	At      time.Time `json:"at"`
}

const kekProgress = "kek/progress"

// PutKEKProgress notes how far a rotation of the KEK is.
func (s *Store) PutKEKProgress(ctx context.Context, p KEKProgress) error {
	return s.mount.PutJSON(ctx, kekProgress, p)
}

// KEKProgress reads what was last noted of the rotation to a KEK, zero if nothing
// was, or if it cannot be read any more.
func (s *Store) KEKProgress(ctx context.Context, kekID string) (KEKProgress, error) {
	var p KEKProgress
	_, err := s.mount.GetJSON(ctx, kekProgress, &p)
	if storage.IsDamaged(err) {
		return KEKProgress{}, nil
	}
	if err != nil || p.KEKID != kekID {
		return KEKProgress{}, err
	}
	return p, nil
}
