// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package rotation is the state machine that rotates a tenant's key. It has no
// goroutines and no clock of its own: who drives it decides what runs when.
//
// A rotation starts with three writes under the tenant's exclusive lock:
//
//  1. an intent in the write-ahead log, which names the key to be, no key;
//  2. the new page key, wrapped, under that name;
//  3. the tenant's record, which makes the new version the active one and names
//     the unfinished rotation. This is the commit point.
//
// From then on every write uses the new version, and [Run] moves the pages:
// [Run.Pending] lists those not yet seen on the new version, [Run.Move] moves
// one, until a fresh List shows none. A page's header says which version it is
// on, so there is no cursor, and doing it again does no harm. [Run.Finish] then
// ends it. By default the old key is kept for a while: the record says that the
// rotation is over and until when, then come the history and the intent; once the
// time has come, [Engine.DestroyRetired] reads every page again and destroys the
// key. Without a retention the order is phase retiring, the old key deleted, the
// record, the history, the intent.
//
// A rotation to a key that a tenant's owner has made ([Request.Material]) differs
// in step 2 alone. A failed one ([Retry], or [Engine.TryAgain] for the schedule)
// goes on under a new intent.
//
// A cancelled rotation runs the other way and rewrites every page whatever its
// header says: a forward write that failed may have taken effect unseen, and
// the new key is about to go.
//
// Whatever dies at whatever moment, [Engine.Recover] knows from the intent and
// the tenant's record alone how to go on: see there.
package rotation
