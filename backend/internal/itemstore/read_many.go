// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	// readsInFlight bounds the pages that one request for many items reads at once.
	readsInFlight = 16
	// itemOverhead is what an item counts for beside its data and metadata.
	itemOverhead = 256
)

// ErrLeftOut reports an item for which there was no room beside the others.
var ErrLeftOut = errors.New("item left out, since the answer is too large: ask for it in another request")

// Wanted names an item to read.
type Wanted struct {
	Kind item.Kind
	Name string
}

// Found is an item that was read and the key version of its page, or why it was not:
// [item.ErrNotFound], [ErrLeftOut], or what kept its page from being opened.
type Found struct {
	Item    *item.Item
	Version int
	Err     error
}

// ReadMany reads items of t and returns one result for each, in their order. A page is
// opened once for all items on it, unless it is split meanwhile. Items are read until
// they have limit bytes together; the others are left out. more is told of the bytes of
// each before it is kept; with its error, ReadMany fails. It also fails with
// [tenant.ErrNotFound] if the tenant is shredded meanwhile.
func (s *Store) ReadMany(ctx context.Context, t *tenant.Record, wanted []Wanted, limit int64, more func(bytes int) error) ([]Found, error) {
	tab, release := s.table(t)
	defer release()
	r := &manyReader{tab: tab, tenant: t, wanted: wanted, found: make([]Found, len(wanted)), hashes: make([]page.Hash, len(wanted)), more: more}
	r.left.Store(limit)
	pages, err := r.byPage(ctx)
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for _, items := range pages {
		g.Go(func() error { return r.readAll(ctx, items) })
	}
	return r.found, g.Wait()
}

// manyReader reads the items of one request.
type manyReader struct {
	tab    *Table
	tenant *tenant.Record
	wanted []Wanted
	hashes []page.Hash
	found  []Found
	left   atomic.Int64 // bytes that the items may still have
	more   func(bytes int) error
}

// byPage returns the indexes of the items by the page that covers them, each page's in
// the order of their hashes, and the pages in the order in which they are needed first.
func (r *manyReader) byPage(ctx context.Context) ([][]int, error) {
	err := r.tab.withPlacementKey(ctx, r.tenant, func(key []byte) {
		for i, w := range r.wanted {
			r.hashes[i] = page.HashOf(key, w.Kind, w.Name)
		}
	})
	if err != nil {
		return nil, err
	}
	first := map[page.Prefix]int{}
	on := map[page.Prefix][]int{}
	for i, h := range r.hashes {
		p, empty, err := r.tab.locate(ctx, h)
		if err != nil {
			return nil, err
		}
		if empty {
			r.found[i].Err = item.ErrNotFound
			continue
		}
		if on[p] == nil {
			first[p] = i
		}
		on[p] = append(on[p], i)
	}
	pages := make([][]int, 0, len(on))
	for _, p := range slices.SortedFunc(maps.Keys(on), func(a, b page.Prefix) int { return cmp.Compare(first[a], first[b]) }) {
		slices.SortStableFunc(on[p], func(a, b int) int { return cmp.Compare(r.hashes[a], r.hashes[b]) })
		pages = append(pages, on[p])
	}
	return pages, nil
}

// readAll reads items that were on one page when they were looked up, in the order of
// their hashes. It may have split since: then several pages cover them.
func (r *manyReader) readAll(ctx context.Context, items []int) error {
	for len(items) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := r.tab.read(ctx, r.tenant, r.hashes[items[0]])
		if errors.Is(err, tenant.ErrNotFound) || ctx.Err() != nil {
			return err
		}
		covered := len(items)
		if c != nil {
			last := c.place.Last()
			covered, _ = slices.BinarySearchFunc(items, last, func(i int, last page.Hash) int {
				if r.hashes[i] <= last {
					return -1
				}
				return 1
			})
		}
		for _, i := range items[:covered] {
			r.found[i] = r.take(c, i, err)
			if it := r.found[i].Item; it != nil {
				if err := r.more(bytesOf(it)); err != nil {
					return err
				}
			}
		}
		items = items[covered:]
	}
	return nil
}

// take finds an item on the page that covers it, nil if there is none.
func (r *manyReader) take(c *content, i int, err error) Found {
	if err != nil {
		return Found{Err: err}
	}
	if c == nil {
		return Found{Err: item.ErrNotFound}
	}
	if c.lost != nil {
		return Found{Err: c.lost}
	}
	_, it, err := c.slots.Find(r.hashes[i], r.wanted[i].Kind, r.wanted[i].Name)
	switch {
	case err != nil:
		return Found{Err: err}
	case it == nil:
		return Found{Err: item.ErrNotFound}
	}
	size := int64(bytesOf(it))
	if r.left.Add(-size) < 0 {
		r.left.Add(size) // a smaller one may have room
		return Found{Err: ErrLeftOut}
	}
	return Found{Item: it, Version: c.version}
}

// bytesOf is what an item counts for in an answer.
func bytesOf(it *item.Item) int {
	size := len(it.Data) + itemOverhead
	for k, v := range it.Metadata {
		size += len(k) + len(v)
	}
	return size
}
