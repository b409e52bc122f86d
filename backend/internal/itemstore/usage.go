// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// headersInFlight bounds the pages read at once to learn their headers: of one tenant,
// and of all together when they are counted, as after a start that finds many
// rotations unfinished.
const headersInFlight = 32

// Usage says what each key version of a tenant holds.
type Usage map[int]tally

// Items is the number of items on all versions.
func (u Usage) Items() (c item.Counts) {
	for _, t := range u {
		c = c.Plus(t.items)
	}
	return c
}

// Beside is the number of items on versions other than the given one.
func (u Usage) Beside(version int) (c item.Counts) {
	for v, t := range u {
		if v != version {
			c = c.Plus(t.items)
		}
	}
	return c
}

// On is the number of items on a version.
func (u Usage) On(version int) item.Counts { return u[version].items }

// Pages is the number of pages on a version.
func (u Usage) Pages(version int) int { return u[version].pages }

// Usage counts the pages and items of t by key version. The first time it reads
// every page; then it knows.
func (s *Store) Usage(ctx context.Context, t *tenant.Record) (Usage, error) {
	w, release := s.tables.use(t.Incarnation)
	defer release()
	for range maxTries {
		if sums, complete := w.dir.tallies(); complete {
			return sums, nil
		}
		if err := s.loadDirectory(ctx, w); err != nil {
			return nil, err
		}
		if err := s.readHeaders(ctx, w); err != nil {
			return nil, err
		}
	}
	return nil, storage.ErrContended
}

// KnownUsage returns what Usage would, if it is known without reading.
func (s *Store) KnownUsage(t *tenant.Record) (Usage, bool) {
	w, release := s.tables.use(t.Incarnation)
	defer release()
	sums, complete := w.dir.tallies()
	return sums, complete
}

// readHeaders learns the headers that are not known yet.
func (s *Store) readHeaders(ctx context.Context, w *Table) error {
	generation, places, _ := w.dir.headersToRead()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(headersInFlight)
	for _, p := range places {
		g.Go(func() error {
			if err := s.headers.Acquire(ctx, 1); err != nil {
				return err
			}
			defer s.headers.Release(1)
			return s.readHeader(ctx, w, generation, p)
		})
	}
	return g.Wait()
}

func (s *Store) readHeader(ctx context.Context, w *Table, generation uint64, p page.Prefix) error {
	r, err := s.getBoth(ctx, w, p, s.mount.Get)
	if err != nil && !errors.Is(err, page.ErrDamaged) {
		return err
	}
	if err == nil && r.page == nil {
		return s.headerOfStaleMiss(ctx, w, p)
	}
	// A damaged page must not keep the rest from being counted. The sweep of a
	// rotation reports it.
	h, _ := r.header()
	w.dir.learn(generation, p, h)
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
func (s *Store) headerOfStaleMiss(ctx context.Context, w *Table, p page.Prefix) error {
	isEmpty, err := s.readStaleMiss(ctx, w, p, p.First())
	if err != nil {
		return fmt.Errorf("counting: %w", err)
	}
	if isEmpty {
		// Unless it has been written since: then what it has is known.
		generation, _, _ := w.dir.headersToRead()
		w.dir.learn(generation, p, page.Header{})
	}
	return nil
}
