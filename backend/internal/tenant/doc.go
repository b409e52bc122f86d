// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package tenant keeps the record that decides about a tenant: its settings, the
// versions of its key with their states, and its unfinished rotation. Every change of
// a tenant's state is one Put of that record.
//
//	tenants/<hh>/<tenant_id>            the record
//	history/<incarnation>/<version>     its rotations that have ended
//	progress/<incarnation>              how far its unfinished rotation is
//	tombstones/<hh>/<id>.<incarnation>  the remains of a deleted tenant
//
// <hh> are two hex digits of a hash of the tenant ID: Raft lists a whole subtree, so no
// prefix may hold a million children. An incarnation is a random ID that a tenant gets
// when it is created. A tenant created again under the same ID shares nothing with the
// earlier one.
//
// History, progress and the list of tenants are derived from the records and decide
// nothing.
//
// # Changing a record
//
// Only [Store.Hold] and [Store.Update] change a record. They hold the tenant's lock
// exclusively from reading the record until the new one is stored, and report every
// write to the cache, to the list of tenants and to the watcher ([Store.Watch]), also
// one that failed. [Held.PutAsRead] settles an earlier write of unknown effect.
//
// # Locks of the engine
//
// Each is taken after those above it in the table, never before.
//
//	Lock                Shared by                           Exclusive for
//	------------------  ----------------------------------  ----------------------------------
//	tenant              a write of items, and a worker for  changing the record; making an
//	(this package)      one page, from reading the record   external key; destroying keys, and
//	                    until the page is stored; encrypt,  moving them to another KEK;
//	                    rewrap and datakey until the        recovery of an intent
//	                    answer; reading a rotation
//	page                                                    the page's read-modify-write, one
//	(itemstore)                                             page at a time
//	KEK                 wrapping, from reading which KEK    making the first KEK, switching it,
//	(keystore)          is current until the key is stored  ending its rotation
//	count                                                   reserving seals of an aes256-gcm key
//	(keystore)
//
// The lock that covers making the wrapping key is held alone. Locks of the index
// (schedule), of caches and of settings guard memory or one entry: no lock of the table
// is taken while one of them is held.
//
// The locks of tenants and pages are striped: two tenants may share one of 256, two
// pages one of 4,096. So a goroutine holds the lock of one tenant at a time, and of
// one page. A split writes the two children under the lock of their parent alone: while the
// parent exists, nothing else uses them. A batch of changes to a page is written by one of
// its callers while the others wait, each under its own shared lock of the tenant.
//
// # What it must never do
//
// Return a record that lies under another tenant's ID: it leads to keys and pages.
// Keep a record in memory that was read before a write of it ended. Change a record
// that was read, which is shared, instead of a copy.
package tenant
