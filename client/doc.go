// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package client calls the DEK secrets engine of a Vault server, and encrypts in
// the process under keys that the engine hands out.
//
// # Encrypting
//
// [Tenant.AEAD] is a [tink.AEAD]. It seals each message under a data key, which
// the engine made and answered together with a copy that is sealed by the
// tenant's DEK. The copy travels in front of each message (an envelope), so
// Vault is asked once per data key and not once per message:
//
//	dek:v<version>:e1.<key>.<sealed>
//
// [Tenant.EncryptStream] and [Tenant.DecryptStream] do the same for a file, which
// has a data key of its own in its first line.
//
// # What it keeps, and for how long
//
// The engine can destroy a version of a key, a key provider can be denied and a
// tenant can be deleted. What this package holds must not outlive that by much.
// So an opened data key is kept for [DefaultMaxAge] at most, and never longer
// than the lease that the engine answers with it. The time counts from before the
// request that brought the key, and ends by the earlier of the monotonic and the
// wall clock: the first stands still while a machine sleeps, the second can be
// set back. After that the engine is asked again, and its refusal is final.
//
// Key bytes are cleared once a cipher is made of them. The cipher is dropped at its
// end, on eviction and on [AEAD.Close]. Go gives no way to overwrite the key
// schedule inside it: it is garbage from then on.
//
// # Retries
//
// Each call is repeated only as far as repeating is harmless: see [Client] and
// [OutcomeUnknown].
//
// This package imports nothing of the engine. It must never log, and no error of
// it may hold a plaintext, a key, a token or an item's name.
package client
