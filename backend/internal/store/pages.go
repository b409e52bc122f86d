// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// errPageMissing reports hashes that no page covers: an entry of storage was
// removed from outside.
var errPageMissing = fmt.Errorf("a page is missing from storage: %w", ErrPageDamaged)

// listPages lists a tenant's pages, those left over from a split included.
func (s *Store) listPages(ctx context.Context, incarnation string) (map[Place]bool, error) {
	names, err := s.storage.List(ctx, pagesOf(incarnation))
	if err != nil {
		return nil, fmt.Errorf("listing pages: %w", err)
	}
	listed := make(map[Place]bool, len(names))
	for _, name := range names {
		p, err := parsePlace(name)
		if err != nil {
			return nil, err
		}
		listed[p] = true
	}
	return listed, nil
}

// loadDirectory lists the tenant's pages, unless the directory is loaded.
func (s *Store) loadDirectory(ctx context.Context, w *working) error {
	w.loading.Lock()
	defer w.loading.Unlock()
	for range maxTries {
		if _, _, loaded := w.dir.headersToRead(); loaded {
			return nil
		}
		generation := w.dir.started()
		listed, err := s.listPages(ctx, w.incarnation)
		if err != nil {
			return err
		}
		if w.dir.install(generation, listed) {
			return nil
		}
	}
	return ErrContended
}

// locate returns the page that covers h. With empty true there is none, since
// the tenant has no page yet.
func (s *Store) locate(ctx context.Context, w *working, h Hash) (p Place, empty bool, err error) {
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
	return "", false, ErrContended
}

// getPage returns the raw page at p from storage, or nil.
func (s *Store) getPage(ctx context.Context, incarnation string, p Place) ([]byte, error) {
	e, err := s.storage.Get(ctx, pageKey(incarnation, p))
	if err != nil {
		return nil, fmt.Errorf("reading page %s: %w", p, err)
	}
	if e == nil {
		return nil, nil
	}
	return e.Value, nil
}

// putPage stores a page. On an error, which may hide that it was stored, the
// directory is dropped.
func (s *Store) putPage(ctx context.Context, w *working, p Place, page []byte) error {
	e := &logical.StorageEntry{Key: pageKey(w.incarnation, p), Value: page}
	had := s.pages.begin(e.Key)
	if err := s.storage.Put(context.WithoutCancel(ctx), e); err != nil {
		s.pages.end(e.Key, nil)
		w.dir.drop()
		return fmt.Errorf("writing page %s: %w", p, err)
	}
	if !had {
		page = nil // nobody reads it: a rotation must not push out what is read
	}
	s.pages.end(e.Key, page)
	return nil
}

// deletePage deletes a page; the directory learns of it from the caller.
func (s *Store) deletePage(ctx context.Context, w *working, p Place) error {
	key := pageKey(w.incarnation, p)
	s.pages.begin(key)
	defer s.pages.end(key, nil)
	if err := s.delete(ctx, key); err != nil {
		w.dir.drop()
		return err
	}
	return nil
}

// opened is a page as it was found and opened.
type opened struct {
	Header
	encoded []byte // its slots
}

// openPageAt reads and opens the page at p for a request; nil if it does not
// show. Beside [ErrPageDamaged] it fails with one of the errors that KeyGone
// tells. What comes from the cache and does not open is read from storage.
func (s *Store) openPageAt(ctx context.Context, t *Tenant, w *working, p Place) (*opened, error) {
	key := pageKey(w.incarnation, p)
	raw, generation := s.pages.get(key)
	if raw != nil {
		if h, encoded, err := s.openRaw(ctx, t, p, raw); err == nil {
			return &opened{h, encoded}, nil
		}
		s.pages.drop(key)
		_, generation = s.pages.get(key)
	}
	raw, err := s.getPage(ctx, w.incarnation, p)
	if err != nil || raw == nil {
		return nil, err
	}
	h, encoded, err := s.openRaw(ctx, t, p, raw)
	if err != nil {
		return nil, err
	}
	s.pages.keep(key, raw, generation)
	return &opened{h, encoded}, nil
}

// openRaw returns the header and the encoded slots of a raw page. Beside
// [ErrPageDamaged] it fails with one of the errors that KeyGone tells.
func (s *Store) openRaw(ctx context.Context, t *Tenant, p Place, raw []byte) (Header, []byte, error) {
	h, _, err := parseHeader(raw)
	if err != nil {
		return Header{}, nil, fmt.Errorf("page %s: %w: %w", p, ErrPageDamaged, err)
	}
	v, err := t.Keys.Usable(h.Version)
	if err != nil {
		return h, nil, fmt.Errorf("page %s: %w", p, err)
	}
	a, err := s.pageAEAD(ctx, t, v)
	if err != nil {
		return h, nil, fmt.Errorf("page %s: %w", p, err)
	}
	encoded, err := openPage(t, p, a, raw)
	return h, encoded, err
}

// KeyGone reports whether err says that a page's key is not to be had: mostly
// since the page was rewritten after it was read, or its tenant's record was; if
// that is not it, the key or its entry is damaged.
func KeyGone(err error) bool {
	return errors.Is(err, ErrKeyGone) || errors.Is(err, ErrKeyDamaged) ||
		errors.Is(err, keyring.ErrNoVersion) || errors.Is(err, keyring.ErrVersionDestroyed)
}

// hidden tells what to make of a page that the directory lists and Get does not
// show. Mostly the page has split meanwhile. If a fresh List, made under the
// page's lock, still shows it and Get still does not, then Vault's cache hides
// a first write whose error told that it failed: nothing acknowledged is in it,
// and it counts as empty. The caller holds the lock of p.
func (s *Store) hidden(ctx context.Context, w *working, p Place) (bool, error) {
	w.dir.drop()
	if err := s.loadDirectory(ctx, w); err != nil {
		return false, err
	}
	q, _, err := s.locate(ctx, w, p.first())
	if err != nil || q != p {
		return false, err
	}
	raw, err := s.getPage(ctx, w.incarnation, p)
	return raw == nil, err
}

// content is a page as a reader sees it.
type content struct {
	place   Place
	version int
	slots   slots
}

// read returns the page that covers h, opened; nil if the tenant has no page
// yet. It takes no lock but for a page that does not show: the page may split,
// and a rotation may rewrite it and destroy its key, between any two steps, and
// then it is read again.
func (s *Store) read(ctx context.Context, t *Tenant, w *working, h Hash) (*content, error) {
	var last error
	for range maxTries {
		p, empty, err := s.locate(ctx, w, h)
		if err != nil || empty {
			return nil, err
		}
		page, err := s.openPageAt(ctx, t, w, p)
		if KeyGone(err) {
			last = err
			if t, err = s.sameTenant(ctx, t); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if page == nil {
			isEmpty, err := s.readHidden(ctx, w, p, h)
			if err != nil {
				return nil, err
			}
			if isEmpty {
				return &content{place: p}, nil
			}
			continue
		}
		decoded, err := decodeSlots(page.encoded)
		if err != nil {
			return nil, err
		}
		return &content{place: p, version: page.Version, slots: decoded}, nil
	}
	if last != nil {
		return nil, fmt.Errorf("%w: %w", ErrPageDamaged, last)
	}
	return nil, ErrContended
}

func (s *Store) readHidden(ctx context.Context, w *working, p Place, h Hash) (bool, error) {
	// Who split it has told the directory by the time the lock is free.
	defer s.lockPage(w.incarnation, p)()
	if q, found, _, _ := w.dir.route(h); found && q != p {
		return false, nil
	}
	return s.hidden(ctx, w, p)
}

// sameTenant reads the record of t again.
func (s *Store) sameTenant(ctx context.Context, t *Tenant) (*Tenant, error) {
	now, err := s.Tenant(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	if now.Incarnation != t.Incarnation {
		return nil, ErrTenantNotFound
	}
	return now, nil
}
