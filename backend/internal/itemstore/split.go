// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pageedit"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// readForWrite reads page p under its lock, once it is sure that p is the page to
// write to; ours is false if it is not.
func (tab *Table) readForWrite(ctx context.Context, t *tenant.Record, p page.Prefix) (cur pageedit.Current, ours bool, err error) {
	q, empty, err := tab.locate(ctx, p.First())
	if err != nil || q != p {
		return pageedit.Current{}, false, err
	}
	if empty {
		return tab.firstPage(ctx)
	}
	found, lost, err := tab.openOrLost(ctx, t, p)
	if lost != nil {
		left, err := tab.leftOf(ctx, t, p)
		return pageedit.Current{Page: left, Lost: lost}, err == nil, err
	}
	if err != nil {
		return pageedit.Current{}, false, err
	}
	if found == nil {
		isEmpty, err := tab.staleMiss(ctx, p)
		return pageedit.Current{}, isEmpty, err
	}
	return pageedit.Current{Page: *found}, true, nil
}

// firstPage allows the root to be created, only after a List made under its
// lock has shown no page: a directory that was loaded before might not know of
// one.
func (tab *Table) firstPage(ctx context.Context) (pageedit.Current, bool, error) {
	listed, err := tab.store.listPages(ctx, tab.incarnation)
	if err != nil {
		return pageedit.Current{}, false, err
	}
	if len(listed.Pages) > 0 {
		tab.dir.Drop()
		return pageedit.Current{}, false, nil
	}
	return pageedit.Current{IsNew: true}, true, nil
}

// writePage seals slots under the active version and stores them as page p.
func (tab *Table) writePage(ctx context.Context, t *tenant.Record, p page.Prefix, sl page.Slots, isNew bool) error {
	h, err := tab.sealAndPut(ctx, t, p, sl)
	if err != nil {
		return err
	}
	if isNew {
		tab.dir.Change(nil, map[page.Prefix]page.Header{p: h})
	} else {
		tab.dir.Wrote(p, h)
	}
	return nil
}

func (tab *Table) sealAndPut(ctx context.Context, t *tenant.Record, p page.Prefix, sl page.Slots) (page.Header, error) {
	v, a, err := tab.store.activeAEAD(ctx, t)
	if err != nil {
		return page.Header{}, err
	}
	h := page.Header{Version: v.Number, Counts: sl.Counts()}
	sealed, err := page.Seal(t.Owner(), p, h, a, sl.Encode())
	if err != nil {
		return page.Header{}, err
	}
	return h, tab.putPage(ctx, p, sealed)
}

// split replaces page p by its two children, which hold sl between them. While p
// exists, lookups end there. So both children are written first, an empty one too,
// then p is deleted, and only then is the directory updated and the change
// acknowledged. It returns the children that are themselves too large.
func (tab *Table) split(ctx context.Context, t *tenant.Record, p page.Prefix, sl page.Slots) (big []page.Prefix, err error) {
	if len(p) == page.MaxDepth {
		return nil, errPageFull
	}
	added := map[page.Prefix]page.Header{}
	for side, c := range sl.Split(p) {
		child := p.Child(side)
		h, err := tab.sealAndPut(ctx, t, child, c)
		if err != nil {
			return nil, err
		}
		added[child] = h
		if page.TooLarge(child, c) {
			big = append(big, child)
		}
	}
	if err := tab.deletePage(ctx, p); err != nil {
		return nil, err
	}
	hadDelta := tab.dir.MayHaveDelta(p)
	tab.dir.Change(&p, added)
	if hadDelta {
		// Without its page the delta is obsolete. If it cannot be deleted now, the next
		// rotation deletes it.
		_ = tab.deleteDelta(ctx, p)
	}
	return big, nil
}

// bulkLoad stores the items that are too large for a tenant's first page: the empty
// root, then all pages that hold sl between them; then the root is deleted.
//
// Going down several levels at once is sound only where a List under the lock of
// the root has shown no page. Otherwise an interrupted split might have left a page in
// between, which would become current when the root is deleted, in place of those below
// it. Without the root, the first of the pages would become current before the others are
// written.
func (tab *Table) bulkLoad(ctx context.Context, t *tenant.Record, sl page.Slots) error {
	const root = page.Prefix("")
	leaves := sl.Leaves(root)
	for _, l := range leaves {
		if l.Slots.Size() > page.MaxBytes {
			return errPageFull
		}
	}
	if err := tab.writePage(ctx, t, root, nil, true); err != nil {
		return err
	}
	headers := make([]page.Header, len(leaves))
	var g errgroup.Group
	g.SetLimit(pagesInFlight)
	for i, l := range leaves {
		g.Go(func() (err error) {
			headers[i], err = tab.sealAndPut(ctx, t, l.Place, l.Slots)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := tab.deletePage(ctx, root); err != nil {
		return err
	}
	added := make(map[page.Prefix]page.Header, len(leaves))
	for i, l := range leaves {
		added[l.Place] = headers[i]
	}
	gone := root
	tab.dir.Change(&gone, added)
	return nil
}

// divide splits pages until none of several items is too large. The changes are
// acknowledged before: the caller that led the batch does it, still under the tenant's
// shared lock. A failure is left to the next write: the pages are complete, only larger
// than they should be.
func (tab *Table) divide(ctx context.Context, t *tenant.Record, big []page.Prefix) {
	var g errgroup.Group
	g.SetLimit(pagesInFlight)
	for _, p := range big {
		g.Go(func() error {
			tab.divide(ctx, t, tab.splitTooLarge(ctx, t, p))
			return nil
		})
	}
	_ = g.Wait() // nothing fails but what is left to the next write
}

// splitTooLarge splits page p under its lock, if it is still too large. It returns the
// children that are too large themselves.
func (tab *Table) splitTooLarge(ctx context.Context, t *tenant.Record, p page.Prefix) (big []page.Prefix) {
	defer tab.store.lockPage(tab.incarnation, p)()
	return tab.commit(ctx, t, p, nil)
}
