// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestCacheBytes(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	require.EqualValues(t, 0, m.Must(enginetest.Read, "config", nil)["cache_bytes"])
	for _, good := range []any{64 << 20, "67108864", int64(64 << 30), 0} {
		m.Must(enginetest.Update, "config", map[string]any{"cache_bytes": good})
	}
	m.Must(enginetest.Update, "config", map[string]any{"cache_bytes": 100 << 20})
	for _, bad := range []any{1, -1, 64<<20 - 1, int64(64<<30) + 1, "64MiB", 1.5, true, []int{1}} {
		resp, err := m.Call(enginetest.Update, "config", map[string]any{"cache_bytes": bad})
		require.Equal(t, 400, enginetest.Code(resp, err), "%v", bad)
	}
	require.EqualValues(t, 100<<20, m.Must(enginetest.Read, "config", nil)["cache_bytes"])
}

// Whatever fits into memory, requests answer the same.
func TestSmallCaches(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	m.Engine.Tenants.LimitMemory(1)
	m.Engine.Keys.LimitMemory(1)
	m.Engine.Items.LimitMemory(1, 1)
	id := func(i int) string { return fmt.Sprintf("3fa85f64-5717-4562-b3fc-%012d", i) }
	for i := range 5 {
		m.Must(enginetest.Update, "tenants/"+id(i), nil)
		for n := range 3 {
			m.Must(enginetest.Update, fmt.Sprintf("tenants/%s/secrets/%d", id(i), n), enginetest.Secret(fmt.Sprint(i, n)))
		}
	}
	m.Must(enginetest.Update, "tenants/"+id(0)+"/dek/rotate", nil)
	m.Quiesce()
	for i := range 5 {
		for n := range 3 {
			it := m.Must(enginetest.Read, fmt.Sprintf("tenants/%s/secrets/%d", id(i), n), nil)
			require.Equal(t, map[string]any{"value": fmt.Sprint(i, n)}, it["data"])
		}
	}
}
