// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package provider keeps key providers: keys outside of Vault's storage that wrap
// key-encryption keys (KEKs), so that whoever owns such a key can take it back.
//
//	providers/<name>    a provider's settings and credentials (seal-wrapped)
//
// Package kms speaks to the provider. What it wraps is a KEK together with the place where
// that belongs ([Place]). The place is the associated data too, where the provider has
// such. Both are checked after opening.
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
