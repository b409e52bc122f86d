// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Moved says what Move did.
type Moved int

// What Move did.
const (
	Elsewhere Moved = iota // the page does not count any more: it split, say
	Stayed                 // its header says that it is on the version
	Rewrote                // it was sealed again and stored
)

// PageRef is a page as a List showed it.
type PageRef struct {
	Place Place
	// Above is the page that counts instead of this one, if Leftover.
	Above    Place
	Leftover bool
}

// ListPages lists the pages of t afresh, in the order of their places, those left
// over from a split included.
func (s *Store) ListPages(ctx context.Context, t *Tenant) ([]PageRef, error) {
	listed, err := s.listPages(ctx, t.Incarnation)
	if err != nil {
		return nil, err
	}
	refs := make([]PageRef, 0, len(listed))
	for p := range listed {
		above, leftover := p.coveredBy(listed)
		refs = append(refs, PageRef{Place: p, Above: above, Leftover: leftover})
	}
	slices.SortFunc(refs, func(a, b PageRef) int { return cmp.Compare(a.Place, b.Place) })
	return refs, nil
}

// ForgetPages drops the directory of t, so that it is loaded afresh.
func (s *Store) ForgetPages(t *Tenant) { s.tenants.drop(t.Incarnation) }

// PageItems is how many items page p holds by its header, 0 if it has none.
func (s *Store) PageItems(ctx context.Context, t *Tenant, p Place) int {
	raw, err := s.getPage(ctx, t.Incarnation, p)
	if err != nil || raw == nil {
		return 0
	}
	h, _, err := parseHeader(raw)
	if err != nil {
		return 0
	}
	return h.Counts.Total()
}

// Move brings a page to a key version: it is opened and sealed again, its items
// stay encoded. A page that is on the version already is written only if
// rewrite is true. A leftover is deleted. It fails with [ErrPageDamaged] if the
// page does not open. The caller holds the tenant's lock shared and has made
// sure, under it, that the version is the one to move to.
//
// Under the page's lock it looks the page up again. A page that has split since
// it was listed may still show behind a stale cache: to write it would bring it
// back, and it would count instead of its children.
func (s *Store) Move(ctx context.Context, t *Tenant, ref PageRef, version int, rewrite bool) (Moved, error) {
	w, release := s.tenants.use(t.Incarnation)
	defer release()
	if ref.Leftover {
		return Elsewhere, s.deleteLeftover(ctx, w, ref)
	}
	defer s.lockPage(w.incarnation, ref.Place)()
	p, empty, err := s.locate(ctx, w, ref.Place.first())
	if err != nil || empty || p != ref.Place {
		return Elsewhere, err
	}
	raw, err := s.getPage(ctx, w.incarnation, ref.Place)
	if err != nil {
		return Elsewhere, err
	}
	if raw == nil {
		return s.moveHidden(ctx, t, w, ref.Place, version)
	}
	h, _, err := parseHeader(raw)
	if err == nil && h.Version == version && !rewrite {
		w.dir.saw(ref.Place, h)
		return Stayed, nil
	}
	h, encoded, err := s.openRaw(ctx, t, ref.Place, raw)
	if KeyGone(err) {
		err = fmt.Errorf("%w: %w", ErrPageDamaged, err)
	}
	if err != nil {
		return Elsewhere, err
	}
	h.Version = version
	return Rewrote, s.reseal(ctx, t, w, ref.Place, h, encoded)
}

func (s *Store) reseal(ctx context.Context, t *Tenant, w *working, p Place, h Header, encoded []byte) error {
	v, err := t.Keys.Usable(h.Version)
	if err != nil {
		return err
	}
	a, err := s.pageAEAD(ctx, t, v)
	if err != nil {
		return err
	}
	page, err := sealPage(t, p, h, a, encoded)
	if err != nil {
		return err
	}
	if err := s.putPage(ctx, w, p, page); err != nil {
		return err
	}
	w.dir.saw(p, h)
	return nil
}

// moveHidden replaces a page that is listed but does not show, under its lock,
// by an empty one: see hidden.
func (s *Store) moveHidden(ctx context.Context, t *Tenant, w *working, p Place, version int) (Moved, error) {
	isEmpty, err := s.hidden(ctx, w, p)
	if err != nil || !isEmpty {
		return Elsewhere, err
	}
	return Rewrote, s.reseal(ctx, t, w, p, Header{Version: version}, slots(nil).encode())
}

// deleteLeftover deletes what a split that did not finish left over, only after
// a List made under the lock of the page above has shown that page: had it
// gone, the leftover would be what counts.
func (s *Store) deleteLeftover(ctx context.Context, w *working, ref PageRef) error {
	defer s.lockPage(w.incarnation, ref.Above)()
	listed, err := s.listPages(ctx, w.incarnation)
	if err != nil || !listed[ref.Above] {
		return err
	}
	if err := s.deletePage(ctx, w, ref.Place); err != nil {
		return err
	}
	w.dir.change(&ref.Place, nil)
	return nil
}
