// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package histories runs concurrent clients against the engine while storage fails,
// hangs and hides what it has, the process dies, other nodes take over and the clock
// jumps. Every answer must be explained by one order of the requests (linearizability):
// an acknowledged write is never lost, a deletion does not come back, and a request
// without an answer took effect once, or not at all. docs/design/invariants.md has more.
package histories
