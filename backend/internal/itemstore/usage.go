// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// headersInFlight bounds the pages read at once to learn their headers: of one tenant,
// and of all together when they are counted, as after a start that finds many
// rotations unfinished.
const headersInFlight = 32

// Usage says what each key version of a tenant holds.
type Usage = pagedir.Usage

// Usage counts the pages and items of t by key version. The first call reads every page,
// once for all callers that wait for it; later ones answer from memory.
func (s *Store) Usage(ctx context.Context, t *tenant.Record) (Usage, error) {
	tab, release := s.table(t)
	defer release()
	if sums, complete := tab.dir.Usage(); complete {
		return sums, nil
	}
	select {
	case tab.counting <- struct{}{}:
		defer func() { <-tab.counting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for range maxTries {
		if sums, complete := tab.dir.Usage(); complete {
			return sums, nil
		}
		if err := tab.loadDirectory(ctx); err != nil {
			return nil, err
		}
		if err := tab.readHeaders(ctx); err != nil {
			return nil, err
		}
	}
	return nil, storage.ErrContended
}

// UsageOf reads a tenant's record and counts its pages under the tenant's shared
// lock, so that a rotation does not end between the two. It fails with
// [tenant.ErrNotFound] or [tenant.ErrDeleting].
func (s *Store) UsageOf(ctx context.Context, tenantID string) (*tenant.Record, Usage, error) {
	// The first count reads every page: before the lock, not under it.
	t, err := s.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.Usage(ctx, t); err != nil {
		return nil, nil, err
	}
	defer s.tenants.Shared(tenantID)()
	if t, err = s.tenants.Active(ctx, tenantID); err != nil {
		return nil, nil, err
	}
	usage, err := s.Usage(ctx, t)
	return t, usage, err
}

// KnownUsage returns the result of Usage if no page has to be read for it.
func (s *Store) KnownUsage(t *tenant.Record) (Usage, bool) {
	tab, release := s.table(t)
	defer release()
	sums, complete := tab.dir.Usage()
	return sums, complete
}

// readHeaders learns the headers that are not known yet.
func (tab *Table) readHeaders(ctx context.Context) error {
	drops, places, _ := tab.dir.HeadersToRead()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(headersInFlight)
	for _, p := range places {
		g.Go(func() error {
			if err := tab.store.headers.Acquire(ctx, 1); err != nil {
				return err
			}
			defer tab.store.headers.Release(1)
			return tab.readHeader(ctx, drops, p)
		})
	}
	return g.Wait()
}

func (tab *Table) readHeader(ctx context.Context, drops uint64, p page.Prefix) error {
	r, err := tab.getBoth(ctx, p, tab.store.mount.Get)
	if err != nil && !errors.Is(err, page.ErrDamaged) {
		return err
	}
	if err == nil && r.page == nil {
		return tab.headerOfStaleMiss(ctx, p)
	}
	// A damaged page must not keep the rest from being counted. The sweep of a
	// rotation reports it.
	h, _ := r.header()
	tab.dir.Learn(drops, p, h)
	return nil
}

// header returns the header of a page as it is with its delta.
func (r raw) header() (page.Header, error) {
	from := r.page
	if r.delta != nil {
		from = r.delta
	}
	h, _, err := page.ParseHeader(from)
	return h, err
}

// headerOfStaleMiss settles a page that the directory lists and Get does not show.
func (tab *Table) headerOfStaleMiss(ctx context.Context, p page.Prefix) error {
	isEmpty, err := tab.readStaleMiss(ctx, p, p.First())
	if err != nil {
		return fmt.Errorf("counting: %w", err)
	}
	if isEmpty {
		// Unless it has been written since: then what it has is known.
		drops, _, _ := tab.dir.HeadersToRead()
		tab.dir.Learn(drops, p, page.Header{})
	}
	return nil
}
