// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DefaultBatch is how many records a [Sweep] takes at a time.
const DefaultBatch = 1000

// Sweep brings the records of a store to the current versions of their tenants'
// keys.
type Sweep struct {
	Store Store
	// Tenant gives the AEAD of a tenant's ID. The caller closes it.
	Tenant func(id string) (*AEAD, error)
	Batch  int     // records at a time; 0: [DefaultBatch]
	Rate   float64 // records a second at most; 0: no limit
	// DryRun opens and seals, and writes nothing: what would be rewrapped counts
	// as rewrapped.
	DryRun bool
	// Done is told after each batch how far the sweep is: everything up to
	// After is stored. If it fails the sweep ends with its error. May be nil.
	Done func(Progress) error
	// Refused is told each record that does not open. May be nil.
	Refused func(Refused)
}

// part is a batch of records on its way.
type part struct {
	records []Record
	err     error
}

// Run sweeps the records behind the key after, and returns how far it came, with
// an error too. A record that does not open is told and passed over; a failure of
// the store or of Vault ends the sweep.
func (s *Sweep) Run(ctx context.Context, after string) (Progress, error) {
	ctx, cancel := context.WithCancel(ctx)
	parts := make(chan part, 1) // the next batch is read while one is written
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.scan(ctx, after, parts)
	}()
	defer func() { <-finished }()
	defer cancel()
	p := Progress{After: after}
	started := time.Now()
	for batch := range parts {
		if batch.err != nil {
			return p, batch.err
		}
		if err := s.sweep(ctx, batch.records, &p); err != nil {
			return p, err
		}
		p.After = batch.records[len(batch.records)-1].Key
		if s.Done != nil {
			if err := s.Done(p); err != nil {
				return p, err
			}
		}
		if err := s.keepRate(ctx, started, p.Scanned); err != nil {
			return p, err
		}
	}
	return p, ctx.Err()
}

// scan reads batches until the store is at its end.
func (s *Sweep) scan(ctx context.Context, after string, parts chan<- part) {
	defer close(parts)
	size := s.Batch
	if size <= 0 {
		size = DefaultBatch
	}
	for {
		records, err := s.Store.Scan(ctx, after, size)
		if err == nil && len(records) == 0 {
			return
		}
		select {
		case parts <- part{records, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
		after = records[len(records)-1].Key
	}
}

// sweep rewraps one batch, tenant by tenant, and stores what changed.
func (s *Sweep) sweep(ctx context.Context, records []Record, p *Progress) error {
	byTenant := map[string][]Record{}
	var order []string
	for _, r := range records {
		p.Scanned++
		if r.Ciphertext == "" {
			p.Empty++
			continue
		}
		if byTenant[r.Tenant] == nil {
			order = append(order, r.Tenant)
		}
		byTenant[r.Tenant] = append(byTenant[r.Tenant], r)
	}
	var changes []Change
	for _, id := range order {
		more, err := s.rewrap(ctx, id, byTenant[id], p)
		if err != nil {
			return err
		}
		changes = append(changes, more...)
	}
	if s.DryRun || len(changes) == 0 {
		p.Rewrapped += int64(len(changes))
		return nil
	}
	written, err := s.Store.Swap(ctx, changes)
	if err != nil {
		return err
	}
	if len(written) != len(changes) {
		return fmt.Errorf("the store tells of %d changes, not of %d", len(written), len(changes))
	}
	for _, ok := range written {
		if ok {
			p.Rewrapped++
		} else {
			p.Raced++
		}
	}
	return nil
}

func (s *Sweep) rewrap(ctx context.Context, id string, records []Record, p *Progress) ([]Change, error) {
	aead, err := s.Tenant(id)
	if err != nil {
		s.refuse(p, err, records...)
		return nil, nil
	}
	texts := make([]Ciphertext, len(records))
	for i, r := range records {
		texts[i] = Ciphertext{r.Ciphertext, r.AssociatedData}
	}
	out, err := aead.Rewrap(ctx, texts)
	if errors.Is(err, ErrNoTenant) || errors.Is(err, ErrProviderDenied) {
		s.refuse(p, err, records...) // the others' records go on
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tenant %s: %w", id, err)
	}
	changes := make([]Change, 0, len(records))
	for i, r := range out {
		switch {
		case r.Err != nil:
			s.refuse(p, r.Err, records[i])
		case r.Changed:
			changes = append(changes, Change{records[i], r.Ciphertext})
		default:
			p.Current++
		}
	}
	return slices.Clip(changes), nil
}

func (s *Sweep) refuse(p *Progress, err error, records ...Record) {
	for _, r := range records {
		p.Refused++
		if s.Refused != nil {
			s.Refused(Refused{Key: r.Key, Tenant: r.Tenant, Err: err})
		}
	}
}

// keepRate waits until the records that were scanned are no more than the rate
// allows.
func (s *Sweep) keepRate(ctx context.Context, started time.Time, scanned int64) error {
	if s.Rate <= 0 {
		return nil
	}
	due := started.Add(time.Duration(float64(scanned) / s.Rate * float64(time.Second)))
	wait := time.Until(due)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
