// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package encryption encrypts and decrypts texts that callers keep outside the
// engine. It seals them under the external key of a tenant's active version, and
// keeps nothing of them.
//
// Sealing holds the tenant's lock shared from reading the record until every text
// is sealed. So each ciphertext is of a version that was active, and of a key that
// was in storage, when it was made. If the active version has no external key yet,
// the engine lets go of the lock, makes the key under the exclusive lock, and
// begins again: the active version may be another one by then.
//
// Opening takes no lock. A version that is destroyed meanwhile opens before that,
// or not at all.
//
// A text that is refused fails alone, with one of the errors in errors.go. Any
// other error is a fault, and nothing of the request holds.
package encryption
