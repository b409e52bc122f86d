// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// A value counts towards max_item_bytes by the bytes it has, whatever they are.
func TestEveryByteOfAValueCountsOnce(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, "config", map[string]any{"max_item_bytes": 1000})
	for _, c := range []string{"x", "<", ">", "&"} {
		value := strings.Repeat(c, 950)
		m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret(value))
		require.Equal(t, value, m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)["data"].(map[string]any)["value"])
		m.Refused(413, "max_item_bytes", enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret(strings.Repeat(c, 1000)))
	}
}
