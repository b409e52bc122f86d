// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// lostError returns an error, a [keyring.ErrVersionDestroyed], if page p, which reading
// failed with err, was given up by destroying a version of the key by force; else nil.
// Such a page is listed as empty, and replaced by the next write or rotation.
func lostError(t *tenant.Record, p page.Prefix, err error) error {
	switch {
	case err == nil || t.GivenUp == nil:
		return nil
	case errors.Is(err, keyring.ErrVersionDestroyed):
		return err
	case errors.Is(err, page.ErrDamaged) && t.GaveUp(p.String()):
		return fmt.Errorf("page %s: %w", p, keyring.ErrVersionDestroyed)
	}
	return nil
}

// openOrLost is openPageAt, and tells a page that was given up from one that fails.
func (tab *Table) openOrLost(ctx context.Context, t *tenant.Record, p page.Prefix) (found *page.Page, lost, err error) {
	found, err = tab.openPageAt(ctx, t, p)
	if lost = lostError(t, p, err); lost != nil {
		return nil, lost, nil
	}
	return found, nil, err
}

// leftOf returns what a page that was given up is replaced by: nothing, or the page
// without its delta if that alone is damaged. The caller holds the lock of p.
func (tab *Table) leftOf(ctx context.Context, t *tenant.Record, p page.Prefix) (page.Page, error) {
	sealed, err := tab.store.getPage(ctx, tab.incarnation, p)
	if err == nil && sealed != nil {
		var o *page.Page
		if o, err = tab.store.open(ctx, t, p, raw{page: sealed}); err == nil {
			return *o, nil
		}
	}
	if err == nil || errors.Is(err, page.ErrDamaged) || keystore.CannotOpen(err) {
		return page.Page{}, nil
	}
	return page.Page{}, err
}

// replaceLost stores what is left of a page that was given up, under its lock.
func (tab *Table) replaceLost(ctx context.Context, t *tenant.Record, p page.Prefix, version int) (Moved, error) {
	left, err := tab.leftOf(ctx, t, p)
	if err != nil {
		return Superseded, err
	}
	h := page.Header{Version: version, Counts: left.Slots.Counts()}
	return Rewritten, tab.reseal(ctx, t, p, h, left.Slots.Encode())
}

// Unreadable is a part of a tenant's items that could not be read, and why.
type Unreadable struct {
	Place  string // as in the failures of a rotation
	Reason string
}

// ReadableNames is Names, or, with a limit or after another item, NamesAfter, of what can
// be read. It says what cannot. It fails if the pages cannot be listed.
func (s *Store) ReadableNames(ctx context.Context, t *tenant.Record, k item.Kind, after string, limit int) ([]string, []Unreadable, error) {
	l := listing{kind: k, limit: limit, after: after, partial: true}
	err := s.listAfter(ctx, t, &l)
	return l.names, l.unreadable, err
}

func (l *listing) miss(place string, err error) {
	l.unreadable = append(l.unreadable, Unreadable{place, err.Error()})
}

// passOver notes that the page at l.from cannot be read, and returns it as if it had no
// items: at is where it lies, nil if no page covers the place.
func (tab *Table) passOver(l *listing, at *content, err error) (*content, error) {
	if !errors.Is(err, page.ErrDamaged) && !keystore.CannotOpen(err) {
		return nil, err
	}
	if at == nil {
		if storage.IsDamaged(err) {
			return nil, err // the pages cannot be listed
		}
		at = &content{place: tab.dir.Gap(l.from)}
	}
	l.miss(at.place.String(), err)
	return &content{place: at.place}, nil
}
