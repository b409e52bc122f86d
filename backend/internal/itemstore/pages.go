// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// errPageMissing reports hashes that no page covers: an entry of storage was
// removed from outside.
var errPageMissing = fmt.Errorf("a page is missing from storage: %w", page.ErrDamaged)

// listPages lists the pages and deltas of an incarnation.
func (s *Store) listPages(ctx context.Context, incarnation string) (pagedir.Listed, error) {
	names, err := s.mount.List(ctx, pagesOf(incarnation))
	if err != nil {
		return pagedir.Listed{}, err
	}
	return pagedir.ListedFrom(names)
}

// loadDirectory lists the tenant's pages, unless the directory is loaded.
func (tab *Table) loadDirectory(ctx context.Context) error {
	tab.loading.Lock()
	defer tab.loading.Unlock()
	for range maxTries {
		if tab.dir.Loaded() {
			return nil
		}
		number := tab.dir.BeginList()
		listed, err := tab.store.listPages(ctx, tab.incarnation)
		if err != nil {
			return err
		}
		if tab.dir.Install(number, listed) {
			return nil
		}
	}
	return storage.ErrContended
}

// locate returns the page that covers h. With empty true there is none, since
// the tenant has no page yet.
func (tab *Table) locate(ctx context.Context, h page.Hash) (p page.Prefix, empty bool, err error) {
	missing := false
	for range maxTries {
		p, found, empty, loaded := tab.dir.Route(h)
		switch {
		case found:
			return p, false, nil
		case empty:
			return "", true, nil
		case loaded && missing:
			return "", false, errPageMissing
		case loaded:
			missing = true
			tab.dir.Drop()
		}
		if err := tab.loadDirectory(ctx); err != nil {
			return "", false, err
		}
	}
	return "", false, storage.ErrContended
}

// getPage returns the raw page at p from storage, or nil.
func (s *Store) getPage(ctx context.Context, incarnation string, p page.Prefix) ([]byte, error) {
	raw, err := s.mount.Get(ctx, pageKey(incarnation, p))
	if err != nil {
		return nil, readingPage(p, err)
	}
	return raw, nil
}

// readingPage is the error of a page, or of its delta, that could not be read.
func readingPage(p page.Prefix, err error) error {
	if storage.IsDamaged(err) {
		return fmt.Errorf("page %s: %w: %w", p, page.ErrDamaged, err)
	}
	return fmt.Errorf("reading page %s: %w", p, err)
}

// putPage stores a page. In the cache it replaces the page if that was there, and adds none:
// a rotation must not evict the pages that requests read.
func (tab *Table) putPage(ctx context.Context, p page.Prefix, sealed []byte) error {
	key := pageKey(tab.incarnation, p)
	had := tab.store.pages.Begin(key)
	err := tab.put(ctx, key, sealed)
	if err == nil && had {
		tab.store.pages.End(key, &sealed)
	} else {
		tab.store.pages.End(key, nil)
	}
	if err != nil {
		return fmt.Errorf("writing page %s: %w", p, err)
	}
	return nil
}

// put stores a page or a delta. After an error, which may hide that it was stored, the
// directory is dropped, and with it the notes of which pages this process has put.
func (tab *Table) put(ctx context.Context, key string, value []byte) error {
	err := tab.store.mount.Put(ctx, key, value)
	if err != nil {
		tab.dir.Drop()
	}
	return err
}

// deletePage deletes a page; the directory learns of it from the caller.
func (tab *Table) deletePage(ctx context.Context, p page.Prefix) error {
	return tab.deleteEntry(ctx, pageKey(tab.incarnation, p))
}

// deleteEntry deletes a page or a delta.
func (tab *Table) deleteEntry(ctx context.Context, key string) error {
	tab.store.pages.Begin(key)
	defer tab.store.pages.End(key, nil)
	if err := tab.store.mount.Delete(ctx, key); err != nil {
		tab.dir.Drop()
		return err
	}
	return nil
}

// staleMiss decides about a page that the directory lists and Get does not show; isEmpty
// says that it is to be used as an empty page. Mostly the page has split meanwhile, and the
// caller looks again. If a fresh List, made under the page's lock, still shows it and Get
// still does not, then the page's first Put was reported as failed, took effect, and is
// hidden by Vault's cache. Nothing in it was acknowledged. The caller holds the lock of p.
func (tab *Table) staleMiss(ctx context.Context, p page.Prefix) (isEmpty bool, err error) {
	tab.dir.Drop()
	if err := tab.loadDirectory(ctx); err != nil {
		return false, err
	}
	q, empty, err := tab.locate(ctx, p.First())
	if err != nil || empty || q != p {
		return false, err
	}
	raw, err := tab.store.getPage(ctx, tab.incarnation, p)
	return raw == nil, err
}
