// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package fleet shows that the schedule serves every tenant of many: over a simulated
// year, on campaigns, and when some of them cannot be served.
package fleet
