// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pageedit

import (
	"sync"
)

// Batch is a set of changes of one page that are committed by one write. The caller
// that opens a batch commits it. Callers that arrive while it waits for the page lock
// join it (group commit). One page takes a few hundred writes a second, however many
// writers it has.
type Batch struct {
	Ops  []*Op
	Done chan struct{} // closed once each has its outcome, or is to be sent again
}

// Batches has the open batches, which callers can still join.
type Batches struct {
	mu   sync.Mutex
	open map[string]*Batch
}

// Join adds ops to the open batch of a page, or opens one and leads it.
func (b *Batches) Join(page string, ops []*Op) (own *Batch, leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own = b.open[page]
	if own == nil {
		own, leads = &Batch{Done: make(chan struct{})}, true
		if b.open == nil {
			b.open = map[string]*Batch{}
		}
		b.open[page] = own
	}
	own.Ops = append(own.Ops, ops...)
	return own, leads
}

// Seal ends the joining of a page's open batch.
func (b *Batches) Seal(page string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, page)
}
