// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What was accepted once is accepted again, however often the item has changed: what
// the engine notes of it does not count.
func TestLargestItemCanBeWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		const limit = 1000
		m.must(update, "config", map[string]any{"max_item_bytes": limit})
		n := limit
		for ; ; n-- {
			resp, err := m.call(update, itemPath("x"), secret(strings.Repeat("v", n)))
			if code(resp, err) == 200 {
				break
			}
			require.Equal(t, 413, code(resp, err))
		}
		for range 300 {
			advance(time.Second)
			m.must(update, itemPath("x"), secret(strings.Repeat("v", n)))
		}
		m.refused(413, "max_item_bytes", update, itemPath("x"), secret(strings.Repeat("v", n+1)))
		var bulk []any
		for range 300 {
			bulk = append(bulk, map[string]any{"kind": "secrets", "name": "x", "data": map[string]any{"value": strings.Repeat("v", n)}})
		}
		for i, r := range m.must(update, tenantPath("/items"), map[string]any{"items": bulk})["results"].([]map[string]any) {
			require.Nil(t, r["error"], "entry %d", i)
		}
	})
}
