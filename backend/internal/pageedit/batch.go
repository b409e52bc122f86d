// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"sync"
)

// batch is a set of changes of one page that are committed by one write. The caller
// that opens a batch commits it. Callers that arrive while it waits for the page lock
// join it (group commit). One page takes a few hundred writes a second, however many
// writers it has.
type batch struct {
	ops  []*Op
	done chan struct{}
}

// batches has the open batches, which callers can still join.
type batches struct {
	mu   sync.Mutex
	open map[string]*batch
}

// join adds ops to the open batch of a page, or opens one and leads it.
func (b *batches) join(page string, ops []*Op) (own *batch, leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own = b.open[page]
	if own == nil {
		own, leads = &batch{done: make(chan struct{})}, true
		if b.open == nil {
			b.open = map[string]*batch{}
		}
		b.open[page] = own
	}
	own.ops = append(own.ops, ops...)
	return own, leads
}

// seal ends the joining of a page's open batch.
func (b *batches) seal(page string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, page)
}
