// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package evidencelog keeps the mount's evidence log in Vault's storage: an
// append-only Merkle tree in the formats of C2SP. Package evidence has the formats
// of an entry and of a checkpoint.
//
// # Entries in storage, of the nth log
//
//	evidence/keys/<n>-<k>                     signing key k of log n, seal-wrapped
//	evidence/log/<n>/checkpoint/<epoch>/<size> the signed note
//	evidence/log/<n>/chunk/<epoch>/<size>     the entries from the checkpoint before
//	evidence/log/<n>/tile/<level>/<size>      a complete tile, 256 hashes
//	evidence/log/<n>/edge/<size>              the incomplete tile of each level
//	evidence/log/<n>/index/<level>/<n>/<part> which entries are about which tenant
//	evidence/log/<n>/cosignatures/<size>      what witnesses signed
//	evidence/started, evidence/witnesses
//
// Everything below log/, but index and cosignatures, is written once and named by the
// size of the log at which it ends. A batch is one chunk, so the sizes of the
// checkpoints are where the chunks end. An epoch has 1,024 entries, and no batch goes
// beyond its end: no epoch before the last is empty, and each List is short.
//
// # Rules
//
// The order of writes is chunk, tiles, checkpoint. The Put of the checkpoint commits
// the batch. Nothing beyond the greatest checkpoint counts, and only that may be
// overwritten, so a List is made before the first write of a batch and again before it
// is signed. The greatest checkpoint that a List shows decides, whoever wrote it:
// List is not cached, so it also shows a checkpoint whose Put failed after it took
// effect. Such a checkpoint is rebuilt from its chunk and written again: signatures of
// Ed25519 are deterministic, so the bytes are the same.
//
// A Put that failed is repeated with the same bytes until it succeeds or the engine
// ends. The engine's context is looked at before signing and before the Put. A
// checkpoint is shown to nobody before its Put has succeeded. So two roots of one size
// are never shown, as long as Vault starts an instance of the engine only after the
// one before has ended, which it does; a restored snapshot is what witnesses find.
package evidencelog
