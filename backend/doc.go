// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package backend is the secrets engine as Vault sees it: it assembles the packages under
// internal, declares the paths, and adapts Vault's write-ahead log. It is glue. Of the
// packages under internal only api and those below it know Vault's framework;
// docs/design/overview.md lists them all.
//
// # Requests
//
// A file path_<resource>.go has a table of paths, then their handlers in the
// order of the table. A handler checks the fields of a request before it calls a
// package below, so a refused request changes nothing. One table, in
// internal/api/errors.go, turns the errors of those packages into HTTP statuses.
//
// # Background
//
// The packages below run their own background work. Vault's initialization and its tick,
// once a minute, only make sure that everything unfinished is being worked on and wake
// the schedule. On a node that may not write, nothing runs.
//
// # What it must never do
//
// Take a tenant's lock, start a goroutine or read a clock. Put a value, a key, a token
// or the name of an item into an error or a line of the log. Write to storage from
// Factory. Work within Vault's tick, which holds a lock that sealing and stepping down
// wait for.
package backend
