// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A scope is a sequence of events: those of an incarnation, or of the mount.
type scope struct{ tenant, incarnation string }

// A tail is the last event of a scope. The zero tail is that of none.
type tail struct {
	seq, index int64
	event      [8]byte // the tag of its ID, zero if it is not known
}

func scopeOf(h *evidence.Head) scope { return scope{h.TenantID, h.Incarnation} }

func (s scope) ofMount() bool { return s == scope{} }

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
	s := scopeOf(&i.Event.Head)
	if t, found := b.tails[s]; found {
		return t, nil
	}
	if t, found := l.tails.Get(s); found {
		return t, nil
	}
	if i.New && !s.ofMount() {
		switch {
		case i.Event.Seq == 1:
			return tail{}, nil
		case i.Last != nil && i.Last.Log == int64(b.tree.log) && i.Last.Seq == i.Event.Seq-1:
			return tail{seq: i.Last.Seq, index: i.Last.Index}, nil
		}
	}
	found, err := l.lastRecord(ctx, b.tree, s)
	if err != nil || found == nil {
		return tail{}, err
	}
	return tail{seq: found.seq, index: found.index, event: found.event}, nil
}

// logged looks for an event that may be in the log or the batch already. It reports
// ErrConflict where another event has its place.
func (l *Log) logged(ctx context.Context, b *batch, i *item, last tail) (*Position, error) {
	h := &i.Event.Head
	s := scopeOf(h)
	tag := eventTag(h.EventID)
	if !s.ofMount() && h.Seq > last.seq || s.ofMount() && i.New {
		return nil, nil //nolint:nilnil // it is not logged
	}
	if last.event == tag {
		return &Position{Log: int64(b.tree.log), Index: last.index, Seq: last.seq}, nil
	}
	for k, event := range b.events {
		if event.EventID == h.EventID && scopeOf(&event.Head) == s {
			return &Position{Log: int64(b.tree.log), Index: b.tree.size + int64(k), Seq: event.Seq}, nil
		}
	}
	tenant, incarnation := s.tags()
	found, err := l.find(ctx, b.tree, tenant, -1, 1, func(r record) bool {
		return r.incarnation == incarnation && r.event == tag && (s.ofMount() || r.seq == h.Seq)
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) > 0:
		return &Position{Log: int64(b.tree.log), Index: found[0].index, Seq: found[0].seq}, nil
	case s.ofMount():
		return nil, nil //nolint:nilnil // it is not logged
	}
	return nil, ErrConflict
}

// Logged returns where the last event of an incarnation is that a stored checkpoint has,
// as far as that is in memory: it is of what was logged lately, or looked up.
func (l *Log) Logged(tenantID, incarnation string) (Position, bool) {
	last, found := l.tails.Get(scope{tenantID, incarnation})
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
	s := scopeOf(h)
	if s.ofMount() {
		tag := eventTag(h.EventID)
		tenant, incarnation := s.tags()
		found, err := l.find(ctx, t, tenant, -1, 1, func(r record) bool { return r.incarnation == incarnation && r.event == tag })
		return len(found) > 0, err
	}
	if last, found := l.tails.Get(s); found {
		return last.seq >= h.Seq, nil
	}
	last, err := l.lastRecord(ctx, t, s)
	if err != nil || last == nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree == t { // else there may be a later one
		l.tails.Add(s, tail{seq: last.seq, index: last.index, event: last.event})
	}
	return last.seq >= h.Seq, nil
}
