// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package history puts the events of a log together to what happened to each tenant's
// keys, and says where that breaks a rule: a rotation that left pages, a key that
// outlived its retention, an event that is missing.
//
// It judges what the entries say. That the entries are those that were logged is for
// package verify to show.
package history

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A Tenant is one incarnation of a tenant.
type Tenant struct {
	ID, Incarnation string
	// First is the index of the first entry about it, Entries how many there are.
	First   int64
	Entries int64
	// CreatedAt is zero where the log begins after the creation.
	CreatedAt time.Time
	Versions  []*Version
	Rotations []*Rotation
	// Other are the ends of keys that have no version: placement and KEKs.
	Other []*Destruction
	// DeleteAfter is set while a deletion is scheduled.
	DeleteAfter *time.Time
	Shredded    *Shredding
	// Interval is the rotation interval that the latest entry names.
	Interval time.Duration

	seq, last   int64
	active      *Version
	activeSince time.Time
	greatest    int64
}

// A Version is a version of a tenant's key.
type Version struct {
	Number         int64
	KeyID, KeyType string
	Imported       bool
	Fingerprint    string
	ActivatedAt    time.Time
	// ReplacedAt is when the rotation away from it completed, or the rotation to it was
	// rolled back.
	ReplacedAt *time.Time
	// DestroyBy is when its retention ends, nil before it is replaced.
	DestroyBy *time.Time
	// Destroyed are the ends of its keys, by which: page, external.
	Destroyed map[string]*Destruction

	kept bool // a rotation from it failed: pages may need it
}

// A Destruction is the end of a key.
type Destruction struct {
	Index        int64
	At           time.Time
	Which        string
	Why, Actor   string
	KeyID        string
	PagesScanned int64
	PagesLeft    int64
}

// A Rotation is a rotation with its end, if it has one.
type Rotation struct {
	evidence.Rotation
	Index          int64
	StartedAt      time.Time
	Actor, Trigger string
	// Status is in_progress, completed, rolled_back or failed.
	Status   string
	EndIndex int64
	EndedAt  *time.Time
	End      *evidence.RotationEnd
	// Age is for how long the previous version had been active at the start, Late by
	// how much that was more than the interval.
	Age, Late time.Duration
}

// A Shredding is the end of an incarnation.
type Shredding struct {
	evidence.TenantShredded
	Index int64
	At    time.Time
	Actor string
}

// History is what a log says.
type History struct {
	tenants  map[scope]*Tenant
	mount    chain
	ids      map[string]struct{}
	problems []Problem
	partial  bool
}

type scope struct{ tenant, incarnation string }

type chain struct {
	seq, last int64
}

// New returns a history without events. A log after the first begins in the middle of
// its tenants' histories, which partial says.
func New(partial bool) *History {
	return &History{tenants: map[scope]*Tenant{}, ids: map[string]struct{}{}, partial: partial}
}

// Tenants returns the incarnations, by tenant and then by their first entry.
func (h *History) Tenants() []*Tenant {
	return slices.SortedFunc(maps.Values(h.tenants), func(a, b *Tenant) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.First, b.First))
	})
}

// Version returns a version by its number, nil if no entry names it.
func (t *Tenant) Version(number int64) *Version {
	for _, v := range slices.Backward(t.Versions) {
		if v.Number == number {
			return v
		}
	}
	return nil
}

// State is active, deleting or shredded.
func (t *Tenant) State() string {
	switch {
	case t.Shredded != nil:
		return "shredded"
	case t.DeleteAfter != nil:
		return "deleting"
	}
	return "active"
}

// Active returns the version that is active and since when, nil if no entry says.
func (t *Tenant) Active() (*Version, time.Time) { return t.active, t.activeSince }
