// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"slices"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Position is where an event of a sequence is in a log.
type Position = evidence.Position

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
	// Urgent says that somebody waits for the event.
	Urgent bool
}

// A Ticket is for an event in the queue. Whoever submits the same event again gets the
// same ticket.
type Ticket struct {
	Pending
	done     chan struct{}
	position Position
	err      error
}

// item is what the appender calls it.
type item = Ticket

func (i *item) finish(p Position, err error) {
	i.position, i.err = p, err
	close(i.done)
}

// attempted notes that the event may be in storage: it is looked up from now on.
func (i *item) attempted() { i.New = false }

// Done is closed once the event is logged, or has failed.
func (i *Ticket) Done() <-chan struct{} { return i.done }

// Result returns, once Done is closed, where the event is. The error is
// [evidence.ErrInvalid] for an event that has no encoding, or [ErrConflict].
func (i *Ticket) Result() (Position, error) { return i.position, i.err }

// eventKey tells events of the queue apart.
type eventKey struct {
	scope
	id string
}

func (i *item) key() eventKey { return eventKey{logindex.ScopeOf(&i.Event.Head), i.Event.EventID} }

// queue keeps the order in which events came.
type queue struct {
	mu     sync.Mutex
	items  []*item
	known  map[eventKey]*item
	urgent int // of the items, those that somebody waits for
	hurry  chan struct{}
	wake   func()
}

// isUrgent reports whether a batch is to begin now.
func (q *queue) isUrgent() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.hurry: // of an item that is in the queue, or was
	default:
	}
	return q.urgent > 0 || len(q.items) >= blockSize/2
}

// hasten lets a batch begin now. q.mu is held.
func (q *queue) hasten(i *item) {
	if i.Urgent {
		return
	}
	i.Urgent = true
	q.urgent++
	select {
	case q.hurry <- struct{}{}:
	default:
	}
}

// enter returns the event's item, and whether it is new. q.mu is held.
func (q *queue) enter(p Pending) (i *item, isNew bool) {
	i = &item{Pending: p, done: make(chan struct{})}
	if there := q.known[i.key()]; there != nil {
		return there, false
	}
	if q.known == nil {
		q.known = map[eventKey]*item{}
	}
	q.known[i.key()] = i
	return i, true
}

func (q *queue) push(p Pending) *item {
	q.mu.Lock()
	defer q.mu.Unlock()
	urgent := p.Urgent
	p.Urgent = false
	i, isNew := q.enter(p)
	if isNew {
		q.items = append(q.items, i)
	}
	if urgent {
		q.hasten(i)
	}
	return i
}

// pushFirst puts events before all others. No batch may be under way.
func (q *queue) pushFirst(events []Pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first []*item
	for _, p := range events {
		if i, isNew := q.enter(p); isNew {
			first = append(first, i)
		}
	}
	q.items = append(first, q.items...)
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

// drop takes out the first items, which are those of the answers.
func (q *queue) drop(answers []answer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append([]*item(nil), q.items[len(answers):]...)
	for _, a := range answers {
		if a.item.Urgent {
			q.urgent--
		}
		delete(q.known, a.item.key())
	}
}

// Submit has events logged, in their order, and returns a ticket for each. An event
// that is in the log already is not logged again.
func (l *Log) Submit(events ...Pending) []*Ticket {
	tickets := make([]*Ticket, len(events))
	for i, event := range events {
		if logindex.ScopeOf(&event.Event.Head).OfMount() {
			event.Event.Seq = 1
		}
		tickets[i] = l.queue.push(event)
	}
	l.queue.wake()
	return tickets
}

// Waits reports whether an event was submitted and is not logged yet.
func (l *Log) Waits(h *evidence.Head) bool {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.known[eventKey{logindex.ScopeOf(h), h.EventID}] != nil
}

// Append submits events and returns where each is, once all of them are committed. If
// ctx ends first, the events stay in the queue and Append returns the error of ctx.
func (l *Log) Append(ctx context.Context, events ...Pending) ([]Position, error) {
	positions := make([]Position, len(events))
	events = slices.Clone(events)
	for i := range events {
		events[i].Urgent = true
	}
	for i, ticket := range l.Submit(events...) {
		select {
		case <-ticket.done:
			if ticket.err != nil {
				return nil, ticket.err
			}
			positions[i] = ticket.position
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return positions, nil
}
