// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package settings keeps the configuration of a mount and the rotation settings of its
// organization. Both are entries of their own, cached until they are written. It also
// reads the number of the mount's formats.
//
//	format     the number of the formats; a mount of format 1 has no such entry
//	config     the mount's configuration
//	settings   the rotation interval, and the request to rotate every tenant
//
// One lock covers the read-modify-write of the two. A setting is never answered from a
// read that began before a write of it ended.
package settings

import (
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// Store keeps the settings of one mount. It is safe for concurrent use.
type Store struct {
	mount *storage.Mount
	orgID string // what org_id is while nothing else is configured

	lock     sync.Mutex // covers read-modify-write of the two entries
	config   storage.Value[Config]
	rotation storage.Value[Rotation]
	format   storage.Value[format]
	reading  chan struct{} // holds an element while the format is being read
	watch    func(Config)

	ledger *ledger.Ledger // nil: nothing is logged
	notice ledger.Watch   // when to read the entries for events
	looked bool           // they were since the start; covered by lock
}

// NewStore returns the settings in m. defaultOrgID is the organization's ID until
// one is configured.
func NewStore(m *storage.Mount, defaultOrgID string) *Store {
	return &Store{mount: m, orgID: defaultOrgID, reading: make(chan struct{}, 1), watch: func(Config) {}}
}

// Watch has f called with the configuration when it is read from storage and when it
// was changed. It must be called before the store is used.
func (s *Store) Watch(f func(Config)) { s.watch = f }

// Invalidate forgets what is cached of the storage entry key, which another node
// has changed.
func (s *Store) Invalidate(key string) {
	switch key {
	case configKey:
		s.config.Drop()
	case settingsKey:
		s.rotation.Drop()
	case formatKey:
		s.format.Drop()
	}
}
