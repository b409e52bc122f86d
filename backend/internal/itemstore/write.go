// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pageedit"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// pagesInFlight bounds the pages that one bulk write changes at once.
const pagesInFlight = 32

// errPageFull would need two large items whose 64-bit hashes are the same.
var errPageFull = errors.New("items cannot be told apart by their hashes")

// Op is one change of one item.
type Op = pageedit.Op

// apply makes the changes; each Op has its own outcome. The caller has held the
// tenant's lock shared since before it read t, so the version that seals is the
// active one until apply returns.
//
// That also makes batches sound: all callers in a batch hold the lock at once, so no
// version was activated between them and all have read the same active one.
func (s *Store) apply(ctx context.Context, t *tenant.Record, ops ...*Op) {
	tab, release := s.table(t)
	defer release()
	pending := make([]*Op, 0, len(ops))
	for _, op := range ops {
		h, err := tab.hash(ctx, t, op.Kind, op.Name)
		if err != nil {
			op.Settle(err)
			continue
		}
		op.Hash = h
		pending = append(pending, op)
	}
	// A turn settles at least one change, or splits a page that is in a change's way, or
	// finds that another caller has. So a bulk write is given more turns, the more changes
	// it has.
	for range maxTries*2 + len(ops) {
		if len(pending) == 0 {
			return
		}
		tab.applyRound(ctx, t, pending)
		pending = slices.DeleteFunc(pending, func(op *Op) bool { return op.Settled() })
	}
	for _, op := range pending {
		op.Settle(storage.ErrContended)
	}
}

// opsUnderLock bounds the changes of a bulk write that are made while the tenant's lock is
// held once, so that a caller that wants it exclusively does not wait for all of them. A
// bulk write to a tenant without pages is made at once: then each page is written just once
// (bulkLoad). If another request creates the first page in between, the bulk write goes page
// by page and holds the lock for all of it.
const opsUnderLock = 5000

const (
	// joinedBulk bounds the bulk writes of a tenant that are made as one.
	joinedBulk = 8
	// bulkLasts is how long that may take: as long as Vault gives a request by default.
	bulkLasts = 90 * time.Second
)

// bulkWrite is a request with more changes than opsUnderLock.
type bulkWrite struct {
	ops   []*Op
	ended func() error // of the request: an error once its caller waits no longer
	err   error
}

// Write makes changes to items of a tenant; each Op has its own outcome. If it fails
// with [tenant.ErrNotFound] or [tenant.ErrDeleting], some of the changes or none have
// been made.
//
// A bulk write goes through most pages of a large tenant. So one of a tenant is made at a
// time, and those that callers send meanwhile are made as one: then a page is written once for
// all of them.
func (s *Store) Write(ctx context.Context, tenantID string, ops ...*Op) error {
	if len(ops) <= opsUnderLock {
		return s.writeSome(ctx, tenantID, "", ops)
	}
	t, err := s.tenants.Active(ctx, tenantID)
	if err != nil {
		return err
	}
	tab, release := s.table(t)
	defer release()
	own := &bulkWrite{ops, ctx.Err, storage.ErrContended}
	batch, leads := tab.bulk.Join("", own)
	if !leads {
		<-batch.Done
		return own.err
	}
	defer close(batch.Done)
	tab.bulkTurn <- struct{}{}
	defer func() { <-tab.bulkTurn }()
	tab.bulk.Seal("", batch)
	var all []*Op
	for _, w := range batch.All {
		if w.err = w.ended(); w.err == nil {
			all = append(all, w.ops...)
		}
	}
	// The others' must not end with this request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bulkLasts)
	defer cancel()
	err = tab.writeBulk(ctx, t, all)
	for _, w := range batch.All {
		w.err = cmp.Or(w.err, err)
	}
	return own.err
}

// writeBulk makes the changes of bulk writes.
func (tab *Table) writeBulk(ctx context.Context, t *tenant.Record, ops []*Op) error {
	if len(ops) == 0 {
		return nil
	}
	_, empty, err := tab.locate(ctx, 0)
	if err != nil {
		return err
	}
	atOnce := opsUnderLock
	if empty {
		atOnce = len(ops)
	}
	// In the order of storage, changes of one page come together, and it is written once.
	for _, op := range ops {
		if op.Hash, err = tab.hash(ctx, t, op.Kind, op.Name); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(pageedit.ByHash(ops), atOnce) {
		if err := tab.store.writeSome(ctx, t.ID, tab.incarnation, some); err != nil {
			return err
		}
	}
	return nil
}

// writeSome makes changes under the tenant's shared lock, held from reading the
// record until they are stored. A tenant that is not of the incarnation, if one is given, is
// another.
func (s *Store) writeSome(ctx context.Context, tenantID, incarnation string, ops []*Op) error {
	defer s.tenants.Shared(tenantID)()
	t, err := s.tenants.Active(ctx, tenantID)
	if err != nil {
		return err
	}
	if incarnation != "" && t.Incarnation != incarnation {
		return tenant.ErrNotFound
	}
	s.apply(ctx, t, ops...)
	return nil
}

// applyRound sends every change to the page that covers it now.
func (tab *Table) applyRound(ctx context.Context, t *tenant.Record, ops []*Op) {
	byPage := map[page.Prefix][]*Op{}
	for _, op := range ops {
		p, _, err := tab.locate(ctx, op.Hash)
		if err != nil {
			op.Settle(err)
			continue
		}
		byPage[p] = append(byPage[p], op)
	}
	if len(byPage) == 1 {
		for p, ops := range byPage {
			tab.applyTo(ctx, t, p, ops)
		}
		return
	}
	var g errgroup.Group
	g.SetLimit(pagesInFlight)
	for _, p := range slices.Sorted(maps.Keys(byPage)) {
		g.Go(func() error {
			tab.applyTo(ctx, t, p, byPage[p])
			return nil
		})
	}
	_ = g.Wait() // each change tells its own outcome
}

// applyTo makes changes in page p, as part of a batch: it joins the batch that is open for p
// and waits until its leader has committed it, or opens one and leads it. The leader takes the
// page's lock; meanwhile others join. Changes that it leaves unsettled are to be sent again.
func (tab *Table) applyTo(ctx context.Context, t *tenant.Record, p page.Prefix, ops []*Op) {
	key := pageKey(tab.incarnation, p)
	own, leads := tab.store.batches.Join(key, ops...)
	if !leads {
		<-own.Done
		return
	}
	// The others' changes must not end with this request.
	ctx = context.WithoutCancel(ctx)
	big := func() []page.Prefix {
		defer close(own.Done)
		defer tab.store.lockPage(tab.incarnation, p)()
		tab.store.batches.Seal(key, own)
		return tab.commit(ctx, t, p, own.All)
	}()
	tab.divide(ctx, t, big)
}

// commit makes the changes in page p, whose lock is held, with one write or one split. A
// change that it leaves unsettled has to be sent again: p is not the page to write to any
// more, or the change did not fit before a split. It returns the children of a split that
// are still too large. Without changes it splits p if that is too large.
func (tab *Table) commit(ctx context.Context, t *tenant.Record, p page.Prefix, ops []*Op) []page.Prefix {
	cur, ours, err := tab.readForWrite(ctx, t, p)
	if err != nil {
		pageedit.SettleAll(ops, err)
		return nil
	}
	if !ours {
		return nil // it split, or another page is the root now: look again
	}
	limit, err := tab.store.settings.Config(ctx)
	if err != nil {
		pageedit.SettleAll(ops, err)
		return nil
	}
	e := pageedit.New(cur, limit.MaxItemBytes, ops)
	tooLarge := tab.tooLarge(t, p, cur, e, len(ops))
	var big []page.Prefix
	switch {
	case cur.IsNew && tooLarge:
		err = tab.bulkLoad(ctx, t, e.Slots)
	case len(ops) > 1 && e.IsHuge() && tooLarge:
		// Split the page as it is, and send the changes again to its children: with them, every
		// item would be written again at each level of the tree that the page splits down to.
		if big, err = tab.split(ctx, t, p, cur.Slots); err != nil {
			pageedit.SettleAll(ops, err)
		}
		return big
	case e.Full || tooLarge:
		big, err = tab.split(ctx, t, p, e.Slots)
	case e.Changed || e.HasOutcomes() && tab.mayBeStale(p, cur):
		err = tab.writeEdit(ctx, t, p, cur, e)
	}
	e.Settle(err)
	return big
}

// tooLarge reports whether page p, with its changes, is to be split. Refused changes split none.
func (tab *Table) tooLarge(t *tenant.Record, p page.Prefix, cur pageedit.Current, e *pageedit.Edit, ops int) bool {
	return (e.Changed || ops == 0) && page.TooLarge(p, e.Slots) && (!e.StaysBesideLarge() || !tab.fitsDelta(t, p, cur, e))
}

// writeEdit puts what an edit has made of a page: its delta, if that will do, or all.
func (tab *Table) writeEdit(ctx context.Context, t *tenant.Record, p page.Prefix, cur pageedit.Current, e *pageedit.Edit) error {
	if tab.fitsDelta(t, p, cur, e) {
		return tab.writeDelta(ctx, t, p, cur, e)
	}
	err := tab.writePage(ctx, t, p, e.Slots, cur.IsNew)
	if err == nil && cur.Lost != nil {
		err = tab.deleteDelta(ctx, p) // reading it may fail
	}
	return err
}
