// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package itemstore keeps a tenant's items in sealed pages, which form an extendible
// hash. A rotation is bound by the number of writes, so items lie together on pages,
// and a page is what is encrypted.
//
//	pages/<incarnation>/p<bits>   the page of a prefix of hash bits
//	pages/<incarnation>/d<bits>   its delta: the items written since the page was put
//
// [Store] has the items of all tenants; a [Table] is the hash of one incarnation, with
// its directory of pages. docs/design/pages.md describes splits, deltas and caches;
// docs/model has models of them.
//
// # Locks
//
// A caller that writes items holds the tenant's lock shared ([tenant.Store.Shared])
// from reading its record until the write is done. This package takes the lock of a
// page for its read-modify-write: one at a time, after the tenant's. After taking it,
// a writer looks the page up again, because it may have split. Reads take no lock.
//
// # What it must never do
//
// Leave a hash of the tenant without a page. Seal under any version but the active one
// of the record that the caller read. Put a delta beside a page that this process has
// not put. Delete a leftover without a List, under the lock of the page above, that
// shows that page. Believe what is in memory after a write that failed: the directory
// is dropped and pages are read again.
package itemstore
