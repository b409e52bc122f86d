// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// State is the state of a tenant.
type State string

// The states of a tenant.
const (
	Active    State = "active"
	Deleting  State = "deleting"  // can be restored
	Shredding State = "shredding" // its keys are being destroyed
)

// Record is a tenant's record: the one entry that decides. Every change of its
// state is one Put of it, under the tenant's exclusive lock. History, progress
// and indexes are derived from it and decide nothing.
type Record struct {
	ID string `json:"tenant_id"`
	// Incarnation is random and part of every path and associated data of the
	// tenant's entries.
	Incarnation string    `json:"incarnation"`
	State       State     `json:"state"`
	CreatedAt   time.Time `json:"created_at"`

	DisplayName      string `json:"display_name,omitempty"`
	RotationInterval string `json:"rotation_interval,omitempty"` // empty: the organization's
	RotationPaused   bool   `json:"rotation_paused,omitempty"`

	// Campaign is the number of the latest campaign ([settings.Campaign]) to which the
	// tenant owes nothing, and Request the latest request for this tenant by name, nil
	// if there was none. Only a rotation that completes settles them: see [Record.End].
	Campaign int64    `json:"campaign"`
	Request  *Request `json:"request,omitempty"`
	// RotateAfter, if set, is until when the schedule waits after a rotation that
	// failed or was cancelled: see [Record.Waits].
	RotateAfter time.Time `json:"rotate_after,omitzero"`
	// FailedInARow counts the rotations, and retries, that have failed since one
	// succeeded or a caller asked for one. RotateAfter grows with it.
	FailedInARow int `json:"failed_in_a_row,omitempty"`
	// Manual counts the rotations that callers have started lately.
	Manual ManualCount `json:"manual,omitzero"`

	former // what an earlier version stored of a request

	// DeleteAfter and DeletedBy are of a tenant that is not active.
	DeleteAfter time.Time   `json:"delete_after,omitzero"`
	DeletedAt   time.Time   `json:"deleted_at,omitzero"`
	DeletedBy   actor.Actor `json:"deleted_by,omitzero"`
	// DeleteRequests identifies the latest requests for a deletion, also once the tenant
	// was restored ([actor.RequestDigest]): one that is repeated asks for nothing more.
	DeleteRequests []string    `json:"delete_requests,omitempty"`
	ItemsAtEnd     item.Counts `json:"items_at_end,omitzero"`
	// ExternalAtEnd are the key IDs of the versions that had an external key.
	ExternalAtEnd []string `json:"external_at_end,omitempty"`

	// KEK names the key-encryption key of the tenant's own that wraps its keys, and its latest
	// move: none if the mount's does, nil if it always has. It is never changed in place.
	KEK *keystore.KEKRecord `json:"kek,omitempty"`

	PlacementKeyID string       `json:"placement_key_id"`
	Keys           keyring.Ring `json:"keys"`
	// MinDecryptionVersion is the least version whose ciphertexts are opened, for
	// those outside the engine only; 0 is as good as 1.
	MinDecryptionVersion int `json:"min_decryption_version,omitempty"`

	// Holders are the places that keep ciphertexts of the tenant. They are never changed
	// in place. FollowHolders says that all of them are named: then external keys go as
	// the holders report.
	Holders       []Holder `json:"holders,omitempty"`
	FollowHolders bool     `json:"follow_holders,omitempty"`

	// GivenUp describes what was lost with versions that were destroyed by force, until
	// a rotation has replaced it and said so; nil: nothing. It is never changed in place.
	GivenUp *GivenUp `json:"given_up,omitempty"`

	// Rotation is the unfinished rotation, Last the latest that has ended. It is filed in
	// the history when the next one ends.
	Rotation *Rotation `json:"rotation,omitempty"`
	Last     *Rotation `json:"last_rotation,omitempty"`

	// EvidenceSeq is the number of the incarnation's latest event. Unlogged are the
	// events that the record has not dropped yet, EvidenceAt is where the log has the
	// last that it dropped: see evidence.go.
	EvidenceSeq int64              `json:"evidence_seq,omitempty"`
	Unlogged    []ledger.Event     `json:"unlogged,omitempty"`
	EvidenceAt  *evidence.Position `json:"evidence_at,omitempty"`
	// Named says that an earlier version has stored names with the record or with its
	// history: see names.go.
	Named bool `json:"named,omitempty"`
	// ShreddedAt is set once the keys of a tenant that is being shredded are gone.
	ShreddedAt time.Time `json:"shredded_at,omitzero"`

	encoded int // bytes that it has in storage
}

// New returns the record of a tenant under a new incarnation, with version 1 of its key. The
// type is that of the key, empty for the default, campaign the latest to which it owes
// nothing.
func New(tenantID string, t keyring.KeyType, campaign int64, now time.Time) (*Record, error) {
	placementID, err := keyring.NewID("plc-")
	if err != nil {
		return nil, err
	}
	keyID, err := keyring.NewID("dek-")
	if err != nil {
		return nil, err
	}
	if t == "" {
		t = keyring.DefaultKeyType
	}
	return &Record{
		ID: tenantID, Incarnation: keyring.NewIncarnation(), State: Active, CreatedAt: now,
		Campaign: campaign, PlacementKeyID: placementID, Keys: keyring.NewRing(keyID, t, now),
	}, nil
}

// memory estimates the bytes that a record takes in a cache.
func (t *Record) memory() int { return 2*t.encoded + 300 }

// sized is the record, which has so many bytes in storage.
func (t *Record) sized(bytes int) *Record {
	if t.encoded == bytes {
		return t
	}
	c := *t
	c.encoded = bytes
	return &c
}

// Owner returns the identity to which the tenant's keys and pages are bound.
func (t *Record) Owner() keyring.Owner {
	return keyring.Owner{Tenant: t.ID, Incarnation: t.Incarnation}
}

// Clone returns a copy of t to change: what was read stays as it is until the
// copy is stored.
func (t *Record) Clone() *Record {
	c := *t
	c.Keys = t.Keys.Clone()
	c.Unlogged = slices.Clone(t.Unlogged)
	c.Holders = slices.Clone(t.Holders)
	if t.Rotation != nil {
		r := *t.Rotation
		c.Rotation = &r
	}
	if t.Request != nil {
		q := *t.Request
		c.Request = &q
	}
	return &c
}

// Usable reports whether the tenant can be used: nil, [ErrDeleting], or
// [ErrNotFound] for one whose keys are being destroyed.
func (t *Record) Usable() error {
	switch t.State {
	case Active:
		return nil
	case Deleting:
		return ErrDeleting
	}
	return ErrNotFound
}

// LeastDecryptable is the least version whose ciphertexts are opened.
func (t *Record) LeastDecryptable() int { return max(1, t.MinDecryptionVersion) }

// LastRotatedAt returns when the tenant's key last changed by a rotation, or when
// the tenant was created.
func (t *Record) LastRotatedAt() time.Time { return t.Keys.Active().ActivatedAt }

// Phase is the phase of an unfinished rotation, or the way in which it ended.
type Phase string

// The phases of a rotation.
const (
	Sweeping    Phase = "sweeping"     // pages move to the new version
	RollingBack Phase = "rolling_back" // pages move back to the old version
	Retiring    Phase = "retiring"     // no page is on the old version: its key is destroyed

	Completed  Phase = "completed"
	RolledBack Phase = "rolled_back"
	Failed     Phase = "failed" // some pages did not open
)

// TriggerManual is the trigger of a rotation that a caller of dek/rotate has started.
const TriggerManual = "manual"

// Rotation describes one rotation. In a tenant's record it is part of what
// decides; as a history entry it is a description.
type Rotation struct {
	ID       string `json:"rotation_id"`
	TenantID string `json:"tenant_id"`
	// IntentID names the entry of the write-ahead log, and the place in one of several intents.
	IntentID string `json:"intent_id"`
	// Campaign is the number of the campaign that the start has read: what the rotation
	// serves once it completes.
	Campaign int64 `json:"campaign,omitempty"`

	From      int    `json:"from"`
	To        int    `json:"to"`
	FromKeyID string `json:"from_key_id"`
	ToKeyID   string `json:"to_key_id"`
	Phase     Phase  `json:"phase"`
	Paused    bool   `json:"paused,omitempty"`
	Retries   int    `json:"retries,omitempty"`

	Reason      string      `json:"reason,omitempty"`
	Trigger     string      `json:"trigger"`
	InitiatedBy actor.Actor `json:"initiated_by"`

	// Evidence says who started the rotation, and why, as the evidence log does.
	Evidence Attribution `json:"evidence,omitzero"`

	StartedAt time.Time `json:"started_at"`
	UpdatedAt time.Time `json:"updated_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`

	ToRotate item.Counts `json:"to_rotate"`
	Rotated  item.Counts `json:"rotated"`
	// PagesToRotate is how many pages there were at the start.
	PagesToRotate int `json:"pages_to_rotate,omitempty"`
	// Lost is the part of ToRotate that had been given up before.
	Lost     item.Counts `json:"lost,omitzero"`
	Failed   int         `json:"failed,omitempty"` // items on pages that did not open
	Failures []Failure   `json:"failures,omitempty"`
	// Room has the versions whose keys the start has destroyed before their retention
	// ended, since the record was full.
	Room []Room `json:"room,omitempty"`
}

// Attribution names a person by a random ID and a reason by its hash.
type Attribution struct {
	Actor  string `json:"actor"`
	Reason string `json:"reason,omitempty"`
}

// Room is a version that made room for another.
type Room struct {
	Version     int       `json:"version"`
	KeyID       string    `json:"key_id"`
	DestroyedAt time.Time `json:"destroyed_at"`
}

// Failure is a page that did not open, and why. It names no item.
type Failure struct {
	Page   string `json:"page"`
	Reason string `json:"reason"`
}
