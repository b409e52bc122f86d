// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// raw is a page as it lies in storage, sealed, and the delta that belongs to it.
type raw struct {
	page  []byte // nil if it does not show
	delta []byte // nil if there is none, or it is of an earlier Put of the page
}

// openPageAt reads and opens the page at p for a request; nil if it does not
// show. Beside [page.ErrDamaged] it fails with one of the errors that CannotOpen
// tells. What comes from the cache and does not open is read from storage.
func (tab *Table) openPageAt(ctx context.Context, t *tenant.Record, p page.Prefix) (*page.Page, error) {
	cached := false
	through := func(ctx context.Context, key string) ([]byte, error) {
		value, hit, lease := tab.store.pages.Get(key)
		if hit {
			cached = true
			return value, nil
		}
		value, err := tab.store.mount.Get(ctx, key)
		if err == nil && value != nil {
			tab.store.pages.Keep(key, value, lease)
		}
		return value, err
	}
	o, err := tab.openThrough(ctx, t, p, through)
	if err != nil && cached {
		tab.store.pages.Drop(pageKey(tab.incarnation, p))
		tab.store.pages.Drop(deltaKey(tab.incarnation, p))
		o, err = tab.openThrough(ctx, t, p, through)
	}
	return o, err
}

// getter reads the value of an entry, or nil.
type getter func(ctx context.Context, key string) ([]byte, error)

func (tab *Table) openThrough(ctx context.Context, t *tenant.Record, p page.Prefix, get getter) (*page.Page, error) {
	r, err := tab.getBoth(ctx, p, get)
	if err != nil || r.page == nil {
		return nil, err
	}
	return tab.store.open(ctx, t, p, r)
}

// open opens a page and its delta.
func (s *Store) open(ctx context.Context, t *tenant.Record, p page.Prefix, r raw) (*page.Page, error) {
	h, a, encoded, err := s.openRaw(ctx, t, p, r.page)
	if err != nil {
		return nil, err
	}
	o := &page.Page{Header: h, BaseID: page.BaseIDOf(r.page)}
	if o.Slots, err = page.DecodeSlots(encoded); err != nil || r.delta == nil {
		return o, err
	}
	return o, o.AddDelta(t.Owner(), p, a, r.delta)
}

// getBoth reads a page and its delta.
//
// The delta comes first. Then what is read together was true at one moment: if the
// page was put again in between, it has all that the delta has, which does not
// belong to it any more. Read the other way round, the delta might be of a later
// Put than the page, and changes be missing that were acknowledged long ago.
func (tab *Table) getBoth(ctx context.Context, p page.Prefix, get getter) (r raw, err error) {
	if tab.dir.MayHaveDelta(p) {
		if r.delta, err = get(ctx, deltaKey(tab.incarnation, p)); err != nil {
			return raw{}, fmt.Errorf("delta: %w", readingPage(p, err))
		}
	}
	if r.page, err = get(ctx, pageKey(tab.incarnation, p)); err != nil {
		return raw{}, readingPage(p, err)
	}
	if r.delta == nil || r.page == nil {
		return raw{page: r.page}, nil
	}
	belongs, err := page.Belongs(r.delta, r.page)
	if err != nil {
		return raw{}, fmt.Errorf("delta of page %s: %w: %w", p, page.ErrDamaged, err)
	}
	if !belongs {
		r.delta = nil
	}
	return r, nil
}

// openRaw returns the header and the encoded slots of a raw page, without its delta,
// and what it was opened with. Beside [page.ErrDamaged] it fails with one of the
// errors of which [keystore.CannotOpen] is true.
func (s *Store) openRaw(ctx context.Context, t *tenant.Record, p page.Prefix, sealed []byte) (page.Header, keyring.AEAD, []byte, error) {
	h, _, err := page.ParseHeader(sealed)
	if err != nil {
		return page.Header{}, nil, nil, fmt.Errorf("page %s: %w: %w", p, page.ErrDamaged, err)
	}
	v, err := t.Keys.Usable(h.Version)
	if err != nil {
		return h, nil, nil, fmt.Errorf("page %s: %w", p, err)
	}
	a, err := s.keys.PageAEAD(ctx, t.Owner(), v)
	if err != nil {
		return h, nil, nil, fmt.Errorf("page %s: %w", p, err)
	}
	encoded, err := page.Open(t.Owner(), p, a, sealed)
	return h, a, encoded, err
}

// content is a page as a reader sees it.
type content struct {
	place   page.Prefix
	version int
	slots   page.Slots
	lost    error // why nothing of it can be read any more: it was given up
}

// read returns the page that covers h, opened; nil if the tenant has no page
// yet. With an error of a page it returns where that lies.
func (tab *Table) read(ctx context.Context, t *tenant.Record, h page.Hash) (*content, error) {
	c, err := tab.readCurrent(ctx, t, h)
	if errors.Is(err, page.ErrDamaged) {
		// The pages of a tenant that is being shredded vanish one by one.
		if _, gone := tab.store.sameTenant(ctx, t); errors.Is(gone, tenant.ErrNotFound) {
			return nil, gone
		}
	}
	return c, err
}

// readCurrent takes no lock but for a page that does not show: the page may split, and a
// rotation may rewrite it and destroy its key, between any two steps, and then it is read
// again.
func (tab *Table) readCurrent(ctx context.Context, t *tenant.Record, h page.Hash) (*content, error) {
	var last error
	var at page.Prefix
	for range maxTries {
		p, empty, err := tab.locate(ctx, h)
		if err != nil || empty {
			return nil, err
		}
		found, lost, err := tab.openOrLost(ctx, t, p)
		if lost != nil {
			return &content{place: p, lost: lost}, nil //nolint:nilerr // lost says why
		}
		if keystore.CannotOpen(err) {
			last, at = err, p
			if t, err = tab.store.sameTenant(ctx, t); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return &content{place: p}, err
		}
		if found == nil {
			isEmpty, err := tab.readStaleMiss(ctx, p, h)
			if err != nil {
				return nil, err
			}
			if isEmpty {
				return &content{place: p}, nil
			}
			continue
		}
		return &content{place: p, version: found.Version, slots: found.Slots}, nil
	}
	if last != nil {
		return &content{place: at}, fmt.Errorf("%w: %w", page.ErrDamaged, last)
	}
	return nil, storage.ErrContended
}

func (tab *Table) readStaleMiss(ctx context.Context, p page.Prefix, h page.Hash) (bool, error) {
	// The writer that split the page has updated the directory by the time it
	// releases the lock.
	defer tab.store.lockPage(tab.incarnation, p)()
	if q, found, _, _ := tab.dir.Route(h); found && q != p {
		return false, nil
	}
	return tab.staleMiss(ctx, p)
}

// sameTenant reads the record of t again.
func (s *Store) sameTenant(ctx context.Context, t *tenant.Record) (*tenant.Record, error) {
	now, err := s.tenants.Read(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	if now.Incarnation != t.Incarnation || now.State == tenant.Shredding {
		return nil, tenant.ErrNotFound // its keys are going, or gone
	}
	return now, nil
}
