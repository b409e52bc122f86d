// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Storage has the records of a population without holding them: they are made when
// they are read. What is written is held, and what is deleted is gone.
type Storage struct {
	*population
	pattern *pattern
	written logical.InmemStorage

	mu      sync.Mutex
	deleted map[string]bool // of what is made on demand
	under   int             // operations under way
	ended   time.Time       // when the last one did
	count   int
}

var _ logical.Storage = (*Storage)(nil)

// New returns the storage of so many tenants whose keys are up to a year old.
func New(ctx context.Context, tenants int) (*Storage, error) {
	s := &Storage{population: newPopulation(tenants, time.Now()), deleted: map[string]bool{}}
	var err error
	s.pattern, err = makePattern(ctx, &s.written)
	return s, err
}

// Operations returns how many operations there have been, whether one is under
// way, and when the last one ended.
func (s *Storage) Operations() (count int, idle bool, ended time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, s.under == 0, s.ended
}

func (s *Storage) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under++
	s.count++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.under--
		s.ended = time.Now()
	}
}

// List lists the children of a prefix.
func (s *Storage) List(ctx context.Context, prefix string) ([]string, error) {
	defer s.begin()()
	names, err := s.written.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	onDemand := s.listed(prefix)
	if len(onDemand) == 0 {
		return names, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.deleted) > 0 {
		onDemand = slices.DeleteFunc(onDemand, func(name string) bool { return s.deleted[prefix+name] })
	}
	if len(names) == 0 {
		return onDemand, nil
	}
	names = append(names, onDemand...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// listed are the names below a prefix that are made on demand.
func (s *Storage) listed(prefix string) []string {
	parts := strings.Split(strings.TrimSuffix(prefix, "/"), "/")
	switch {
	case len(parts) == 1 && parts[0] == "tenants":
		var names []string
		for n := range s.byShard {
			if len(s.byShard[n]) > 0 {
				names = append(names, shardName(byte(n))+"/") // #nosec G115 -- below 256
			}
		}
		return names
	case len(parts) == 2 && parts[0] == "tenants":
		if n, ok := shardNumber(parts[1]); ok {
			return s.ids(s.byShard[n])
		}
	}
	return nil
}

func shardNumber(name string) (byte, bool) {
	for n := range shards {
		if shardName(byte(n)) == name { // #nosec G115 -- below 256
			return byte(n), true // #nosec G115 -- below 256
		}
	}
	return 0, false
}

// Get reads an entry, or makes it.
func (s *Storage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	defer s.begin()()
	entry, err := s.written.Get(ctx, key)
	if err != nil || entry != nil {
		return entry, err
	}
	i, ok := s.find(key)
	if !ok || s.isDeleted(key) {
		return nil, nil
	}
	return &logical.StorageEntry{Key: key, Value: s.pattern.copyFor(s.population, i)}, nil
}

// find tells which tenant an entry made on demand is of.
func (s *Storage) find(key string) (i uint32, ok bool) {
	dir, id, _ := cutLast(key)
	i, ok = s.number(id)
	return i, ok && dir == "tenants/"+shardName(shardOf(id))
}

func cutLast(key string) (dir, name string, found bool) {
	n := strings.LastIndexByte(key, '/')
	if n < 0 {
		return "", key, false
	}
	return key[:n], key[n+1:], true
}

func (s *Storage) isDeleted(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deleted[key]
}

// Put holds an entry.
func (s *Storage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	defer s.begin()()
	return s.written.Put(ctx, entry)
}

// Delete removes an entry.
func (s *Storage) Delete(ctx context.Context, key string) error {
	defer s.begin()()
	if _, onDemand := s.find(key); onDemand {
		s.mu.Lock()
		s.deleted[key] = true
		s.mu.Unlock()
	}
	return s.written.Delete(ctx, key)
}
