// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
)

// openRecords bounds the tenants' records held decoded in memory.
const openRecords = 2048

// recordCache holds decoded records. It shows what Vault's cache showed when the
// record was read, and a record read before a write of it, failed or not, is
// never kept: each write starts a new generation, and keep takes the one that
// was current when the reading began. What is in it is shared: who changes a
// record changes a clone.
type recordCache struct {
	mu          sync.Mutex
	records     *lru.Cache[string, *Record]
	generations [locksutil.LockCount]uint64 // by the hash of the tenant's ID
}

func newRecordCache() *recordCache {
	records, err := lru.New[string, *Record](openRecords)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &recordCache{records: records}
}

func (c *recordCache) get(id string) (t *Record, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ = c.records.Get(id)
	return t, c.generations[locksutil.LockIndexForKey(id)]
}

func (c *recordCache) keep(t *Record, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generations[locksutil.LockIndexForKey(t.ID)] == generation {
		c.records.Add(t.ID, t)
	}
}

func (c *recordCache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generations[locksutil.LockIndexForKey(id)]++
	c.records.Remove(id)
}
