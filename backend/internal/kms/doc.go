// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package kms speaks to external key management services: each wraps and unwraps a few
// bytes under a key that it keeps to itself.
//
// A service stands on go-kms-wrapping's interface, and has the names and parameters of
// Vault's seal stanzas. Its wrappers cannot be kept from what this package must not touch:
// the one for transit sends the token in VAULT_TOKEN to any address that a request names
// (docs/adr/057-clouds-without-their-environment.md has the others). So transit is spoken
// here, and a cloud's own module is told everything.
//
// # What it takes from its surroundings
//
// Nothing. A service is set up by a request, so it must not get at what the server has: no
// environment variable, no file, no identity of the instance, no proxy. Sockets lie below
// one directory, which the plugin's arguments name.
//
// # What it must never do
//
// Put a credential, key material or what was wrapped into an error. Take an answer for a
// [Refusal] that can mean anything else.
package kms
