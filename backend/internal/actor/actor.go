// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package actor names the caller that asked for a rotation, a deletion or a change, as
// records and history keep it. It knows nothing of how Vault authenticates callers.
package actor

// Actor identifies the caller that asked for something.
type Actor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// System is the engine itself, which acts by its schedule.
var System = Actor{ID: "system", Name: "system"}
