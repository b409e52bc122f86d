// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package holders keeps the places that hold ciphertexts of a tenant, and ends external
// keys once every one of them has reported that it holds nothing of a version any more.
//
// Holders are part of the tenant's record, so each change and what follows from it is one
// Put. docs/model/holders.py is the model of the rules, and docs/design/holders.md says
// why each is needed:
//
//   - A report counts for a version if its scan began when no client could hold a data key
//     of the version any more, with something sealed under it that was not stored yet.
//     Only a time that the engine answered is the start of a scan.
//   - A version is gone while it is deactivated, the tenant's follow_holders is set, there
//     is a holder, and the reports of all holders count for it. Every change of these is
//     followed by [settle] in the same Put.
//   - The external key of a gone version is destroyed after the retention. What was opened,
//     or refused, under it meanwhile makes the retention begin anew, before the answer.
//   - One Put says that the key ends and raises min_decryption_version. From then on
//     nothing under the version opens, and no report takes it back. Then the key is
//     deleted, then the record says that it is.
//
// The package has no storage prefix of its own. It holds the tenant's lock exclusively for
// each change.
//
// # What it must never do
//
// Destroy an external key of a version that a holder may hold, that is active, or that an
// unfinished rotation may make the active one again. Take a time from the clock of a
// caller.
package holders
