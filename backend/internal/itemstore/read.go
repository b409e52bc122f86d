// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Read returns an item of t and the key version that its page is on. It fails
// with [item.ErrNotFound].
func (s *Store) Read(ctx context.Context, t *tenant.Record, k item.Kind, name string) (*item.Item, int, error) {
	tab, release := s.table(t)
	defer release()
	h, err := tab.hash(ctx, t, k, name)
	if err != nil {
		return nil, 0, err
	}
	c, err := tab.read(ctx, t, h)
	if err != nil {
		return nil, 0, err
	}
	if c == nil {
		return nil, 0, item.ErrNotFound
	}
	if c.lost != nil {
		return nil, 0, c.lost
	}
	_, it, err := c.slots.Find(h, k, name)
	if err != nil {
		return nil, 0, err
	}
	if it == nil {
		return nil, 0, item.ErrNotFound
	}
	return it, c.version, nil
}

// Names lists the items of one kind, sorted by name.
func (s *Store) Names(ctx context.Context, t *tenant.Record, k item.Kind) ([]string, error) {
	tab, release := s.table(t)
	defer release()
	leaves, err := tab.leaves(ctx)
	if err != nil {
		return nil, err
	}
	var (
		mu    sync.Mutex
		names []string
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(pagesInFlight)
	for p, e := range leaves {
		if e.Known && e.Version > 0 && e.Counts[k] == 0 {
			continue // as it was when the list began; a damaged page has version 0
		}
		g.Go(func() error {
			l := listing{kind: k, from: p.First(), to: p.Last()}
			if err := tab.list(ctx, t, &l); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			names = append(names, l.names...)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// leaves returns the current pages.
func (tab *Table) leaves(ctx context.Context) (map[page.Prefix]pagedir.Entry, error) {
	for range maxTries {
		if pages, loaded := tab.dir.Entries(); loaded {
			return pages, nil
		}
		if err := tab.loadDirectory(ctx); err != nil {
			return nil, err
		}
	}
	return nil, storage.ErrContended
}

// NamesAfter lists at most limit items of one kind, in the order in which they
// are stored, from the one after the item of that name, which need not exist;
// the empty name stands for the beginning. The order stays the same while pages
// split, so a list taken page by page shows every item that was there
// throughout, once.
func (s *Store) NamesAfter(ctx context.Context, t *tenant.Record, k item.Kind, after string, limit int) ([]string, error) {
	l := listing{kind: k, limit: limit, after: after}
	err := s.listAfter(ctx, t, &l)
	return l.names, err
}

// listAfter lists from the item that l is to begin after, to the end.
func (s *Store) listAfter(ctx context.Context, t *tenant.Record, l *listing) error {
	tab, release := s.table(t)
	defer release()
	l.to = page.Prefix("").Last()
	if l.after != "" {
		h, err := tab.hash(ctx, t, l.kind, l.after)
		if err != nil {
			return err
		}
		l.from, l.afterHash = h, h
	}
	return tab.list(ctx, t, l)
}

// listing collects the names of one kind whose hashes lie from one to another,
// both included.
type listing struct {
	kind     item.Kind
	from, to page.Hash
	limit    int // 0: no limit

	after     string // skip items up to this one, at afterHash
	afterHash page.Hash

	partial bool // go past what cannot be read, and say where

	names        []string
	pages, bytes int // that were read
	unreadable   []Unreadable
}

// ahead returns where to look for the next pages, of about 1 MiB together: at first for one.
func (l *listing) ahead(d *pagedir.Directory) []page.Hash {
	if l.pages == 0 {
		return []page.Hash{l.from}
	}
	s := pagedir.Span{From: l.from, To: l.to, Kind: l.kind, Limit: max(l.limit-len(l.names), 0), Usual: max(len(l.names)/l.pages, 1)}
	return d.Ahead(s, min(max(1<<20/(l.bytes/l.pages+1), 1), readsInFlight))
}

// list reads several pages at once: one after the other, each that is not in memory costs the
// time of a read from storage.
func (tab *Table) list(ctx context.Context, t *tenant.Record, l *listing) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		ahead := l.ahead(&tab.dir)
		contents, errs := tab.readEach(ctx, t, ahead)
		for i, h := range ahead {
			if h != l.from {
				break // the page before has split meanwhile
			}
			if done, err := tab.takePage(l, contents[i], errs[i]); done || err != nil {
				return err
			}
		}
	}
}

// readEach reads the page that covers each hash.
func (tab *Table) readEach(ctx context.Context, t *tenant.Record, hashes []page.Hash) ([]*content, []error) {
	contents, errs := make([]*content, len(hashes)), make([]error, len(hashes))
	var wg sync.WaitGroup
	for i, h := range hashes {
		wg.Go(func() { contents[i], errs[i] = tab.read(ctx, t, h) })
	}
	wg.Wait()
	return contents, errs
}

// takePage collects from the page at l.from, as it was read, and goes on to the next; done
// says that the listing has ended.
func (tab *Table) takePage(l *listing, c *content, err error) (done bool, _ error) {
	if err != nil && l.partial {
		c, err = tab.passOver(l, c, err)
	}
	if err != nil || c == nil {
		return true, err
	}
	if c.lost != nil && l.partial {
		l.miss(c.place.String(), c.lost)
	}
	if done, err := l.take(c); done || err != nil {
		return true, err
	}
	l.from = c.place.Last() + 1
	l.pages, l.bytes = l.pages+1, l.bytes+c.slots.Size()
	return false, nil
}

// take collects from one page; done says that the listing ends with it.
func (l *listing) take(c *content) (done bool, err error) {
	type named struct {
		hash page.Hash
		name string
	}
	var found []named
	for _, sl := range c.slots[c.slots.From(l.from):] {
		if sl.Hash > l.to {
			break
		}
		if sl.Kind != l.kind {
			continue
		}
		name, err := item.NameOf(sl.Item)
		if err != nil {
			return false, err
		}
		if l.after != "" && sl.Hash == l.afterHash && name <= l.after {
			continue
		}
		found = append(found, named{sl.Hash, name})
	}
	slices.SortFunc(found, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.name, b.name))
	})
	for _, n := range found {
		l.names = append(l.names, n.name)
		if l.limit > 0 && len(l.names) == l.limit {
			return true, nil
		}
	}
	return c.place.Last() >= l.to, nil
}
