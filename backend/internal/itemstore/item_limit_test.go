// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// What was accepted once is accepted again, however often the item has changed: what
// the engine notes of it does not count.
func TestLargestItemCanBeWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		const limit = 1000
		m.Must(enginetest.Update, "config", map[string]any{"max_item_bytes": limit})
		n := limit
		for ; ; n-- {
			resp, err := m.Call(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("v", n)))
			if enginetest.Code(resp, err) == 200 {
				break
			}
			require.Equal(t, 413, enginetest.Code(resp, err))
		}
		for range 300 {
			enginetest.Advance(time.Second)
			m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("v", n)))
		}
		m.Refused(413, "max_item_bytes", enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("v", n+1)))
		var bulk []any
		for range 300 {
			bulk = append(bulk, map[string]any{"kind": "secrets", "name": "x", "data": map[string]any{"value": strings.Repeat("v", n)}})
		}
		for i, r := range m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": bulk})["results"].([]map[string]any) {
			require.Nil(t, r["error"], "entry %d", i)
		}
	})
}
