// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
)

func TestCachesShareTheirMemory(t *testing.T) {
	sum := func(c settings.Caches) int { return c.Records + c.Pages + c.Keys + c.Directories }
	for _, n := range []int{settings.MinCacheBytes, 300 << 20, settings.MaxCacheBytes} {
		total := sum(settings.Config{CacheBytes: n}.Caches())
		require.LessOrEqual(t, total, n)
		require.Greater(t, total, n-1000)
	}
	chosen := sum(settings.Config{}.Caches())
	require.Greater(t, chosen, settings.MinCacheBytes-1000)
	require.LessOrEqual(t, chosen, settings.MaxCacheBytes)
}
