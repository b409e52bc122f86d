// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build !race

package enginetest

// UnderRace says that the race detector is on.
const UnderRace = false
