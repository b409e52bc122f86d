// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package fleet measures the engine with a million tenants, in a process of its
// own and over a storage that makes tenants' entries when they are asked for. So
// what is measured is the engine, not a storage: neither its speed nor its
// memory.
package fleet
