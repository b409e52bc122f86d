// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A Position is where an event of a sequence is in a log.
type Position struct {
	// Log is the number of the log, Index the entry in it.
	Log   int64 `json:"log"`
	Index int64 `json:"index"`
	// Seq is the event's number in its sequence.
	Seq int64 `json:"seq"`
}

// Pending is an event that is to be logged.
type Pending struct {
	// Event lacks Previous. An event of a tenant has its Seq from the Put that decided
	// it. An event of the mount gets its Seq in the log.
	Event evidence.Event
	// New says that this process has just decided the event and submits it for the
	// first time. Any other event is looked up before it is logged.
	New bool
	// Last is where the record says that the event before, Seq-1, was logged; nil if
	// it does not say. It spares looking that up.
	Last *Position
}

// item is an event in the queue, with whoever waits for it.
type item struct {
	Pending
	done     chan struct{}
	position Position
	err      error
}

func newItem(p Pending) *item { return &item{Pending: p, done: make(chan struct{})} }

func (i *item) finish(p Position, err error) {
	i.position, i.err = p, err
	close(i.done)
}

// queue keeps the order in which events came.
type queue struct {
	mu    sync.Mutex
	items []*item
	wake  chan struct{}
}

func (q *queue) push(items []*item) {
	q.mu.Lock()
	q.items = append(q.items, items...)
	q.mu.Unlock()
	q.signal()
}

// pushFirst puts items before all others. No batch may be under way.
func (q *queue) pushFirst(items []*item) {
	q.mu.Lock()
	q.items = append(items, q.items...)
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// peek returns up to limit of the first items, which stay until they are dropped.
func (q *queue) peek(limit int) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]*item(nil), q.items[:min(limit, len(q.items))]...)
}

func (q *queue) drop(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append([]*item(nil), q.items[n:]...)
}

// Append logs events in their order and returns where each is, once all of them are
// committed. An event that is in the log already is not logged again. If ctx ends
// first, the events stay in the queue and Append returns the error of ctx; to wait for
// them, submit them again with New false.
//
// The error of an event is [evidence.ErrInvalid] for one that has no encoding, and
// [ErrConflict].
func (l *Log) Append(ctx context.Context, events ...Pending) ([]Position, error) {
	items := make([]*item, len(events))
	for i, event := range events {
		if scopeOf(&event.Event.Head).ofMount() {
			event.Event.Seq = 1
		}
		if _, err := evidence.Encode(&event.Event); err != nil {
			return nil, err
		}
		items[i] = newItem(event)
	}
	l.queue.push(items)
	positions := make([]Position, len(items))
	for i, waiting := range items {
		select {
		case <-waiting.done:
			if waiting.err != nil {
				return nil, waiting.err
			}
			positions[i] = waiting.position
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return positions, nil
}
