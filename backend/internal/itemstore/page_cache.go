// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
)

// cachedPageBytes bounds the pages held in memory, sealed as they lie in
// storage: some 1,800 pages, or 130,000 items of 200 bytes.
const cachedPageBytes = 40 << 20

// pageCache holds sealed pages that requests have read, and deltas. To ask storage for a page
// costs a plugin more than everything else that it does to read an item.
//
// It shows what Vault's own cache showed when the page was read, or what was
// written since with success. While a page is being written it is not in the
// cache, and a page read before a write ended, or while one was going on, is not
// kept: each beginning and each end of a write starts a new generation, and keep
// takes the generation that was current when the reading began. After a write
// that failed, readers are back at storage, as if there were no cache.
//
// A rotation does not read through it: what decides whether a key may go is what
// storage says. Nor does anything take "not in the cache" for "not there".
type pageCache struct {
	mu      sync.Mutex
	pages   *simplelru.LRU[string, []byte]
	bytes   int
	limit   int
	stripes [locksutil.LockCount]stripe // by the hash of the page's storage key
}

type stripe struct {
	generation uint64
	writing    int
}

func newPageCache(limit int) *pageCache {
	c := &pageCache{limit: limit}
	pages, err := simplelru.NewLRU(limit/minCachedPage, func(_ string, page []byte) { c.bytes -= len(page) })
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	c.pages = pages
	return c
}

// minCachedPage is what a page counts for at least, so that tiny ones are bounded
// in number.
const minCachedPage = 512

func (c *pageCache) stripe(key string) *stripe {
	return &c.stripes[locksutil.LockIndexForKey(key)]
}

// get returns the page at a storage key, or nil, and the generation to keep it
// under once it has been read.
func (c *pageCache) get(key string) (page []byte, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	page, _ = c.pages.Get(key)
	return page, c.stripe(key).generation
}

// keep takes a page that was read since generation was current.
func (c *pageCache) keep(key string, page []byte, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.stripe(key); s.writing == 0 && s.generation == generation {
		c.add(key, page)
	}
}

// AddDelta makes room for a page and takes it.
func (c *pageCache) add(key string, page []byte) {
	c.pages.Remove(key)
	c.bytes += len(page)
	c.pages.Add(key, page)
	for c.bytes > c.limit {
		c.pages.RemoveOldest()
	}
}

// begin notes that a page is about to be written or deleted, and takes it out of
// the cache; had says whether it was there. end follows, however the write ends.
func (c *pageCache) begin(key string) (had bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stripe(key)
	s.generation++
	s.writing++
	return c.pages.Remove(key)
}

// end notes that a write has ended. The page, if it is not nil, is what was
// written with success and is to be kept.
func (c *pageCache) end(key string, page []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stripe(key)
	s.generation++
	s.writing--
	if page != nil {
		c.add(key, page)
	}
}

// drop forgets a page that another node has written, or that did not open.
func (c *pageCache) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stripe(key).generation++
	c.pages.Remove(key)
}
