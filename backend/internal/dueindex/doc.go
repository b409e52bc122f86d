// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package dueindex is the schedule's index in memory: when to look at which tenant, what
// holds up those that are due, and the figures of the fleet ([Index.Count],
// [Index.Fleet]). It is pure: it reads no storage, no clock, and starts nothing.
//
// # What it knows
//
// An entry of 72 bytes for each tenant, and its display name, so that a million tenants
// are searched and sorted without reading a record. A [Plan] is what the organization's
// settings and the time say about when an entry is due. The package schedule tells the
// index of every change of a record ([Index.Changed], [Index.Suspect]) and installs what
// it read ([Index.Install]). A reading's result for a tenant is dropped if a change of
// that tenant was reported since the reading of its shard began. docs/model/schedule.py
// is a model of this protocol.
//
// # Locks
//
// One for each shard and one for the plan, held over memory only. They may be taken
// under a tenant's lock.
//
// # What it must never do
//
// Decide: a tenant's record does. The index says only when to look at it.
package dueindex
