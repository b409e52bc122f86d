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
// These rules keep a delta from losing an acknowledged write:
//
//   - It names the Put of its page by [page.BaseID]. Beside any other Put it is obsolete
//     and is ignored. So to put the page is enough; the obsolete entry stays until the next
//     delta overwrites it or a rotation deletes it.
//   - It holds every change since that Put, not only the latest: see pageedit.Edit.SincePut.
//   - It cannot express a removal, after which the page itself is put.
//   - It is put only beside a page that this process has put, with no failed write of the
//     tenant's pages since ([pagedir.Directory.WrittenHere]). Otherwise the page that Get
//     shows may not be the one in storage, and the delta would name a Put that is gone.
//   - It is sealed by its page's key, and only while that is the active version. So once
//     all pages are on another version, all current deltas are, too.
//   - The directory knows of it before the write is acknowledged, so that a reader looks
//     for it; a reader gets it before its page (getBoth).
//   - It is deleted only after its page was replaced or deleted for every reader.
//
// docs/model/delta.py finds a lost write without any of them.

// mayBeStale reports whether page p, as it was read, may differ from what storage holds:
// after a Put that failed with effect, Vault's cache may go on showing the page, or the
// page and its delta, from before it. A repeated request that finds its change in such a
// page is acknowledged only after the page has been put again.
func (tab *Table) mayBeStale(p page.Prefix, cur pageedit.Current) bool {
	return cur.BaseID != page.BaseID{} && !tab.dir.WrittenHere(p)
}

// fitsDelta reports whether changes that were made to page p are put as its delta.
func (tab *Table) fitsDelta(t *tenant.Record, p page.Prefix, cur pageedit.Current, e *pageedit.Edit) bool {
	return e.FitsDelta() && cur.Version == t.Keys.Active().Number && tab.dir.WrittenHere(p)
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
