// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

// ReasonAsked is of the rotations that the scenarios of the schedule ask for.
const ReasonAsked = "asked for"
