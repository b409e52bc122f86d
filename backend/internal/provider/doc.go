// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package provider keeps key providers: keys outside of Vault's storage that wrap
// key-encryption keys (KEKs), so that whoever owns such a key can take it back.
//
//	providers/<name>    a provider's settings and credentials (seal-wrapped)
//
// A provider stands on go-kms-wrapping's interface. What it wraps is a KEK together
// with the place where that belongs ([Place]). The place is the associated data too,
// where the provider has such. Both are checked after opening.
//
// # What it takes from its surroundings
//
// Nothing. A provider is set up by a request, so it must not get at what the server
// has: no environment variable, no file, no identity of the instance. The transit and
// AWS wrappers of go-kms-wrapping cannot be kept from reading the environment (a token
// in VAULT_TOKEN would go to any address that a request names), so transit is spoken
// here. Sockets lie below one directory, which the plugin's arguments name.
//
// # Errors
//
// [ErrDenied] says that the owner withdrew the key, [ErrUnavailable] everything else: a
// provider that is out of reach, and one that answers what cannot be told.
//
// # What it must never do
//
// Put a credential or key material into an error, a log or an answer. Call a provider
// while a lock is held.
package provider
