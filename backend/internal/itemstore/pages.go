// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// errPageMissing reports hashes that no page covers: an entry of storage was
// removed from outside.
var errPageMissing = fmt.Errorf("a page is missing from storage: %w", page.ErrDamaged)

// listed is what a List shows of a tenant's pages, those left over from a split
// included, and of their deltas, those too that do not count any more.
type listed struct{ pages, deltas map[page.Prefix]bool }

func (s *Store) listPages(ctx context.Context, incarnation string) (listed, error) {
	names, err := s.mount.List(ctx, pagesOf(incarnation))
	if err != nil {
		return listed{}, err
	}
	l := listed{make(map[page.Prefix]bool, len(names)), map[page.Prefix]bool{}}
	for _, name := range names {
		p, isDelta, err := page.ParseName(name)
		if err != nil {
			return listed{}, err
		}
		if isDelta {
			l.deltas[p] = true
		} else {
			l.pages[p] = true
		}
	}
	return l, nil
}

// loadDirectory lists the tenant's pages, unless the directory is loaded.
func (s *Store) loadDirectory(ctx context.Context, w *Table) error {
	w.loading.Lock()
	defer w.loading.Unlock()
	for range maxTries {
		if _, _, loaded := w.dir.headersToRead(); loaded {
			return nil
		}
		number := w.dir.started()
		listed, err := s.listPages(ctx, w.incarnation)
		if err != nil {
			return err
		}
		if w.dir.install(number, listed) {
			return nil
		}
	}
	return storage.ErrContended
}

// locate returns the page that covers h. With empty true there is none, since
// the tenant has no page yet.
func (s *Store) locate(ctx context.Context, w *Table, h page.Hash) (p page.Prefix, empty bool, err error) {
	missing := false
	for range maxTries {
		p, found, empty, loaded := w.dir.route(h)
		switch {
		case found:
			return p, false, nil
		case empty:
			return "", true, nil
		case loaded && missing:
			return "", false, errPageMissing
		case loaded:
			missing = true
			w.dir.drop()
		}
		if err := s.loadDirectory(ctx, w); err != nil {
			return "", false, err
		}
	}
	return "", false, storage.ErrContended
}

// getPage returns the raw page at p from storage, or nil.
func (s *Store) getPage(ctx context.Context, incarnation string, p page.Prefix) ([]byte, error) {
	raw, err := s.mount.Get(ctx, pageKey(incarnation, p))
	if err != nil {
		return nil, fmt.Errorf("reading page %s: %w", p, err)
	}
	return raw, nil
}

// putPage stores a page, and keeps in memory what was read from there: nothing else,
// since a rotation must not push out what is read.
func (s *Store) putPage(ctx context.Context, w *Table, p page.Prefix, page []byte) error {
	key := pageKey(w.incarnation, p)
	had := s.pages.begin(key)
	err := s.put(ctx, w, key, page)
	if err != nil || !had {
		page = nil
	}
	s.pages.end(key, page)
	if err != nil {
		return fmt.Errorf("writing page %s: %w", p, err)
	}
	return nil
}

// Put stores a page or a delta. On an error, which may hide that it was stored, the
// directory is dropped.
func (s *Store) put(ctx context.Context, w *Table, key string, value []byte) error {
	err := s.mount.Put(ctx, key, value)
	if err != nil {
		w.dir.drop()
	}
	return err
}

// deletePage deletes a page; the directory learns of it from the caller.
func (s *Store) deletePage(ctx context.Context, w *Table, p page.Prefix) error {
	return s.deleteEntry(ctx, w, pageKey(w.incarnation, p))
}

// deleteEntry deletes a page or a delta.
func (s *Store) deleteEntry(ctx context.Context, w *Table, key string) error {
	s.pages.begin(key)
	defer s.pages.end(key, nil)
	if err := s.mount.Delete(ctx, key); err != nil {
		w.dir.drop()
		return err
	}
	return nil
}

// staleMiss tells what to make of a page that the directory lists and Get does not
// show. Mostly the page has split meanwhile. If a fresh List, made under the
// page's lock, still shows it and Get still does not, then Vault's cache hides
// a first write whose error told that it failed: nothing acknowledged is in it,
// and it counts as empty. The caller holds the lock of p.
func (s *Store) staleMiss(ctx context.Context, w *Table, p page.Prefix) (bool, error) {
	w.dir.drop()
	if err := s.loadDirectory(ctx, w); err != nil {
		return false, err
	}
	q, empty, err := s.locate(ctx, w, p.First())
	if err != nil || empty || q != p {
		return false, err
	}
	raw, err := s.getPage(ctx, w.incarnation, p)
	return raw == nil, err
}
