// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package rotation creates tenants and rotates their keys. A creation is a rotation from
// nothing. The package owns the order of writes and the recovery of what was interrupted;
// package destruction ends keys. It works in the background by itself ([Engine.Drive]).
//
// A rotation starts with three writes under the tenant's exclusive lock:
//
//  1. an intent in the write-ahead log, which names the new key and holds no key material;
//  2. the new page key, wrapped, under that name;
//  3. the tenant's record, which makes the new version the active one and names
//     the unfinished rotation. This is the commit point.
//
// From then on every write uses the new version, and a [Run] moves the pages:
// [Run.Pending] lists those not yet seen on the new version, [Run.Move] moves
// one, until a fresh List shows none. A page's header says which version it is
// on, so there is no cursor, and moving a page twice is harmless. [Run.Finish] then
// ends the rotation. By default the old key is kept for a while: the record says that
// the rotation is over and when the key is to be destroyed, then the intent is deleted.
// Later, package destruction reads every page again and destroys the key. Without a
// retention the order is: phase retiring, the old key deleted, the record, the intent. The
// record describes the rotation until the next one ends: before that Put it is filed in
// the history.
//
// An import ([Request.Material]) differs in step 2 alone. A failed rotation ([Retry], or
// [Engine.RetryFailed] for the schedule) goes on under a new intent.
//
// A cancelled rotation runs the other way and rewrites every page, also those whose
// header names the old version: a forward write that failed may have taken effect
// unseen, and the new key is about to be destroyed.
//
// After a crash at any point, [Engine.Recover] decides by the intent and the tenant's
// record alone how to go on.
//
// The package has no storage prefix of its own but the intents in the write-ahead log.
// It holds the tenant's lock exclusively to start, end, control and recover a rotation,
// and shared for each page.
//
// # What it must never do
//
// Destroy a key while a page may be on it, or the active one. Delete an intent without
// putting the record again as it was read, unless the rotation has ended here. Put key
// material into an intent.
package rotation
