// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCacheBytes(t *testing.T) {
	m := newMount(t)
	defer m.close()
	require.EqualValues(t, 0, m.must(read, "config", nil)["cache_bytes"])
	for _, good := range []any{64 << 20, "67108864", int64(64 << 30), 0} {
		m.must(update, "config", map[string]any{"cache_bytes": good})
	}
	m.must(update, "config", map[string]any{"cache_bytes": 100 << 20})
	for _, bad := range []any{1, -1, 64<<20 - 1, int64(64<<30) + 1, "64MiB", 1.5, true, []int{1}} {
		resp, err := m.call(update, "config", map[string]any{"cache_bytes": bad})
		require.Equal(t, 400, code(resp, err), "%v", bad)
	}
	require.EqualValues(t, 100<<20, m.must(read, "config", nil)["cache_bytes"])
}

// Whatever fits into memory, requests answer the same.
func TestSmallCaches(t *testing.T) {
	m := newMount(t)
	defer m.close()
	m.b.Tenants.LimitMemory(1)
	m.b.Keys.LimitMemory(1)
	m.b.Items.LimitMemory(1, 1)
	id := func(i int) string { return fmt.Sprintf("3fa85f64-5717-4562-b3fc-%012d", i) }
	for i := range 5 {
		m.must(update, "tenants/"+id(i), nil)
		for n := range 3 {
			m.must(update, fmt.Sprintf("tenants/%s/secrets/%d", id(i), n), secret(fmt.Sprint(i, n)))
		}
	}
	m.must(update, "tenants/"+id(0)+"/dek/rotate", nil)
	m.calm()
	for i := range 5 {
		for n := range 3 {
			it := m.must(read, fmt.Sprintf("tenants/%s/secrets/%d", id(i), n), nil)
			require.Equal(t, map[string]any{"value": fmt.Sprint(i, n)}, it["data"])
		}
	}
}
