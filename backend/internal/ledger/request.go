// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
)

// requestWaits bounds how long a request waits for the events that it caused.
const requestWaits = 5 * time.Second

// A Request collects the events that a request causes.
type Request struct {
	id     string
	caller func() actor.Actor

	mu      sync.Mutex
	tickets []*evidencelog.Ticket
}

type requestKey struct{}

// Begin returns the context of a request, in which the events that it causes name its
// caller and its ID, and are collected.
func Begin(ctx context.Context, id string, caller func() actor.Actor) (context.Context, *Request) {
	r := &Request{id: id, caller: sync.OnceValue(caller)}
	return context.WithValue(ctx, requestKey{}, r), r
}

func requestOf(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

func (r *Request) add(tickets []*evidencelog.Ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tickets = append(r.tickets, tickets...)
}

// Logged waits until the events are logged, for a few seconds at most, and reports
// whether they are.
func (r *Request) Logged(ctx context.Context) bool {
	r.mu.Lock()
	tickets := r.tickets
	r.mu.Unlock()
	if len(tickets) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, requestWaits)
	defer cancel()
	for _, ticket := range tickets {
		select {
		case <-ticket.Done():
		case <-ctx.Done():
			return false
		}
	}
	return true
}
