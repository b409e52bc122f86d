// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package schedule does what is due: it rotates keys that are old enough or that
// somebody has asked for, destroys retired keys, and shreds tenants.
//
// # The index
//
// A tenant's record decides whether something is due. An index in memory says when
// to look at which record; nothing of it is stored. Three things keep it right:
//
//   - After a start it is filled from the records, shard by shard.
//   - It is told of every change of a record. A change that failed may have taken
//     effect, so that tenant is looked at again.
//   - It reads each shard again once a day. So a change that nobody knows to have
//     happened (a write that failed with hidden effect, the late write of an old
//     instance) is found within a day.
//
// What a reading finds of a tenant counts only if the index was not told of that
// tenant since the reading of its shard began. docs/model/schedule.py searches this
// protocol.
//
// # Rounds
//
// The engine has no timer: Vault's tick wakes it. A round takes from the index the
// tenants whose time has come, reads each one's record, and acts. Rotations wait
// for places in a budget (max_concurrent_rotations), which must not hold up the
// destruction of keys, so there are two rounds. A tenant with trouble is there again
// at the next tick and keeps no other waiting.
package schedule
