// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Moved says what Move did.
type Moved int

// What Move did.
const (
	Superseded Moved = iota // the page is no longer current: it split, say
	Current                 // its header says that it is on the version
	Rewritten               // it was sealed again and stored
)

// PageRef is a page as a List showed it.
type PageRef = pagedir.Ref

// ListPages lists the pages of t afresh, in the order of their prefixes, and the
// leftovers of splits.
func (s *Store) ListPages(ctx context.Context, t *tenant.Record) ([]PageRef, error) {
	listed, err := s.listPages(ctx, t.Incarnation)
	if err != nil {
		return nil, err
	}
	return listed.Refs(), nil
}

// KnownPages returns the pages of t that are known in memory, as ListPages does, but for
// leftovers. Without any it returns nil. A List may show others.
func (s *Store) KnownPages(t *tenant.Record) []PageRef {
	tab, release := s.table(t)
	defer release()
	var refs []PageRef
	for _, p := range tab.dir.Pages() {
		refs = append(refs, PageRef{Prefix: p})
	}
	pagedir.SortRefs(refs)
	return refs
}

// ForgetPages drops the directory of t, so that it is loaded afresh.
func (s *Store) ForgetPages(t *tenant.Record) { s.tables.drop(t.Incarnation) }

// PageItems returns how many items page p holds by its header, 0 if it has none.
func (s *Store) PageItems(ctx context.Context, t *tenant.Record, p page.Prefix) int {
	tab, release := s.table(t)
	defer release()
	r, err := tab.getBoth(ctx, p, s.mount.Get)
	if err != nil {
		return 0
	}
	h, err := r.header()
	if err != nil {
		return 0
	}
	return h.Counts.Total()
}

// Move brings a page to a key version: it opens the page with its delta, seals it again and
// stores it; the items stay encoded. A page that is on the version already is written only
// if rewrite is true. An obsolete delta is deleted, and a leftover is deleted instead of
// moved. It fails with [page.ErrDamaged] if the page does not open, or cannot be sealed under
// the version; one that was given up is replaced: see [tenant.Record.GaveUp]. The caller holds the
// tenant's lock shared and has made sure, under it, that the version is the one to
// move to.
//
// Under the page's lock it looks the page up again. A page that has split since
// it was listed may still show behind a stale cache: writing it would bring it
// back, and lookups would end there instead of at its children.
func (s *Store) Move(ctx context.Context, t *tenant.Record, ref PageRef, version int, rewrite bool) (Moved, error) {
	tab, release := s.table(t)
	defer release()
	if ref.Leftover {
		return Superseded, tab.deleteLeftover(ctx, ref)
	}
	defer s.lockPage(tab.incarnation, ref.Prefix)()
	p, empty, err := tab.locate(ctx, ref.Prefix.First())
	if err != nil || empty || p != ref.Prefix {
		return Superseded, err
	}
	mayHaveDelta := tab.dir.MayHaveDelta(p)
	r, err := tab.getBoth(ctx, p, s.mount.Get)
	moved := Superseded
	if err == nil {
		moved, err = tab.moveRaw(ctx, t, p, r, version, rewrite)
	}
	if lostError(t, p, err) != nil {
		moved, err = tab.replaceLost(ctx, t, p, version)
	}
	switch {
	case err != nil, moved == Superseded, !mayHaveDelta:
		return moved, err
	case moved == Current && r.delta != nil:
		return moved, nil // the delta belongs to the page, and is on the version as well
	}
	// It is obsolete, or has just been sealed into the page.
	return moved, tab.deleteDelta(ctx, p)
}

// moveRaw moves a page that was read, under its lock.
func (tab *Table) moveRaw(ctx context.Context, t *tenant.Record, p page.Prefix, r raw, version int, rewrite bool) (Moved, error) {
	if r.page == nil {
		return tab.moveStaleMiss(ctx, t, p, version)
	}
	h, err := r.header()
	if err == nil && h.Version == version && !rewrite {
		tab.dir.Saw(p, h)
		return Current, nil
	}
	h, encoded, err := tab.store.openWithDelta(ctx, t, p, r)
	if keystore.CannotOpen(err) {
		err = fmt.Errorf("%w: %w", page.ErrDamaged, err)
	}
	if err != nil {
		return Superseded, err
	}
	h.Version = version
	if err := tab.reseal(ctx, t, p, h, encoded); err != nil {
		return Rewritten, err
	}
	tab.store.reencrypted.pages.Add(1)
	tab.store.reencrypted.items.Add(int64(h.Counts.Total()))
	return Rewritten, nil
}

// openWithDelta returns the header and the encoded slots of a page with its delta.
func (s *Store) openWithDelta(ctx context.Context, t *tenant.Record, p page.Prefix, r raw) (page.Header, []byte, error) {
	if r.delta == nil {
		h, _, encoded, err := s.openRaw(ctx, t, p, r.page)
		return h, encoded, err // as it was: decoding it would tell nothing
	}
	o, err := s.open(ctx, t, p, r)
	if err != nil {
		return page.Header{}, nil, err
	}
	return o.Header, o.Slots.Encode(), nil
}

func (tab *Table) reseal(ctx context.Context, t *tenant.Record, p page.Prefix, h page.Header, encoded []byte) error {
	v, err := t.Keys.Usable(h.Version)
	if err != nil {
		return err
	}
	a, err := tab.store.keys.PageAEAD(ctx, t.Owner(), v)
	if keystore.CannotOpen(err) {
		return fmt.Errorf("page %s: %w: the key that it is to be sealed under: %w", p, page.ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	sealed, err := page.Seal(t.Owner(), p, h, a, encoded)
	if err != nil {
		return err
	}
	if err := tab.putPage(ctx, p, sealed); err != nil {
		return err
	}
	tab.dir.Wrote(p, h)
	return nil
}

// moveStaleMiss replaces a page that List shows and Get does not, under its lock, by
// an empty one: see staleMiss.
func (tab *Table) moveStaleMiss(ctx context.Context, t *tenant.Record, p page.Prefix, version int) (Moved, error) {
	isEmpty, err := tab.staleMiss(ctx, p)
	if err != nil || !isEmpty {
		return Superseded, err
	}
	return Rewritten, tab.reseal(ctx, t, p, page.Header{Version: version}, page.Slots(nil).Encode())
}

// deleteLeftover deletes what a split has left behind. A page, of a split that was
// interrupted, is deleted only after a List made under the lock of the page above has shown
// that page: without it the leftover would be the current page. A delta is deleted after
// its page has been deleted once more, since a stale cache may still show that. No page ever
// comes back to a place that it was split away from.
func (tab *Table) deleteLeftover(ctx context.Context, ref PageRef) error {
	if ref.Delta {
		defer tab.store.lockPage(tab.incarnation, ref.Prefix)()
		if err := tab.deletePage(ctx, ref.Prefix); err != nil {
			return err
		}
		return tab.deleteDelta(ctx, ref.Prefix)
	}
	defer tab.store.lockPage(tab.incarnation, ref.Above)()
	listed, err := tab.store.listPages(ctx, tab.incarnation)
	if err != nil || !listed.Pages[ref.Above] {
		return err
	}
	if err := tab.deletePage(ctx, ref.Prefix); err != nil {
		return err
	}
	tab.dir.Change(&ref.Prefix, nil)
	return nil
}
