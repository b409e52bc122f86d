// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package outage shows what the engine does while something around it fails: entries
// that are damaged, storage that is slow, read-only or away, clocks that jump, and
// faults at random.
package outage
