// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package enginetest runs whole engines for tests: on a disk in memory that outlives
// them, with faults at any operation of storage and a clock that the test moves.
//
// A [Mount] is an engine and its disk. An [Oracle] makes requests on a mount, and
// keeps what may be read afterwards: what was acknowledged last, or, while a write is
// under way or has failed, that or the new value. Its ReadsBack, AtRest and Works
// check the invariants of docs/design/invariants.md. Only tests import this package.
//
// The tests of one room lie beside that room. Those of the engine as a whole are in
// the packages below, each named for what it shows: crash, interleave, outage, fleet.
package enginetest
