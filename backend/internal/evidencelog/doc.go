// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package evidencelog keeps the mount's evidence log in Vault's storage: an
// append-only Merkle tree in the formats of C2SP. Package evidence has the formats
// of an entry and of a checkpoint.
//
// # Entries in storage, of the nth log
//
//	evidence/epochs/<epoch>                          an appender has begun
//	evidence/log/<n>/chunk/<block>/<from>-<to>-<epoch> entries, as their appender wrote them
//	evidence/log/<n>/checkpoint/<block>/<size>       the signed note
//	evidence/log/<n>/tile/<level>/<size>             a complete tile, 256 hashes
//	evidence/log/<n>/edge/<size>                     the incomplete tile of each level, of some sizes
//	evidence/log/<n>/index/<level>/<n>/<part>        which entries are about which tenant
//	evidence/started                                 the latest start with another binary
//
// Everything below log/, but the index, is written once and named by the size of the log
// at which it ends. A batch is one chunk and one checkpoint. A block has 1,024 entries,
// and no batch goes beyond its end: no block before the last is empty, and each List is
// short.
//
// # Rules
//
// They are those of docs/model/README.md, which docs/model/evidence.py checks.
//
// An appender begins with an epoch, one more than the greatest that a List shows; the
// Put of it comes before everything else. A batch is written in the order chunk, complete
// tiles, checkpoint. A Put that failed is repeated with the same bytes until it succeeds or
// the engine ends. The engine's context is looked at before each Put and again before
// signing. A checkpoint is shown to nobody before its Put has succeeded. The edge only
// spares the next start work, so the appender tries to put it once, when nothing waits.
//
// The greatest checkpoint that a List shows decides, whoever wrote it: List is not
// cached, so it also shows a checkpoint whose Put failed after it took effect. Such a
// checkpoint is made again from its chunk: signatures of Ed25519 are deterministic, so
// the bytes are the same.
//
// A chunk that begins where the greatest checkpoint ends is completed and never replaced:
// its appender may have signed it and died before the checkpoint was stored. So all
// checkpoints that were ever signed, stored or not, are prefixes of each other, as long
// as a write of an instance that succeeds only after the next one has begun finds its
// context over, which Vault sees to. A restored snapshot is what witnesses find.
//
// A chunk that begins there, is listed and cannot be read may have been signed: if that
// lasts while storage answers, the log ends and the next one begins.
package evidencelog
