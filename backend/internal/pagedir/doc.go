// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package pagedir keeps in memory which pages a tenant has: the directory of its
// extendible hash, with what is known of each page's header, and from that what each key
// version holds ([Usage]). It is pure: package itemstore lists and reads, and tells it.
//
// The lock of a [Directory] is held over memory only, and may be taken under every other one.
// [Locks] are those of the pages themselves: itemstore holds them while it reads and writes.
//
// # What it must never do
//
// Show a List that began before a change that it might lack. Sum up pages of which a
// header is not known.
package pagedir
