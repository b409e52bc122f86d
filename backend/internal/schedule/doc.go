// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package schedule starts what is due: it rotates keys that are old enough or that a
// caller has asked for, destroys retired keys, and shreds tenants. It also answers how
// the fleet is doing ([Engine.Status], [Engine.Fleet]).
//
// # The index
//
// A tenant's record decides whether anything is due. An index in memory says when to
// look at which record; nothing of it is stored. Three rules keep it right:
//
//   - After a start it is filled from the records, shard by shard.
//   - Every change of a record is reported to it, under the tenant's lock. A change that
//     failed may have taken effect, so that tenant is looked at again.
//   - It reads each shard again once a day. So an unreported change (a write that failed
//     with hidden effect, the late write of an old instance) is found within a day.
//
// Package dueindex is the index. docs/model/schedule.py is a model of this protocol.
//
// # Rounds
//
// The engine has no timer: Vault's tick wakes it. A round takes the tenants that are due
// from the index, reads each one's record, and acts. Rotations wait for places in a
// budget (max_concurrent_rotations), and that must not delay the destruction of keys, so
// there are two rounds. A tenant that causes an error is due again at the next tick and
// delays no other.
//
// # Storage and locks
//
// The package has no storage prefix (the former schedule/ is deleted), and holds no lock
// over storage.
//
// # What it must never do
//
// Act on the index alone: the record is read again under the tenant's exclusive lock
// before anything is started or destroyed. Conclude from a List that a tenant is gone.
package schedule
