// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// Rotation has the organization's rotation settings.
type Rotation struct {
	RotationInterval string `json:"rotation_interval"`
	// Campaign is the latest request to rotate every tenant: the answer to a leak. It
	// is kept beside the interval since it changes when everyone is due, and rewrites
	// no tenant's record. Only the next one takes its place.
	Campaign Campaign `json:"campaign,omitzero"`

	// Unlogged are the events that the evidence log may lack.
	Unlogged []ledger.Event `json:"unlogged,omitempty"`

	former // what an earlier version stored of a campaign

	// Repaired says that a write has replaced what could not be read.
	Repaired bool `json:"-"`

	named bool // an earlier version has stored a name, which a Put takes out
}

// Campaign is a request to rotate every tenant. Campaigns are told apart by a number,
// and no time is compared: a clock that was ahead would make keys look new.
type Campaign struct {
	// Number grows with each campaign; 0: there was none. A tenant whose record has a
	// lower one owes a rotation.
	Number int64 `json:"number"`
	// IncludePaused is the number of the latest campaign that asked for paused tenants,
	// too. A later one that does not ask for them does not take that back.
	IncludePaused int64 `json:"include_paused,omitempty"`

	At     time.Time   `json:"at"`
	By     actor.Actor `json:"by"`
	Reason string      `json:"reason,omitempty"`
	// Requests identifies the requests of the latest campaigns, the last one last
	// ([actor.RequestDigest]): one that is repeated asks for nothing more.
	Requests []string `json:"requests,omitempty"`
}

// Ask is a request for rotations of many tenants.
type Ask struct {
	// Request identifies the request ([actor.RequestDigest]).
	Request       string
	Reason        string
	By            actor.Actor
	IncludePaused bool // paused tenants are rotated, too
	At            time.Time
}

// Begin makes the campaign that a request asks for; false if the request is a repeated
// one. The number is at least the clock's milliseconds: settings that were lost and are
// written anew do not begin below what records have.
func (c *Campaign) Begin(a Ask) bool {
	requests, isNew := actor.NoteRequest(c.Requests, a.Request)
	if !isNew {
		return false
	}
	next := Campaign{
		Number: max(c.Number+1, a.At.UnixMilli()), IncludePaused: c.IncludePaused,
		At: a.At, By: a.By.Bare(), Reason: a.Reason, Requests: requests,
	}
	if a.IncludePaused {
		next.IncludePaused = next.Number
	}
	*c = next
	return true
}

// former has the fields that an earlier version kept for a campaign.
type former struct {
	RotateBefore  time.Time   `json:"rotate_before,omitzero"`
	RotateReason  string      `json:"rotate_reason,omitempty"`
	RotateRequest string      `json:"rotate_request,omitempty"`
	RotateBy      actor.Actor `json:"rotate_by,omitzero"`
	RotatePaused  bool        `json:"rotate_paused,omitempty"`
}

// upgrade turns what an earlier version stored into a campaign. Its number is the time
// that keys were to be younger than; records of that version have the time of their key
// as number.
func (r *Rotation) upgrade() {
	was := r.former
	r.former = former{}
	r.named = was.RotateBy.Named() || r.Campaign.By.Named()
	if r.Campaign.Number > 0 || was.RotateRequest == "" {
		return
	}
	r.Campaign.Requests = []string{actor.RequestDigest(was.RotateRequest)}
	if was.RotateBefore.IsZero() {
		return // everyone was rotated
	}
	r.Campaign.Number = was.RotateBefore.UnixMilli() + 1
	if was.RotatePaused {
		r.Campaign.IncludePaused = r.Campaign.Number
	}
	r.Campaign.At, r.Campaign.By, r.Campaign.Reason = was.RotateBefore, was.RotateBy, was.RotateReason
}

// Rotation returns the organization's rotation settings: those of [SafeRotation] if
// they cannot be read any more.
func (s *Store) Rotation(ctx context.Context) (Rotation, error) {
	r, err := s.StoredRotation(ctx)
	if storage.IsDamaged(err) {
		return SafeRotation(), nil
	}
	return r, err
}

// StoredRotation is Rotation, and fails with [storage.ErrDamaged].
func (s *Store) StoredRotation(ctx context.Context) (Rotation, error) {
	r, generation := s.rotation.Get()
	if r != nil {
		return *r, nil
	}
	read := Rotation{RotationInterval: DefaultRotationInterval}
	if _, err := s.mount.GetJSON(ctx, settingsKey, &read); err != nil {
		return Rotation{}, err
	}
	read.upgrade()
	s.rotation.Keep(&read, generation)
	return read, nil
}

// ErrUnchanged is returned by a change that leaves the settings as they are.
var ErrUnchanged = errors.New("nothing to change")

// UpdateRotation changes the organization's rotation settings and returns what is in
// force then. Those that cannot be read are written anew, from their defaults. An error
// of change refuses it; [ErrUnchanged] leaves the settings as they are and is no error.
func (s *Store) UpdateRotation(ctx context.Context, change func(*Rotation) error) (Rotation, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	r, err := s.StoredRotation(ctx)
	if storage.IsDamaged(err) {
		r, err = Rotation{RotationInterval: DefaultRotationInterval, Repaired: true}, nil
	}
	if err != nil {
		return r, err
	}
	before := r.values()
	if r.Repaired {
		before = nil
	}
	if err := change(&r); errors.Is(err, ErrUnchanged) {
		return r, nil
	} else if err != nil {
		return Rotation{}, err
	}
	if r.Unlogged, err = s.logged(ctx, r.Unlogged, "rotationSettings", before, r.values()); err != nil {
		return Rotation{}, err
	}
	defer s.rotation.Drop() // after the write, and after a failed one too
	return r, s.put(ctx, settingsKey, r, r.Unlogged)
}
