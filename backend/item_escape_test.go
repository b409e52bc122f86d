// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A value counts towards max_item_bytes by the bytes it has, whatever they are.
func TestEveryByteOfAValueCountsOnce(t *testing.T) {
	m := withTenant(t)
	m.must(update, "config", map[string]any{"max_item_bytes": 1000})
	for _, c := range []string{"x", "<", ">", "&"} {
		value := strings.Repeat(c, 950)
		m.must(update, itemPath("a"), secret(value))
		require.Equal(t, value, m.must(read, itemPath("a"), nil)["data"].(map[string]any)["value"])
		m.refused(413, "max_item_bytes", update, itemPath("a"), secret(strings.Repeat(c, 1000)))
	}
}
