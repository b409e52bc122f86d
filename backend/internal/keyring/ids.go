// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
)

// NewID returns a random ID: the prefix and a UUID.
func NewID(prefix string) (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("making an ID: %w", err)
	}
	return prefix + id.String(), nil
}

// NewIncarnation returns a random incarnation.
func NewIncarnation() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
