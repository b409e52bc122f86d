// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

func TestCacheKeepsWithinItsLimit(t *testing.T) {
	c := storage.NewCache(1000, 100, func(v string) int { return len(v) })
	held := func() (n int) {
		for i := range 50 {
			if _, cached, _ := c.Get(fmt.Sprint(i)); cached {
				n++
			}
		}
		return n
	}
	for i := range 50 {
		_, _, lease := c.Get(fmt.Sprint(i))
		c.Keep(fmt.Sprint(i), "0123456789", lease)
	}
	require.Equal(t, 10, held())
	_, cached, _ := c.Get("49")
	require.True(t, cached, "the last one used stays")

	c.Limit(35)
	require.Equal(t, 3, held())
	_, _, lease := c.Get("large")
	c.Keep("large", string(make([]byte, 36)), lease)
	require.Zero(t, held(), "what is larger than the limit leaves no room")
	_, cached, _ = c.Get("large")
	require.False(t, cached)
	c.Limit(100)
	_, _, lease = c.Get("1")
	c.Keep("1", "x", lease)
	require.Equal(t, 1, held())
}

// A value that was read before or during a write is not kept.
func TestLeasesEndWithWrites(t *testing.T) {
	c := storage.NewCache(10, 10, func(string) int { return 1 })
	written := "new"
	for what, write := range map[string]func(){
		"a write":        func() { c.Begin("a"); c.End("a", &written); c.Drop("a") },
		"a failed write": func() { c.Begin("a"); c.End("a", nil) },
		"a drop":         func() { c.Drop("a") },
	} {
		t.Run(what, func(t *testing.T) {
			_, _, lease := c.Get("a")
			write()
			c.Keep("a", "old", lease)
			_, cached, _ := c.Get("a")
			require.False(t, cached)
		})
	}
	c.Begin("a")
	_, _, lease := c.Get("a")
	c.Keep("a", "old", lease)
	_, cached, _ := c.Get("a")
	require.False(t, cached, "read during a write")
	c.End("a", &written)
	v, cached, _ := c.Get("a")
	require.True(t, cached)
	require.Equal(t, written, v)
}
