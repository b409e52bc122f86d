// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package backend is the secrets engine as Vault sees it: paths with their help
// and schemas, the write-ahead log, and the goroutines that work in the
// background. It is glue. What the engine is about lies in the packages below
// internal, which know nothing of Vault's framework: keyring has the keys and the
// cryptography, store the entries, pages and locks, and the state machines over
// it, rotation first of all, decide what happens in which order.
//
// # Requests
//
// A file path_<resource>.go has a table of paths, then their handlers in the
// order of the table. A handler checks the fields of a request before it touches
// anything, so that what is refused changes nothing. It holds the tenant's lock,
// shared or exclusive, from reading the tenant's record until what it does with
// it is stored. It reports errors as the packages below do; one table, in
// errors.go, turns them into statuses.
//
// # Background
//
// Rotations outlive the requests that start them. The workers carry them out, as
// many pages at a time as one pool over all tenants allows, with a context of the
// engine's own. Whatever was unfinished when the engine stopped is taken up when
// Vault initializes it, and looked for again at every tick. The scheduler has no
// timer either: Vault's tick wakes it. On a node that may not write, nothing runs.
//
// # What it must never do
//
// Put a value, a key, a token or the name of an item into an error or a line of
// the log. Write to storage from Factory. Work within Vault's tick, which holds a
// lock that sealing and stepping down wait for, instead of starting the work.
// Trust a read after a write that failed.
package backend
