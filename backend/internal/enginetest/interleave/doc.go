// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package interleave shows that requests and rotations that run beside each other lose
// nothing, in whatever order their operations of storage come: it stops one at each
// operation and lets the others go on, and lets delayed writes land.
package interleave
