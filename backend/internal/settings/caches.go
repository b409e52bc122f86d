// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"math"
	"runtime/debug"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/machine"
)

// MinCacheBytes is the least that cache_bytes may be, and MaxCacheBytes the most.
const (
	MinCacheBytes = 64 << 20
	MaxCacheBytes = 64 << 30
)

// Caches says how many bytes of memory each cache may take. What a cache holds is
// estimated, so the plugin takes somewhat more; Go's garbage collector lets a heap grow
// to twice what it holds.
type Caches struct {
	Records     int // tenants' records
	Pages       int // sealed pages and deltas
	Keys        int // opened keys
	Directories int // which pages a tenant has
}

// Caches divides cache_bytes. A tenant of one page with a few items takes about 1.2 KiB
// as a record, 1.5 KiB as a page, 1.3 KiB as an opened key and 0.4 KiB as a directory,
// hence the shares.
func (c Config) Caches() Caches {
	n := c.CacheBytes
	if n == 0 {
		n = defaultCacheBytes()
	}
	return Caches{Records: n / 100 * 25, Pages: n / 100 * 40, Keys: n / 100 * 26, Directories: n / 100 * 9}
}

// defaultCacheBytes is a 128th of the machine's memory, or a quarter of GOMEMLIMIT if
// that is less, and at least [MinCacheBytes].
var defaultCacheBytes = sync.OnceValue(func() int {
	n := int64(math.MaxInt64)
	if memory := machine.Memory(); memory > 0 {
		n = memory / 128
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		n = min(n, limit/4)
	}
	if n == math.MaxInt64 {
		n = MinCacheBytes // neither is known
	}
	return int(min(max(n, MinCacheBytes), MaxCacheBytes))
})
