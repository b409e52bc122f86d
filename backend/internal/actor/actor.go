// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package actor names the caller that asked for a rotation, a deletion or a change, and
// the request, as records and history keep them. It knows nothing of how Vault
// authenticates callers.
package actor

import (
	"encoding/json"
	"unicode/utf8"
)

// Actor identifies the caller that asked for something. Only the ID is stored with what
// was asked for: who that is lies in one place, where it can be erased (package people).
type Actor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// System is the engine itself, which acts by its schedule.
var System = Actor{ID: "system", Name: "system"}

// Bare returns the actor as records keep it: by the ID alone, unless it is [System].
func (a Actor) Bare() Actor {
	if a == System {
		return a
	}
	return Actor{ID: a.ID}
}

// Named reports whether an actor says more than records keep.
func (a Actor) Named() bool { return a != a.Bare() }

// MarshalJSON leaves out the name and the email: no entry can keep them by mistake. An
// earlier version stored them, and they are read.
func (a Actor) MarshalJSON() ([]byte, error) {
	bare := a.Bare()
	return json.Marshal(struct {
		ID   string `json:"id"`
		Name string `json:"name,omitempty"`
	}{bare.ID, bare.Name})
}

// maxBytes bounds each field of an actor: records keep it.
const maxBytes = 512

// New returns the actor of that name. What is longer than a record keeps is cut off.
func New(id, name, email string) Actor {
	return Actor{ID: bounded(id), Name: bounded(name), Email: bounded(email)}
}

// bounded cuts a text between two characters.
func bounded(s string) string {
	if len(s) <= maxBytes {
		return s
	}
	end := maxBytes
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
