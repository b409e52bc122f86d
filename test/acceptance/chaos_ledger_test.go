// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// wrong says what is wrong with what was seen.
type wrong string

const (
	fine        wrong = ""
	lost        wrong = "lost"        // older than what was acknowledged, or gone
	resurrected wrong = "resurrected" // there after an acknowledged delete
	altered     wrong = "altered"     // not what was ever written, or counted wrongly
)

// state is an item as it is after a change. Changes are numbered by item; a
// value holds its change's number.
type state struct {
	change   int
	revision int // 0: the item is not there
	void     bool
}

func (s state) shows(shown state) bool {
	return s.revision == shown.revision && (s.revision == 0 || s.change == shown.change)
}

// record is what is known of an item. Only one goroutine changes an item, and
// no further until it knows what became of the last change; so at most the last
// state is in doubt.
type record struct {
	states []state
	known  int // the state that was acknowledged, or seen, last
	tried  int // how many changes
}

func (r record) doubtful() bool { return r.known < len(r.states)-1 }

// judge compares what a read showed that began when the state of index known
// was known.
func (r record) judge(known int, shown state) wrong {
	for _, s := range r.states[known:] {
		if !s.void && s.shows(shown) {
			return fine
		}
	}
	was := r.states[known]
	for i, s := range r.states {
		// A change that was refused or not done, or one under another's revision.
		if shown.revision > 0 && s.change == shown.change && (s.void || i >= known) {
			return altered
		}
	}
	if was.revision == 0 {
		return resurrected
	}
	return lost
}

// ledger is what clients know of a tenant's items.
type ledger struct {
	mu      sync.Mutex
	records map[string]*record // by kind/name
}

// look returns the index of the known state and that state.
func (l *ledger) look(item string) (int, state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[item]
	if r == nil {
		return 0, state{}
	}
	return r.known, r.states[r.known]
}

// begin notes that a change is about to be tried and returns what it would make
// of the item.
func (l *ledger) begin(item string, deletes bool) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[item]
	if r == nil {
		r = &record{states: []state{{}}}
		l.records[item] = r
	}
	last := r.states[r.known]
	r.tried++
	next := state{change: r.tried}
	if !deletes {
		next.revision = last.revision + 1
	}
	r.states = append(r.states, next)
	return next
}

// acknowledge settles the change that was begun last.
func (l *ledger) acknowledge(item string, revision int) wrong {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[item]
	r.known = len(r.states) - 1
	if r.states[r.known].revision != revision {
		r.states[r.known].revision = revision // report it once
		return altered
	}
	return fine
}

// refuse notes that the change begun last was refused: it must never show.
func (l *ledger) refuse(item string) wrong {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[item]
	if !r.doubtful() {
		return altered // someone has seen it
	}
	r.drop()
	return fine
}

// drop voids the last state. The one before goes on under an index of its own,
// so that a read which begins now is compared with nothing older.
func (r *record) drop() {
	r.states[len(r.states)-1].void = true
	r.states = append(r.states, r.states[r.known])
	r.known = len(r.states) - 1
}

// settle compares a read with the ledger and learns from it: a change that was
// seen has happened, and one that the item's owner, who has no request under
// way, does not see has not.
func (l *ledger) settle(item string, known int, shown state, owner bool) wrong {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[item]
	if r == nil {
		if shown.revision != 0 {
			return resurrected
		}
		return fine
	}
	w := r.judge(known, shown)
	if w != fine || !r.doubtful() {
		return w
	}
	switch {
	case r.states[len(r.states)-1].shows(shown):
		r.known = len(r.states) - 1
	case owner:
		r.drop()
	}
	return w
}

// history is the end of what is known of an item, for a report.
func (l *ledger) history(item string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[item]
	if r == nil {
		return "never written"
	}
	text := ""
	for i, s := range r.states[max(0, len(r.states)-5):] {
		mark := ""
		switch at := max(0, len(r.states)-5) + i; {
		case s.void:
			mark = " refused or not done"
		case at == r.known:
			mark = " known"
		case at > r.known:
			mark = " in doubt"
		}
		text += fmt.Sprintf("[change %d revision %d%s] ", s.change, s.revision, mark)
	}
	return text
}

// items returns all items ever written, and how many of each kind are there.
func (l *ledger) items() (names []string, counts map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts = map[string]int{}
	names = slices.Sorted(maps.Keys(l.records))
	for _, item := range names {
		r := l.records[item]
		if r.states[r.known].revision > 0 {
			kind, _ := splitItem(item)
			counts[kind]++
		}
	}
	return names, counts
}
