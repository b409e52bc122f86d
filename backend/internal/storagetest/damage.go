// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storagetest

import (
	"errors"
	"maps"
	"strings"
)

// What a read of a damaged entry fails with. The first two are as Vault's barrier and
// gRPC bring them.
var (
	ErrAltered = errors.New("decryption failed: cipher: message authentication failed")
	ErrTerm    = errors.New("no decryption key available for term 7")
	// ErrUnread is an error that Vault's barrier does not have: only that it stays
	// tells that an entry is damaged.
	ErrUnread = errors.New("input/output error")
)

// damage is what of a disk cannot be read.
type damage struct {
	unreadable map[string]error // by key
	unlistable map[string]error // by prefix
	hidden     map[string]bool  // listed, and shows nothing
}

func (d *damage) clone() damage {
	return damage{maps.Clone(d.unreadable), maps.Clone(d.unlistable), maps.Clone(d.hidden)}
}

// mend notes that an entry was written or deleted.
func (d *damage) mend(key string) {
	delete(d.unreadable, key)
	delete(d.hidden, key)
}

// Damage lets every Get of the entries that match fail with err, until they are
// written or deleted, or Heal is called. It returns how many there are. Vault's cache
// does not hide it.
func (d *Disk) Damage(err error, match func(key string) bool) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unreadable == nil {
		d.unreadable = map[string]error{}
	}
	for key := range d.entries {
		if match(key) {
			d.unreadable[key] = err
			n++
		}
	}
	return n
}

// Hide lets the entries that match be listed and show nothing, until they are written
// or deleted, or Heal is called. It returns how many there are.
func (d *Disk) Hide(match func(key string) bool) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hidden == nil {
		d.hidden = map[string]bool{}
	}
	for key := range d.entries {
		if match(key) {
			d.hidden[key] = true
			n++
		}
	}
	return n
}

// DamageList lets every List of a prefix fail with err until Heal is called.
func (d *Disk) DamageList(err error, prefix string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unlistable == nil {
		d.unlistable = map[string]error{}
	}
	d.unlistable[prefix] = err
}

// Heal ends all damage.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.damage = damage{}
}

// Damaged returns how many entries and prefixes are damaged still.
func (d *Disk) Damaged() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.unreadable) + len(d.unlistable) + len(d.hidden)
}

func (d *Disk) unlisted(prefix string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unlistable[prefix]
}

// StrikeAt calls strike, which damages the disk, just before the nth operation from
// now.
func (s *Storage) StrikeAt(n int, strike func(*Disk)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damageAt, s.strike = s.ops+n, strike
}

// Below matches the keys that begin with a prefix.
func Below(prefix string) func(key string) bool {
	return func(key string) bool { return strings.HasPrefix(key, prefix) }
}
