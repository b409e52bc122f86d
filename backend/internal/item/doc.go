// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package item describes an item: its kind, its name, its encoded record, and counts
// of items by kind. It is pure: it knows no key, no page and no storage.
//
// It must never put a name or a value into an error.
package item
