// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package report makes of a verified log what auditors ask for: each tenant with its
// cryptoperiod, its rotations, what they left and what was destroyed, by whom, and a
// certificate of erasure for each tenant that was shredded. It is a page that prints,
// CSV, or JSON.
package report

import (
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/verify"
)

// Options say what a report is about.
type Options struct {
	// From and To bound it: what happened from From on, before To.
	From, To time.Time
	// TenantID limits it to one tenant, if it is not empty.
	TenantID string
	// Proof returns the tlog-proof of an entry, for the entries that the report names.
	// It may be nil.
	Proof func(index int64) (string, error)
	// Now is when the report is made.
	Now time.Time
}

// Report is what is reported.
type Report struct {
	GeneratedAt time.Time        `json:"generated_at"`
	From        time.Time        `json:"from"`
	To          time.Time        `json:"to"`
	Log         Log              `json:"log"`
	Holds       []verify.Finding `json:"holds"`
	Broken      []verify.Finding `json:"broken"`
	Controls    []Control        `json:"controls"`
	Tenants     []Tenant         `json:"tenants"`
	Erasures    []Erasure        `json:"erasures"`
}

// Log is the log that the report is of.
type Log struct {
	Origin     string `json:"origin"`
	Size       int64  `json:"size"`
	RootHash   string `json:"root_hash"`
	Checkpoint string `json:"checkpoint"`
	Trusted    bool   `json:"trusted"`
}

// Tenant is an incarnation that existed within the time of the report.
type Tenant struct {
	TenantID    string     `json:"tenant_id"`
	Incarnation string     `json:"incarnation"`
	State       string     `json:"state"`
	CreatedAt   *time.Time `json:"created_at"`
	// Interval and KeyAge are in seconds: the cryptoperiod that is set, and how old the
	// active key is at the end of the report.
	Interval      int64      `json:"rotation_interval"`
	ActiveVersion int64      `json:"active_version"`
	ActiveSince   *time.Time `json:"active_since"`
	KeyAge        int64      `json:"key_age"`
	Rotations     []Rotation `json:"rotations"`
	Destroyed     []Key      `json:"destroyed"`
}

// Rotation is one that began or ended within the time of the report.
type Rotation struct {
	RotationID      string          `json:"rotation_id"`
	PreviousVersion int64           `json:"previous_version"`
	NewVersion      int64           `json:"new_version"`
	PreviousKeyID   string          `json:"previous_key_id"`
	NewKeyID        string          `json:"new_key_id"`
	Status          string          `json:"status"`
	StartedAt       time.Time       `json:"started_at"`
	EndedAt         *time.Time      `json:"ended_at"`
	Actor           string          `json:"actor"`
	Trigger         string          `json:"trigger"`
	Items           evidence.Counts `json:"items"`
	PagesLeft       int64           `json:"pages_on_previous_version"`
	// Late is by how many seconds it began after its interval.
	Late int64 `json:"late"`
	// Entry is the entry that ends it, or begins it while it is unfinished.
	Entry int64  `json:"entry"`
	Proof string `json:"proof,omitempty"`
}

// Key is a key that was destroyed.
type Key struct {
	Version      int64     `json:"version"`
	KeyID        string    `json:"key_id"`
	Which        string    `json:"which"`
	Why          string    `json:"why"`
	DestroyedAt  time.Time `json:"destroyed_at"`
	Actor        string    `json:"actor"`
	PagesScanned int64     `json:"pages_scanned"`
	PagesLeft    int64     `json:"pages_left"`
	Entry        int64     `json:"entry"`
	Proof        string    `json:"proof,omitempty"`
}

// Erasure is a certificate of erasure, with the fields of NIST SP 800-88r2.
type Erasure struct {
	TenantID    string          `json:"tenant_id"`
	Incarnation string          `json:"incarnation"`
	ShreddedAt  time.Time       `json:"shredded_at"`
	Actor       string          `json:"actor"`
	Items       evidence.Counts `json:"items"`
	Versions    int64           `json:"versions"`
	Method      string          `json:"method"`
	Keys        []Key           `json:"keys"`
	Entry       int64           `json:"entry"`
	Proof       string          `json:"proof,omitempty"`
}

const method = "Cryptographic erase (NIST SP 800-88r2, purge): the keys that the data are encrypted under were destroyed."

// builder makes a report.
type builder struct {
	options Options
	err     error
}

// New makes the report of a verified log.
func New(result *verify.Result, options Options) (*Report, error) {
	b := &builder{options: options}
	r := &Report{
		GeneratedAt: options.Now.UTC(), From: options.From.UTC(), To: options.To.UTC(),
		Log: Log{
			Origin: result.Origin, Size: result.Size, RootHash: result.Root,
			Checkpoint: string(result.Checkpoint), Trusted: result.Trusted,
		},
		Holds: result.Holds, Broken: result.Broken, Controls: controls,
		Tenants: []Tenant{}, Erasures: []Erasure{},
	}
	if result.History == nil {
		return r, nil
	}
	for _, t := range result.History.Tenants() {
		if options.TenantID != "" && t.ID != options.TenantID || !b.existed(t) {
			continue
		}
		r.Tenants = append(r.Tenants, b.tenant(t))
		if t.Shredded != nil && b.within(t.Shredded.At) {
			r.Erasures = append(r.Erasures, b.erasure(t))
		}
	}
	return r, b.err
}

func (b *builder) within(at time.Time) bool {
	return !at.Before(b.options.From) && at.Before(b.options.To)
}

// existed reports whether there was such a tenant within the time of the report.
func (b *builder) existed(t *history.Tenant) bool {
	return t.CreatedAt.Before(b.options.To) && (t.Shredded == nil || !t.Shredded.At.Before(b.options.From))
}

func (b *builder) proof(index int64) string {
	if b.options.Proof == nil || b.err != nil || index < 0 {
		return ""
	}
	var text string
	text, b.err = b.options.Proof(index)
	return text
}

func (b *builder) tenant(t *history.Tenant) Tenant {
	row := Tenant{
		TenantID: t.ID, Incarnation: t.Incarnation, State: t.State(), Interval: int64(t.Interval / time.Second),
		Rotations: []Rotation{}, Destroyed: []Key{},
	}
	if !t.CreatedAt.IsZero() {
		row.CreatedAt = &t.CreatedAt
	}
	if active, since := t.Active(); active != nil && t.Shredded == nil {
		row.ActiveVersion, row.ActiveSince = active.Number, &since
		row.KeyAge = int64(max(0, earlier(b.options.To, b.options.Now).Sub(since)) / time.Second)
	}
	for _, r := range t.Rotations {
		if b.within(r.StartedAt) || r.EndedAt != nil && b.within(*r.EndedAt) {
			row.Rotations = append(row.Rotations, b.rotation(r))
		}
	}
	for _, key := range keysOf(t) {
		if b.within(key.DestroyedAt) {
			key.Proof = b.proof(key.Entry)
			row.Destroyed = append(row.Destroyed, key)
		}
	}
	return row
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (b *builder) rotation(r *history.Rotation) Rotation {
	row := Rotation{
		RotationID: r.RotationID, PreviousVersion: r.PreviousVersion, NewVersion: r.NewVersion,
		PreviousKeyID: r.PreviousKeyID, NewKeyID: r.NewKeyID, Status: r.Status, StartedAt: r.StartedAt,
		EndedAt: r.EndedAt, Actor: r.Actor, Trigger: r.Trigger, Late: int64(r.Late / time.Second), Entry: r.Index,
		Items: evidence.Counts{},
	}
	if r.End != nil {
		row.Items, row.PagesLeft, row.Entry = r.End.ItemsAfter, r.End.PagesOnPreviousVersion, r.EndIndex
	}
	row.Proof = b.proof(row.Entry)
	return row
}

// keysOf returns the keys of a tenant that were destroyed, in their order.
func keysOf(t *history.Tenant) []Key {
	keys := []Key{}
	add := func(version int64, which string, d *history.Destruction) {
		keys = append(keys, Key{
			Version: version, KeyID: d.KeyID, Which: which, Why: d.Why, DestroyedAt: d.At, Actor: d.Actor,
			PagesScanned: d.PagesScanned, PagesLeft: d.PagesLeft, Entry: d.Index,
		})
	}
	for _, v := range t.Versions {
		for which, d := range v.Destroyed {
			add(v.Number, which, d)
		}
	}
	for _, d := range t.Other {
		add(0, d.Which, d)
	}
	slices.SortFunc(keys, func(a, b Key) int { return int(a.Entry - b.Entry) })
	return keys
}

func (b *builder) erasure(t *history.Tenant) Erasure {
	e := Erasure{
		TenantID: t.ID, Incarnation: t.Incarnation, ShreddedAt: t.Shredded.At, Actor: t.Shredded.Actor,
		Items: t.Shredded.Items, Versions: t.Shredded.Versions, Method: method, Keys: keysOf(t),
		Entry: t.Shredded.Index, Proof: b.proof(t.Shredded.Index),
	}
	for i := range e.Keys {
		e.Keys[i].Proof = b.proof(e.Keys[i].Entry)
	}
	return e
}
