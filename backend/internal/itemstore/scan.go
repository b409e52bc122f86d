// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Scan reads the headers of a tenant's pages from storage. It may be run before the
// tenant's exclusive lock is taken and once more under it: the second time it reads only
// the pages that it has not read. That is enough to decide whether a page is on a version
// under which nothing is written any more, because no page can come onto that version.
// A current delta is on its page's version.
type Scan struct {
	store *Store
	t     *tenant.Record
	mu    sync.Mutex
	on    map[page.Prefix]int
}

// NewScan returns a scan of t's pages that has read none.
func NewScan(s *Store, t *tenant.Record) *Scan {
	return &Scan{store: s, t: t, on: map[page.Prefix]int{}}
}

// Incarnation returns the incarnation of the tenant that is scanned.
func (sc *Scan) Incarnation() string { return sc.t.Incarnation }

// Pages returns how many of the pages read are on a version.
func (sc *Scan) Pages(version int) int {
	n := 0
	for _, v := range sc.on {
		if v == version {
			n++
		}
	}
	return n
}

// Run lists the pages and reads those that have not been read, or were on a version
// that they may have left since. Pages that are no longer listed are forgotten. It
// fails if a listed page does not show, because that page may be on any version.
func (sc *Scan) Run(ctx context.Context) error {
	listed, err := sc.store.listPages(ctx, sc.t.Incarnation)
	if err != nil {
		return err
	}
	newest := 0
	for p, v := range sc.on {
		if !listed.pages[p] {
			delete(sc.on, p)
		}
		newest = max(newest, v)
	}
	var unread []page.Prefix
	for p := range listed.pages {
		if v, read := sc.on[p]; !read || v != newest {
			unread = append(unread, p)
		}
	}
	slices.Sort(unread)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(headersInFlight)
	for _, p := range unread {
		g.Go(func() error { return sc.read(ctx, p) })
	}
	return g.Wait()
}

func (sc *Scan) read(ctx context.Context, p page.Prefix) error {
	raw, err := sc.store.getPage(ctx, sc.t.Incarnation, p)
	if err != nil {
		return err
	}
	if raw == nil {
		return storage.ErrContended // it is being split, or is a stale miss: look again later
	}
	h, _, err := page.ParseHeader(raw)
	if err != nil {
		return page.ErrDamaged
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.on[p] = h.Version
	return nil
}
