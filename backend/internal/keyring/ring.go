// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// State is the state of a version, after NIST SP 800-57.
type State string

// The states of a version.
const (
	Pending     State = "pending"     // named, not yet written with
	Active      State = "active"      // seals and opens
	Deactivated State = "deactivated" // opens only
	Destroyed   State = "destroyed"   // its key is gone
)

const (
	// keepDestroyed is how many of the latest versions stay in a ring though they are
	// destroyed. History keeps what is known of the others.
	keepDestroyed = 100
	// MaxVersions bounds the versions in a ring, so that a tenant's record keeps well
	// below what an entry may have: see [Ring.MakeRoom].
	MaxVersions = 500
)

var (
	// ErrNoVersion reports a version that the ring does not know.
	ErrNoVersion = errors.New("key version unknown")
	// ErrVersionDestroyed reports a version whose key is gone.
	ErrVersionDestroyed = errors.New("key version destroyed")
)

// Version describes one version of a tenant's DEK. It holds no key.
type Version struct {
	Number  int     `json:"version"`
	KeyID   string  `json:"key_id"`
	KeyType KeyType `json:"key_type"`
	State   State   `json:"state"`

	CreatedAt     time.Time `json:"created_at,omitzero"`
	ActivatedAt   time.Time `json:"activated_at,omitzero"`
	DeactivatedAt time.Time `json:"deactivated_at,omitzero"`
	DestroyedAt   time.Time `json:"destroyed_at,omitzero"`
	// DestroyAfter is when the page key of a version that no page is on any more
	// is to be destroyed; zero while that is not settled, and once it is done.
	DestroyAfter time.Time `json:"destroy_after,omitzero"`

	// PageKeyDestroyed says that of a deactivated version only the external key
	// is left, which opens ciphertexts outside.
	PageKeyDestroyed bool `json:"page_key_destroyed,omitempty"`

	// PageKeyDestroyedAt and ExternalKeyDestroyedAt are when each key of the version was
	// destroyed; zero while it is there, and of an external key that never was.
	PageKeyDestroyedAt     time.Time `json:"page_key_destroyed_at,omitzero"`
	ExternalKeyDestroyedAt time.Time `json:"external_key_destroyed_at,omitzero"`
	// ExternalKeyEnds says that the version has an external key and that it is about to
	// be destroyed. Once it is, nothing else tells that there was one.
	ExternalKeyEnds bool `json:"external_key_ends,omitempty"`
	// Gone is set while every holder has reported that it keeps nothing of the version.
	Gone Gone `json:"reported_gone,omitzero"`

	// RotationID is the rotation that made this version, empty for the first. Request is
	// a digest of its idempotency key, by which a repeated request is recognized.
	RotationID string `json:"rotation_id,omitempty"`
	Request    string `json:"request,omitempty"`
	// IdempotencyKey is what an earlier version stored in the place of Request.
	IdempotencyKey string `json:"idempotency_key,omitempty"`

	// Fingerprint is of a page key that its owner imported, empty for one that was
	// made here: see [Fingerprint].
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Gone says that no holder keeps anything of a version any more, and what follows from it.
type Gone struct {
	// At is when the last of the holders had reported it; zero: one may keep something.
	At time.Time `json:"at,omitzero"`
	// DestroyAfter is when the external key is to be destroyed.
	DestroyAfter time.Time `json:"destroy_after,omitzero"`
	// TriedAt is when something of the version was last opened, or refused, since At.
	TriedAt time.Time `json:"tried_at,omitzero"`
}

// PageKeyGone returns when the version's page key was destroyed, zero while it is there.
func (v *Version) PageKeyGone() time.Time {
	if v.PageKeyDestroyedAt.IsZero() && v.State == Destroyed && !v.PageKeyDestroyed {
		return v.DestroyedAt // by a version of the engine that did not note it apart
	}
	return v.PageKeyDestroyedAt
}

// MarkDestroyed notes that the version's keys are gone.
func (v *Version) MarkDestroyed(now time.Time) {
	v.State, v.DestroyedAt, v.DestroyAfter, v.Gone = Destroyed, now, time.Time{}, Gone{}
	if !v.PageKeyDestroyed {
		v.PageKeyDestroyedAt = now
	}
	if v.ExternalKeyEnds {
		v.ExternalKeyEnds, v.ExternalKeyDestroyedAt = false, now
	}
}

// Ring lists the versions of a tenant's DEK, oldest first. A ring changes in memory
// only; the stored record decides.
type Ring struct {
	// Next is the number that the next version gets. A number is taken when the
	// record that names it is stored, and never given again.
	Next     int       `json:"next_version"`
	Versions []Version `json:"versions"`
}

// NewRing returns a ring whose only version, 1, is active.
func NewRing(keyID string, t KeyType, now time.Time) Ring {
	r := Ring{Next: 1}
	r.Add(Version{KeyID: keyID, KeyType: t, CreatedAt: now})
	r.Activate(1, now)
	return r
}

// Clone returns a copy that shares nothing with r.
func (r Ring) Clone() Ring {
	r.Versions = slices.Clone(r.Versions)
	return r
}

// Add names v, pending, under the next number, which it returns.
func (r *Ring) Add(v Version) int {
	v.Number, v.State = r.Next, Pending
	r.Next++
	r.Versions = append(r.Versions, v)
	return v.Number
}

// Find returns the version of that number, or nil.
func (r *Ring) Find(number int) *Version {
	for i := len(r.Versions) - 1; i >= 0; i-- {
		if r.Versions[i].Number == number {
			return &r.Versions[i]
		}
	}
	return nil
}

// Usable returns the version of that number if its key is there to open with.
// It fails with [ErrNoVersion] or [ErrVersionDestroyed].
func (r *Ring) Usable(number int) (*Version, error) {
	v := r.Find(number)
	switch {
	case r.WasDestroyed(number):
		return nil, fmt.Errorf("version %d: %w", number, ErrVersionDestroyed)
	case v == nil:
		return nil, fmt.Errorf("version %d: %w", number, ErrNoVersion)
	case v.State == Destroyed:
		return nil, fmt.Errorf("version %d: %w", number, ErrVersionDestroyed)
	}
	return v, nil
}

// Active returns the version that seals. There is always one.
func (r *Ring) Active() *Version {
	for i := len(r.Versions) - 1; i >= 0; i-- {
		if r.Versions[i].State == Active {
			return &r.Versions[i]
		}
	}
	panic("keyring: a ring without an active version")
}

// ActiveNumber returns the number of the active version, 0 if there is none.
func (r *Ring) ActiveNumber() int {
	v := r.Match(func(v *Version) bool { return v.State == Active })
	if v == nil {
		return 0
	}
	return v.Number
}

// WasDestroyed reports whether the version of that number was in the ring, and has left
// it since it was destroyed.
func (r *Ring) WasDestroyed(number int) bool {
	return number > 0 && number < r.Next && r.Find(number) == nil
}

// Match returns the first version for which ok holds, or nil.
func (r *Ring) Match(ok func(*Version) bool) *Version {
	for i := range r.Versions {
		if ok(&r.Versions[i]) {
			return &r.Versions[i]
		}
	}
	return nil
}

// Activate makes the version of that number the active one and deactivates the one
// that was. It panics on a number that is unknown or destroyed, which is a bug.
func (r *Ring) Activate(number int, now time.Time) {
	r.Reactivate(number, now)
	r.Find(number).ActivatedAt = now
}

// Reactivate is Activate for a version that was active before. It keeps its age.
func (r *Ring) Reactivate(number int, now time.Time) {
	next, err := r.Usable(number)
	if err != nil {
		panic("keyring: activate: " + err.Error())
	}
	for i := range r.Versions {
		if v := &r.Versions[i]; v.State == Active {
			v.State, v.DeactivatedAt = Deactivated, now
		}
	}
	next.State, next.DeactivatedAt, next.Gone = Active, time.Time{}, Gone{}
}

// Destroy marks the version of that number destroyed; its key must be gone. It stays in
// the ring while it is among the latest 100 versions. The active version is never
// destroyed: to ask for it is a mistake of the program, and panics.
func (r *Ring) Destroy(number int, now time.Time) {
	v := r.Find(number)
	if v == nil || v.State == Active {
		panic(fmt.Sprintf("keyring: destroy version %d", number))
	}
	v.MarkDestroyed(now)
	r.forget()
}

// DestroyPageKey notes that the page key of a version is deleted. With that the
// version is destroyed, unless it is in use outside: then its external key stays
// and still opens ciphertexts.
func (r *Ring) DestroyPageKey(number int, external bool, now time.Time) {
	if !external {
		r.Destroy(number, now)
		return
	}
	v := r.Find(number)
	if v == nil || v.State != Deactivated {
		panic(fmt.Sprintf("keyring: destroy the page key of version %d", number))
	}
	if !v.PageKeyDestroyed {
		v.PageKeyDestroyedAt = now
	}
	v.PageKeyDestroyed, v.DestroyAfter = true, time.Time{}
}

// MakeRoom makes room for another version, and reports whether there is: if the ring is
// full, the oldest destroyed versions leave it ahead of time.
func (r *Ring) MakeRoom() bool {
	r.forget()
	over := len(r.Versions) - MaxVersions + 1
	r.Versions = slices.DeleteFunc(r.Versions, func(v Version) bool {
		if over <= 0 || v.State != Destroyed {
			return false
		}
		over--
		return true
	})
	return over <= 0
}

// forget lets destroyed versions leave the ring that are older than the latest 100.
func (r *Ring) forget() {
	r.Versions = slices.DeleteFunc(r.Versions, func(v Version) bool {
		return v.State == Destroyed && v.Number < r.Next-1-keepDestroyed
	})
}
