// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storagetest

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// Disk is the storage that survives a crash.
type Disk struct {
	mu      sync.Mutex
	entries map[string]logical.StorageEntry
	sorted  []string                         // the keys of entries
	stale   map[string]*logical.StorageEntry // what Vault's cache wrongly shows
	notes   map[string]int                   // what a test counts, over crashes too

	damage // what cannot be read
}

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	return &Disk{
		entries: map[string]logical.StorageEntry{}, stale: map[string]*logical.StorageEntry{}, notes: map[string]int{},
	}
}

// Clone returns a copy of the disk.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{
		entries: maps.Clone(d.entries), sorted: slices.Clone(d.sorted), stale: maps.Clone(d.stale), notes: maps.Clone(d.notes), damage: d.clone(),
	}
}

// Note counts something that has happened, for the test.
func (d *Disk) Note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes[what]++
}

// Noted returns how often something was noted.
func (d *Disk) Noted(what string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notes[what]
}

// RestartVault drops Vault's cache.
func (d *Disk) RestartVault() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.stale)
}

// Keys returns the keys of the entries on disk that have a prefix, sorted.
func (d *Disk) Keys(prefix string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, _ := slices.BinarySearch(d.sorted, prefix)
	to := from
	for to < len(d.sorted) && strings.HasPrefix(d.sorted[to], prefix) {
		to++
	}
	if from == to {
		return nil
	}
	return slices.Clone(d.sorted[from:to])
}

// put stores an entry. The caller holds d.mu.
func (d *Disk) put(e logical.StorageEntry) {
	if at, found := slices.BinarySearch(d.sorted, e.Key); !found {
		d.sorted = slices.Insert(d.sorted, at, e.Key)
	}
	d.entries[e.Key] = e
}

// remove deletes an entry. The caller holds d.mu.
func (d *Disk) remove(key string) {
	if at, found := slices.BinarySearch(d.sorted, key); found {
		d.sorted = slices.Delete(d.sorted, at, at+1)
	}
	delete(d.entries, key)
}

// Value returns the value on disk, nil if there is none.
func (d *Disk) Value(key string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries[key].Value)
}

// Set changes the value on disk behind everyone's back; nil removes it.
func (d *Disk) Set(key string, value []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.stale, key)
	d.mend(key)
	if value == nil {
		d.remove(key)
		return
	}
	d.put(logical.StorageEntry{Key: key, Value: slices.Clone(value)})
}

// keepStale lets Get go on showing what it shows now. The caller holds d.mu.
func (d *Disk) keepStale(key string) {
	if _, already := d.stale[key]; already {
		return
	}
	if e, found := d.entries[key]; found {
		d.stale[key] = clone(&e)
	} else {
		d.stale[key] = nil
	}
}

func clone(e *logical.StorageEntry) *logical.StorageEntry {
	if e == nil {
		return nil
	}
	return &logical.StorageEntry{Key: e.Key, Value: slices.Clone(e.Value), SealWrap: e.SealWrap}
}
