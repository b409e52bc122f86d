// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"strings"

	"github.com/google/uuid"
)

// names holds the display names of a shard's tenants, in lower case, one behind the
// other. An entry has the place of its name, so the index has no pointer that the garbage
// collector would follow: a name costs its bytes and six more. Bytes are never changed
// in place: what a reader has of them stays as it is without the shard's lock.
type names struct {
	text   []byte
	unused int // bytes of names that no entry has any more
}

// minUnused is how many bytes may be unused before names are packed.
const minUnused = 4096

// of returns the name of an entry.
func (n *names) of(e *entry) []byte { return n.text[e.nameAt:][:e.nameLen:e.nameLen] }

// add gives an entry a name, whatever it had.
func (n *names) add(e *entry, name string) {
	e.nameAt, e.nameLen = uint32(len(n.text)), uint16(len(name)) // #nosec G115 -- a display name has at most 512 bytes, a shard some thousands
	n.text = append(n.text, name...)
}

// fold returns a display name as it is searched and sorted.
func fold(name string) string { return strings.ToLower(name) }

// rename gives the entry of a tenant, if there is one, another name. s.mu is held.
func (s *shard) rename(id uuid.UUID, displayName string) {
	i, found := s.find(id)
	if !found {
		return
	}
	e, name := &s.entries[i], fold(displayName)
	if string(s.names.of(e)) == name {
		return
	}
	s.names.unused += int(e.nameLen)
	s.names.add(e, name)
	if s.names.unused > minUnused && s.names.unused > len(s.names.text)/2 {
		s.packNames()
	}
}

// packNames drops the names that no entry has any more. s.mu is held.
func (s *shard) packNames() {
	var packed names
	for i := range s.entries {
		packed.add(&s.entries[i], string(s.names.of(&s.entries[i])))
	}
	s.names = packed
}
