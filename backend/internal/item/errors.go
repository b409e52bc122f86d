// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package item

import (
	"errors"
)

// What callers tell apart.
var (
	ErrNotFound = errors.New("item not found")
	ErrTooLarge = errors.New("item too large")
	ErrRevision = errors.New("item has another revision")
)
