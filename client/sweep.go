// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultBatch is how many records a [Sweep] takes at a time.
const DefaultBatch = 1000

// Sweep brings the records of a store to the current versions of their tenants'
// keys. While batches are stored the next one is rewrapped, and the one after it read.
type Sweep struct {
	Store Store
	// Tenant gives the AEAD of a tenant's ID. It is used for one batch, so the caller closes it
	// once Tenant has been asked for more tenants since than a batch has records, or Run has
	// returned. Tenant is called by one goroutine at a time, and not by the one that called Run.
	Tenant func(id string) (*AEAD, error)
	Batch  int // records at a time; 0: [DefaultBatch]
	// Writers is how many batches are stored at once; 0: one. The store's Swap is called by
	// as many goroutines, each with other records.
	Writers int
	Rate    float64 // records a second at most; 0: no limit
	// DryRun opens and seals, and writes nothing: what would be rewrapped counts
	// as rewrapped.
	DryRun bool
	// Done is told after each batch how far the sweep is: everything up to
	// After is stored. If it fails the sweep ends with its error. May be nil.
	Done func(Progress) error
	// Refused is told each record that does not open, once the others of its batch are
	// stored. May be nil.
	Refused func(Refused)
}

// part is a batch of records on its way.
type part struct {
	records []Record
	err     error
}

// rewrapped is a batch that is ready to be stored.
type rewrapped struct {
	counted Progress // all of its records, but for those that changed
	changes []Change
	refused []Refused
	err     error
	stored  chan stored // what became of the changes
}

// stored says which changes a store wrote.
type stored struct {
	written []bool
	err     error
}

// Run sweeps the records behind the key after, and returns how far it came, with
// an error too. A record that does not open is told and passed over; a failure of
// the store or of Vault ends the sweep.
func (s *Sweep) Run(ctx context.Context, after string) (Progress, error) {
	ctx, cancel := context.WithCancel(ctx)
	writers := max(s.Writers, 1)
	parts, batches, storing := make(chan part), make(chan rewrapped), make(chan rewrapped, writers)
	places := make(chan struct{}, writers) // of batches that are being stored, until they are counted
	var stages sync.WaitGroup
	stages.Go(func() { s.scan(ctx, after, parts) })
	stages.Go(func() { s.rewrapAll(ctx, parts, batches) })
	stages.Go(func() { s.storeAll(ctx, batches, storing, places) })
	defer stages.Wait()
	defer cancel()
	p := Progress{After: after}
	started := time.Now()
	for batch := range storing { // in their order, whichever is stored first
		if batch.err != nil {
			return p, batch.err
		}
		if err := s.count(&batch, &p); err != nil {
			return p, err
		}
		if s.Done != nil {
			if err := s.Done(p); err != nil {
				return p, err
			}
		}
		if err := s.keepRate(ctx, started, p.Scanned); err != nil {
			return p, err
		}
		<-places
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

// rewrapAll rewraps the batches that are read, until one fails.
func (s *Sweep) rewrapAll(ctx context.Context, parts <-chan part, batches chan<- rewrapped) {
	defer close(batches)
	for read := range parts {
		batch := rewrapped{err: read.err}
		if read.err == nil {
			batch = s.rewrapPart(ctx, read.records)
		}
		select {
		case batches <- batch:
		case <-ctx.Done():
			return
		}
		if batch.err != nil {
			return
		}
	}
}

// tenantsAtOnce is how many tenants' texts of a batch are rewrapped at once. For each Vault is
// asked at least for the current version.
const tenantsAtOnce = 16

// rewrapPart rewraps one batch, by tenants.
func (s *Sweep) rewrapPart(ctx context.Context, records []Record) (batch rewrapped) {
	byTenant := map[string][]Record{}
	var order []string
	for _, r := range records {
		batch.counted.Scanned++
		if r.Ciphertext == "" {
			batch.counted.Empty++
			continue
		}
		if byTenant[r.Tenant] == nil {
			order = append(order, r.Tenant)
		}
		byTenant[r.Tenant] = append(byTenant[r.Tenant], r)
	}
	theirs := make([]rewrapped, len(order))
	var tenants sync.WaitGroup
	places := make(chan struct{}, tenantsAtOnce)
	for i, id := range order {
		places <- struct{}{}
		aead, err := s.Tenant(id)
		tenants.Go(func() {
			defer func() { <-places }()
			if err != nil {
				theirs[i].refuse(err, byTenant[id]...)
				return
			}
			theirs[i].err = theirs[i].rewrap(ctx, aead, id, byTenant[id])
		})
	}
	tenants.Wait()
	for i := range theirs {
		if theirs[i].err != nil {
			return rewrapped{err: theirs[i].err} // nothing of the batch is stored
		}
		batch.counted = batch.counted.Plus(theirs[i].counted)
		batch.changes = append(batch.changes, theirs[i].changes...)
		batch.refused = append(batch.refused, theirs[i].refused...)
	}
	batch.counted.After = records[len(records)-1].Key
	return batch
}

// rewrap rewraps the texts of one tenant.
func (b *rewrapped) rewrap(ctx context.Context, aead *AEAD, id string, records []Record) error {
	texts := make([]Ciphertext, len(records))
	for i, r := range records {
		texts[i] = Ciphertext{r.Ciphertext, r.AssociatedData}
	}
	out, err := aead.Rewrap(ctx, texts)
	if errors.Is(err, ErrNoTenant) || errors.Is(err, ErrProviderDenied) {
		b.refuse(err, records...) // the others' records go on
		return nil
	}
	if err != nil {
		return fmt.Errorf("tenant %s: %w", id, err)
	}
	b.changes = make([]Change, 0, len(records))
	for i, r := range out {
		switch {
		case r.Err != nil:
			b.refuse(r.Err, records[i])
		case r.Changed:
			b.changes = append(b.changes, Change{records[i], r.Ciphertext})
		default:
			b.counted.Current++
		}
	}
	return nil
}

func (b *rewrapped) refuse(err error, records ...Record) {
	for _, r := range records {
		b.counted.Refused++
		b.refused = append(b.refused, Refused{Key: r.Key, Tenant: r.Tenant, Err: err})
	}
}

// storeAll has the store write batches, as many at once as there are places.
func (s *Sweep) storeAll(ctx context.Context, batches <-chan rewrapped, storing chan<- rewrapped, places chan<- struct{}) {
	defer close(storing)
	var writers sync.WaitGroup
	defer writers.Wait()
	for batch := range batches {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
		batch.stored = make(chan stored, 1)
		writers.Go(func() { batch.stored <- s.store(ctx, batch.changes) })
		storing <- batch // has room for as many as there are places
	}
}

func (s *Sweep) store(ctx context.Context, changes []Change) stored {
	if s.DryRun || len(changes) == 0 {
		return stored{}
	}
	written, err := s.Store.Swap(ctx, changes)
	if err == nil && len(written) != len(changes) {
		err = fmt.Errorf("the store tells of %d changes, not of %d", len(written), len(changes))
	}
	return stored{written, err}
}

// count waits until a batch is stored, and counts it.
func (s *Sweep) count(batch *rewrapped, p *Progress) error {
	result, done := <-batch.stored, batch.counted
	if result.err != nil {
		return result.err
	}
	if s.DryRun {
		done.Rewrapped = int64(len(batch.changes))
	}
	for _, ok := range result.written {
		if ok {
			done.Rewrapped++
		} else {
			done.Raced++
		}
	}
	if s.Refused != nil {
		for _, r := range batch.refused {
			s.Refused(r)
		}
	}
	*p = p.Plus(done)
	return nil
}

// keepRate waits until the records that were scanned are no more than the rate
// allows.
func (s *Sweep) keepRate(ctx context.Context, started time.Time, scanned int64) error {
	if s.Rate <= 0 {
		return ctx.Err()
	}
	due := started.Add(time.Duration(float64(scanned) / s.Rate * float64(time.Second)))
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
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
