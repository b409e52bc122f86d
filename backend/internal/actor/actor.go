// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package actor

// Actor is who asked for a rotation.
type Actor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}
