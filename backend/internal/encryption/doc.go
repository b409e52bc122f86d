// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package encryption encrypts and decrypts texts that callers keep outside the
// engine. It seals them under the external key of a tenant's active version, and
// stores none of them.
//
// Sealing holds the tenant's lock shared from reading the record until every text
// is sealed. So at the time a ciphertext is made, its version is active and its key is
// in storage. If the active version has no external key yet, the engine releases the
// lock, makes the key under the exclusive lock, and begins again: another version may
// be active by then.
//
// Opening takes no lock. If a version is destroyed meanwhile, a text opens before that
// or not at all.
//
// A text that is refused fails alone, with one of the errors in errors.go. Any
// other error is a fault, and no result of the request is valid.
//
// The package has no storage prefix. It must never say why a ciphertext does not
// authenticate, answer with a key that is not in storage, or keep a plaintext.
package encryption
