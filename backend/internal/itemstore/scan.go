// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	// unreadable are pages of which not even the header can be read, or, with Deltas, not
	// the delta.
	unreadable map[page.Prefix]error
	// Deltas lets it read the deltas, too.
	Deltas bool
}

// NewScan returns a scan of t's pages that has read none.
func NewScan(s *Store, t *tenant.Record) *Scan {
	return &Scan{store: s, t: t, on: map[page.Prefix]int{}, unreadable: map[page.Prefix]error{}}
}

// Incarnation returns the incarnation of the tenant that is scanned.
func (sc *Scan) Incarnation() string { return sc.t.Incarnation }

// Pages returns how many of the pages read are on a version.
func (sc *Scan) Pages(version int) int { return len(sc.On(version)) }

// On returns the pages read that are on a version, sorted.
func (sc *Scan) On(version int) (pages []page.Prefix) {
	for p, v := range sc.on {
		if v == version {
			pages = append(pages, p)
		}
	}
	slices.Sort(pages)
	return pages
}

// Unreadable returns the pages that may be on any version, sorted.
func (sc *Scan) Unreadable() []page.Prefix { return slices.Sorted(maps.Keys(sc.unreadable)) }

// Read returns how many pages the scan has read.
func (sc *Scan) Read() int { return len(sc.on) }

// Run lists the pages and reads those that have not been read, or were on a version
// that they may have left since. Pages that are no longer listed are forgotten. It
// fails if a listed page does not show, because that page may be on any version. If
// pages are damaged it reads the others, and then fails with [page.ErrDamaged].
func (sc *Scan) Run(ctx context.Context) error {
	listed, err := sc.store.listPages(ctx, sc.t.Incarnation)
	if err != nil {
		return err
	}
	newest := 0
	for p, v := range sc.on {
		if !listed.Pages[p] {
			delete(sc.on, p)
		}
		newest = max(newest, v)
	}
	var unread []page.Prefix
	for p := range listed.Pages {
		if v, read := sc.on[p]; !read || v != newest {
			unread = append(unread, p)
		}
	}
	slices.Sort(unread)
	clear(sc.unreadable)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(headersInFlight)
	for _, p := range unread {
		g.Go(func() error { return sc.read(ctx, p, sc.Deltas && listed.Deltas[p]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, p := range sc.Unreadable() {
		return sc.unreadable[p]
	}
	return nil
}

func (sc *Scan) read(ctx context.Context, p page.Prefix, delta bool) error {
	raw, err := sc.store.getPage(ctx, sc.t.Incarnation, p)
	if err == nil && delta {
		if _, err = sc.store.mount.Get(ctx, deltaKey(sc.t.Incarnation, p)); err != nil {
			err = readingPage(p, err)
		}
	}
	if errors.Is(err, page.ErrDamaged) {
		sc.damaged(p, err)
		return nil
	}
	if err != nil {
		return err
	}
	if raw == nil {
		return storage.ErrContended // it is being split, or is a stale miss: look again later
	}
	h, _, err := page.ParseHeader(raw)
	if err != nil {
		sc.damaged(p, fmt.Errorf("page %s: %w", p, page.ErrDamaged))
		return nil
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.on[p] = h.Version
	return nil
}

func (sc *Scan) damaged(p page.Prefix, err error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	delete(sc.on, p) // it may have been written since
	sc.unreadable[p] = err
}
