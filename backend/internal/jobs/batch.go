// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package jobs

import (
	"sync"
)

// Batch is what several callers want written, by one write. The caller that opens a batch
// writes it. Callers that arrive while it waits for its turn join it (group commit). One
// page takes a few hundred writes a second, however many writers it has.
type Batch[T any] struct {
	All  []T
	Done chan struct{} // closed once each has its outcome, or is to be sent again
}

// Batches has the open batches, which callers can still join, by the place that they are
// written to.
type Batches[T any] struct {
	Most int // of what a batch has, as one caller adds at a time; 0: as many as come

	mu   sync.Mutex
	open map[string]*Batch[T]
}

// Join adds what a caller wants written to the open batch of a place, or opens one and
// leads it.
func (b *Batches[T]) Join(place string, more ...T) (own *Batch[T], leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own = b.open[place]
	if own == nil || b.Most > 0 && len(own.All) >= b.Most {
		own, leads = &Batch[T]{Done: make(chan struct{})}, true
		if b.open == nil {
			b.open = map[string]*Batch[T]{}
		}
		b.open[place] = own
	}
	own.All = append(own.All, more...)
	return own, leads
}

// Seal ends the joining of a batch.
func (b *Batches[T]) Seal(place string, own *Batch[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[place] == own { // else it was full
		delete(b.open, place)
	}
}
