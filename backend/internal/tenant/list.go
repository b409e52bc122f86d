// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// listsInFlight bounds the List calls made at once for one list of tenants.
const listsInFlight = 16

// list is a list of tenants, those that are there or those that were shredded, kept in
// memory by the parts in which they lie in storage: 16 bytes a tenant. A part is
// listed when it is first needed, and again after a write of which it is not known
// whether it took effect. So a page of the list costs what it holds, and a count
// nothing.
type list struct {
	mu    sync.Mutex
	parts [Shards]listPart
}

// listPart is one part. Its IDs are never changed in place: a reader of them holds
// no lock.
type listPart struct {
	ids     []uuid.UUID // sorted; what holds if known
	known   bool
	changes uint64 // tells a List that something changed meanwhile
}

// note takes a write or a deletion of a tenant's entry: there says whether it exists
// now. After an error that is unknown.
func (r *list) note(tenantID string, there bool, err error) {
	id, parseErr := uuid.Parse(tenantID)
	if parseErr != nil {
		return // no tenant has such an ID
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.parts[ShardOf(tenantID)]
	p.changes++
	if !p.known || err != nil {
		*p = listPart{changes: p.changes}
		return
	}
	at, found := slices.BinarySearchFunc(p.ids, id, compareUUIDs)
	switch {
	case there && !found:
		p.ids = slices.Concat(p.ids[:at], []uuid.UUID{id}, p.ids[at:])
	case !there && found:
		p.ids = slices.Concat(p.ids[:at], p.ids[at+1:])
	}
}

func (r *list) part(n int) listPart {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[n]
}

// keep takes a List of a part that began at changes, if nothing has changed.
func (r *list) keep(n int, ids []uuid.UUID, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parts[n].changes == changes {
		r.parts[n] = listPart{ids: ids, known: true, changes: changes}
	}
}

// UsedShards lists the shards that have tenants, from storage.
func (s *Store) UsedShards(ctx context.Context) (map[int]bool, error) {
	names, err := s.mount.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	used := make(map[int]bool, len(names))
	for _, name := range names {
		if n, err := strconv.ParseUint(strings.TrimSuffix(name, "/"), 16, 8); err == nil {
			used[int(n)] = true
		}
	}
	return used, nil
}

// InShard lists the tenants of one part, from storage.
func (s *Store) InShard(ctx context.Context, i int) ([]string, error) {
	return s.listPart(ctx, prefix, i)
}

func (s *Store) listPart(ctx context.Context, prefix string, i int) ([]string, error) {
	names, err := s.mount.List(ctx, fmt.Sprintf("%s%02x/", prefix, i))
	if err != nil {
		return nil, err
	}
	return names, nil
}

// allParts returns the IDs of all parts of a list, and lists those that are not known.
// The name of an entry begins with its tenant's ID; one ID may have several.
func (s *Store) allParts(ctx context.Context, l *list, prefix string) ([][]uuid.UUID, error) {
	all := make([][]uuid.UUID, Shards)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(listsInFlight)
	for n := range Shards {
		p := l.part(n)
		if p.known {
			all[n] = p.ids
			continue
		}
		g.Go(func() error {
			names, err := s.listPart(ctx, prefix, n)
			if err != nil {
				return err
			}
			ids := make([]uuid.UUID, 0, len(names))
			for _, name := range names {
				name, _, _ = strings.Cut(name, ".")
				if id, err := uuid.Parse(name); err == nil {
					ids = append(ids, id)
				}
			}
			slices.SortFunc(ids, compareUUIDs)
			ids = slices.Compact(ids)
			l.keep(n, ids, p.changes)
			all[n] = ids
			return nil
		})
	}
	return all, g.Wait()
}

// Count returns how many tenants there are.
func (s *Store) Count(ctx context.Context) (int, error) {
	all, err := s.allParts(ctx, &s.list, prefix)
	n := 0
	for _, ids := range all {
		n += len(ids)
	}
	return n, err
}

// IDs lists tenants, sorted: at most limit that follow after, or, without
// a limit, all that do.
func (s *Store) IDs(ctx context.Context, after string, limit int) ([]string, error) {
	all, err := s.allParts(ctx, &s.list, prefix)
	if err != nil {
		return nil, err
	}
	return sorted(all, after, limit), nil
}

// sorted merges sorted lists: at most limit IDs that follow after, or, without a limit,
// all that do.
func sorted(all [][]uuid.UUID, after string, limit int) (ids []string) {
	var next cursors
	for _, part := range all {
		if after != "" {
			part = part[sort.Search(len(part), func(i int) bool { return part[i].String() > after }):]
		}
		if len(part) > 0 {
			next = append(next, part)
		}
	}
	heap.Init(&next)
	for len(next) > 0 && (limit == 0 || len(ids) < limit) {
		ids = append(ids, next[0][0].String())
		if next[0] = next[0][1:]; len(next[0]) == 0 {
			heap.Pop(&next)
		} else {
			heap.Fix(&next, 0)
		}
	}
	return ids
}

// cursors has the rest of each sorted list, as a heap by its first ID.
type cursors [][]uuid.UUID

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return compareUUIDs(c[i][0], c[j][0]) < 0 }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }

// Push and Pop are for package heap.
func (c *cursors) Push(x any) { *c = append(*c, x.([]uuid.UUID)) } //nolint:forcetypeassert // by heap's contract

func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// compareUUIDs orders IDs as their text is ordered, in lower case.
func compareUUIDs(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) }
