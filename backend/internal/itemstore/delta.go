// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pageedit"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// A delta is an entry beside a page that holds the items changed since the page was
// put. Putting it costs storage a fraction of what the page costs, so a few changes
// are written there, and then the page is put again with all of them.
//
// The rules that keep a delta from losing an acknowledged write stand in
// docs/design/pages.md; docs/model/delta.py finds a loss without any of them.
//
// A delta is sealed by its page's key, and put only while that is the active version.
// So once all pages are on another version, all current deltas are, too.

// minDeltaPage is the size of a page, with the change, from which on it is given
// deltas: a smaller one is put about as fast.
const minDeltaPage = 8 << 10

// mayBeStale reports whether what page p shows may pass, since a stale cache may show a
// page, or a page and its delta, that is not what storage has. So what a repeated
// request finds done already is put with the page before it is acknowledged.
func (tab *Table) mayBeStale(p page.Prefix, cur pageedit.Current) bool {
	return cur.BaseID != page.BaseID{} && !tab.dir.WrittenHere(p)
}

// fitsDelta reports whether changes that were made to page p are put as its delta.
//
// To change one more item puts again what the delta holds already, so to change n has
// cost n times half of what it holds in the end. Before that comes to half of the size
// of the page, the page is put.
func (tab *Table) fitsDelta(t *tenant.Record, p page.Prefix, cur pageedit.Current, e *pageedit.Edit) bool {
	puts := max(2, len(e.SincePut))
	return !e.Removed && e.Bytes >= minDeltaPage && puts*e.SincePut.Size() <= e.Bytes &&
		cur.Version == t.Keys.Active().Number && tab.dir.WrittenHere(p)
}

// writeDelta puts the delta of page p, which is to hold what has changed since the
// page was put.
func (tab *Table) writeDelta(ctx context.Context, t *tenant.Record, p page.Prefix, cur pageedit.Current, e *pageedit.Edit) error {
	v, a, err := tab.store.activeAEAD(ctx, t)
	if err != nil {
		return err
	}
	h := page.Header{Version: v.Number, Counts: e.Slots.Counts()}
	delta, err := page.SealDelta(t.Owner(), p, h, cur.BaseID, a, e.SincePut)
	if err != nil {
		return err
	}
	key := deltaKey(tab.incarnation, p)
	tab.store.pages.Begin(key)
	if err := tab.put(ctx, key, delta); err != nil {
		tab.store.pages.End(key, nil)
		return fmt.Errorf("writing the delta of page %s: %w", p, err)
	}
	tab.store.pages.End(key, &delta)
	tab.dir.WroteDelta(p, h)
	return nil
}

// deleteDelta deletes an obsolete delta, after the page it belonged to was replaced or
// deleted for every reader. A reader that still saw that page would miss the delta.
func (tab *Table) deleteDelta(ctx context.Context, p page.Prefix) error {
	tab.store.pages.Drop(pageKey(tab.incarnation, p))
	if err := tab.deleteEntry(ctx, deltaKey(tab.incarnation, p)); err != nil {
		return fmt.Errorf("deleting the delta of page %s: %w", p, err)
	}
	tab.dir.DeletedDelta(p)
	return nil
}
