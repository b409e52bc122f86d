// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import "errors"

// What callers tell apart.
var (
	ErrItemNotFound = errors.New("item not found")
	ErrItemTooLarge = errors.New("item too large")
	ErrRevision     = errors.New("item has another revision")
)
