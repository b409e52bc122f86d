// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package evidence defines what the engine attests about its keys: the events, the
// exact bytes of a log entry, and the formats of the log that holds them. Somebody
// without Vault can verify a log with package evidence/verify.
//
// # Entries
//
// An entry (a leaf of the log's Merkle tree) is an in-toto Statement v1 in canonical
// JSON (RFC 8785) of at most [MaxLeaf] bytes. Its values are strings, whole numbers
// from 0 to 2^53-1, booleans, null, arrays and objects: no fractions and no negative
// numbers, so canonical JSON needs no rule for floating point here. Times are RFC
// 3339 in UTC, durations are whole seconds. [Decode] accepts only the bytes that
// [Encode] makes: an event has one spelling.
//
// An entry never holds a secret, an item's name or a key. A person appears as a random
// ID, a reason as a salted hash ([HashReason]), so both can be erased beside the log.
//
// # The log
//
// The formats are C2SP's: tlog-tiles, tlog-checkpoint, signed-note with Ed25519,
// tlog-cosignature and tlog-proof. The log's name is its [Origin]. Each event of a
// tenant names its sequence number in its tenant's incarnation, from 1 without gaps,
// and the index of the event before it. The events of the mount, which name no
// tenant, are such a sequence too.
package evidence
