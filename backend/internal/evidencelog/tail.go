// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// scope is a sequence of events.
type scope = logindex.Scope

// A tail is the last event of a scope. The zero tail is that of none.
type tail struct {
	seq, index int64
	event      logindex.EventTag // of its ID, zero if it is not known
}

// A batch is what one checkpoint commits.
type batch struct {
	tree   *tree
	leaves [][]byte
	events []*evidence.Event
	bytes  int
	tails  map[scope]tail
	// answers are for the items that came first, in their order.
	answers []answer
}

type answer struct {
	item     *item
	position Position
	err      error
}

// full reports whether an entry has no place in the batch, which ends with its block.
func (b *batch) full(leaf int) bool {
	end := b.tree.size + int64(len(b.leaves))
	return len(b.leaves) > 0 && end%blockSize == 0 || b.bytes+2+leaf > maxChunk
}

// tailOf finds the last event of an item's scope, in the batch or in the log.
func (l *Log) tailOf(ctx context.Context, b *batch, i *item) (tail, error) {
	s := logindex.ScopeOf(&i.Event.Head)
	if t, found := b.tails[s]; found {
		return t, nil
	}
	if t, found := l.tails.Get(s); found {
		return t, nil
	}
	if i.New && !s.OfMount() {
		switch {
		case i.Event.Seq == 1:
			return tail{}, nil
		case i.Last != nil && i.Last.Log == int64(b.tree.log) && i.Last.Seq == i.Event.Seq-1:
			return tail{seq: i.Last.Seq, index: i.Last.Index}, nil
		}
	}
	return l.lookUp(ctx, b.tree, s)
}

// lookUp finds the last event of a sequence in the index, and keeps it in memory: the
// event that comes next, most often at once, needs it too.
func (l *Log) lookUp(ctx context.Context, t *tree, s logindex.Scope) (last tail, err error) {
	found, err := l.index.Last(ctx, t.at(), s)
	if err != nil {
		return tail{}, err
	}
	if found != nil {
		last = tail{seq: found.Seq, index: found.Index, event: found.Event}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree == t { // else there may be a later one
		l.tails.Add(s, last)
	}
	return last, nil
}

// logged looks for an event that may be in the log or the batch already. It reports
// ErrConflict where another event has its place.
func (l *Log) logged(ctx context.Context, b *batch, i *item, last tail) (*Position, error) {
	h := &i.Event.Head
	s := logindex.ScopeOf(h)
	if !s.OfMount() && h.Seq > last.seq || s.OfMount() && i.New {
		return nil, nil //nolint:nilnil // it is not logged
	}
	if last.event == logindex.TagOf(h.EventID) {
		return &Position{Log: int64(b.tree.log), Index: last.index, Seq: last.seq}, nil
	}
	for k, event := range b.events {
		if event.EventID == h.EventID && logindex.ScopeOf(&event.Head) == s {
			return &Position{Log: int64(b.tree.log), Index: b.tree.size + int64(k), Seq: event.Seq}, nil
		}
	}
	seq := h.Seq
	if s.OfMount() {
		seq = 0 // the log gave it one
	}
	found, err := l.index.Event(ctx, b.tree.at(), s, h.EventID, seq)
	switch {
	case err != nil:
		return nil, err
	case found != nil:
		return &Position{Log: int64(b.tree.log), Index: found.Index, Seq: found.Seq}, nil
	case s.OfMount():
		return nil, nil //nolint:nilnil // it is not logged
	}
	return nil, ErrConflict
}

// Logged returns where the last event of an incarnation is that a stored checkpoint has,
// as far as that is in memory: it is of what was logged lately, or looked up.
func (l *Log) Logged(tenantID, incarnation string) (Position, bool) {
	last, found := l.tails.Get(scope{TenantID: tenantID, Incarnation: incarnation})
	if !found || last.seq == 0 {
		return Position{}, false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.tree == nil {
		return Position{}, false
	}
	return Position{Log: int64(l.tree.log), Index: last.index, Seq: last.seq}, true
}

// Has reports whether a stored checkpoint has an event: one of a tenant by its number,
// one of the mount by its ID. It waits until the log is open.
func (l *Log) Has(ctx context.Context, h *evidence.Head) (bool, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return false, err
	}
	s := logindex.ScopeOf(h)
	if s.OfMount() {
		found, err := l.index.Event(ctx, t.at(), s, h.EventID, 0)
		return found != nil, err
	}
	if last, found := l.tails.Get(s); found {
		return last.seq >= h.Seq, nil
	}
	last, err := l.lookUp(ctx, t, s)
	return err == nil && last.seq >= h.Seq, err
}
