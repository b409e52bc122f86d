// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

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
	if now.Incarnation != t.Incarnation || now.State == TenantShredding {
		return nil, ErrTenantNotFound // its keys are going, or gone
	}
	return now, nil
}
