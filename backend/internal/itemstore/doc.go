// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package store is the only owner of storage: where each entry lies, how it is
// encoded, in which order entries change, and what is cached of them.
//
//	config                              the mount's settings
//	settings                            the organization's rotation settings
//	kek/current                         which key-encryption key wraps, and its rotation
//	kek/progress                        how far that rotation is
//	kek/keys/<kek_id>                   the key-encryption keys    (seal-wrapped)
//	import/wrapping_key                 what owners wrap keys for  (seal-wrapped)
//	tenants/<hh>/<tenant_id>            a tenant's record, which decides
//	keys/<incarnation>/<key_id>         its keys, wrapped          (seal-wrapped)
//	keys/<incarnation>/<key_id>.ext     external keys of versions  (seal-wrapped)
//	pages/<incarnation>/p<bits>         its items, sealed in pages
//	pages/<incarnation>/d<bits>         the latest changes of such a page: delta.go
//	seals/<incarnation>/<key_id>        how much its aes256-gcm keys have sealed
//	history/<incarnation>/<version>     its rotations that have ended
//	progress/<incarnation>              how far its unfinished rotation is
//	schedule/...                        which tenants to look at when: schedule.go
//	tombstones/<hh>/<id>.<incarnation>  what remains of a deleted tenant
//
// <hh> are two hex digits of a hash of the tenant ID, since Raft lists a whole
// subtree and no prefix may hold a million children. An incarnation is a random
// ID that a tenant gets when it is created: one created again under the same ID
// shares nothing with its past.
//
// # Locks
//
// A caller that writes items, or seals anything, holds the tenant's lock shared
// from reading its record until the write is done ([tenant.Store.Shared]). A caller
// that changes the record holds it exclusively ([tenant.Store.Exclusive]). The lock of
// a page covers its read-modify-write; this package takes it, one at a time,
// always after the tenant's.
//
// # Writes that fail
//
// A write that returns an error may have taken effect, and Vault's cache may
// then show the old value while List shows the new one. So after an error
// nothing cached here is believed: a directory is dropped, a record is read
// again, and a write whose effect matters is repeated until it succeeds.
package itemstore
