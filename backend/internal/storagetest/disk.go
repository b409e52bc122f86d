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
		entries: maps.Clone(d.entries), stale: maps.Clone(d.stale), notes: maps.Clone(d.notes), damage: d.clone(),
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
	var keys []string
	for k := range d.entries {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
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
		delete(d.entries, key)
		return
	}
	d.entries[key] = logical.StorageEntry{Key: key, Value: slices.Clone(value)}
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
