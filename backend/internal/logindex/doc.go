// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package logindex says which entries of the evidence log are about which tenant. All of
// it is derived from the entries: nothing is lost with it, and a part may be written
// twice. What of it cannot be read is made again from the entries.
//
// # Entries in storage, of the nth log
//
//	evidence/log/<n>/index/<level>/<number>/<part>/<fragment>   records of 48 bytes, sorted
//
// A segment of level k has the records of 1,024 * 16^k entries, in 16^k parts by the
// first k digits of the hashed tenant. Sixteen segments make one of the next level. So
// looking a tenant up reads at most 15 parts of each level, and an entry is written
// once a level. Records of entries that no segment has yet are in memory.
//
// # Locks
//
// One, held over memory only. The log may hold its own when it calls [Index.Install] and
// [Index.Add]; package logindex never calls the log while it holds its lock.
//
// # What it must never do
//
// Decide what is in the log: a checkpoint does. A caller says as of which size it asks,
// and gets no record of an entry beyond.
package logindex
