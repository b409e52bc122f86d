// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package keyring holds what is known about a tenant's keys and does the
// cryptography with them. It knows neither Vault nor storage.
//
// Keys form a hierarchy. The mount has a key-encryption key (KEK); under it,
// wrapped, each tenant has a data-encryption key (DEK) per version:
//
//	Vault's barrier
//	└── KEK of the mount               wraps keys, nothing else
//	    ├── placement key of a tenant  keys the hash that places items on pages
//	    ├── page key of a version      seals the tenant's pages
//	    └── external key of a version  seals what leaves the engine
//
// A wrapped key is bound to its tenant, incarnation, key ID and key type: moved
// to another place in storage, it does not open. See [Binding].
//
// The page key and the external key of a version are independent of each other: a
// rotation re-encrypts the pages and destroys the page key, while what has left
// the engine cannot be re-encrypted here, and keeps the external one.
//
// A page key is made here at random, or comes from the tenant's owner, wrapped
// under an RSA key of the mount: see [Import] and [WrappingKey].
//
// A [Ring] lists a tenant's versions and their states after NIST SP 800-57 part
// 1, section 7: exactly one version is active and seals; deactivated ones only
// open; the key of a destroyed one is gone. Version numbers only grow.
//
// What this package must never do: name a key, or a text that arrived with one, in
// an error; say why a ciphertext or an import does not open; take a
// nonce from a caller.
package keyring
