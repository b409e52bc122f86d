// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyringtest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// HexBytes are bytes that a file of vectors has in hex.
type HexBytes []byte

// UnmarshalText decodes hex.
func (h *HexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// FromFile decodes testdata, which was made by another implementation, in
// another language.
func FromFile(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name) // #nosec G304 -- tests name the file
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}
