// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestChaosLedger checks the checker: what it must find, and must not.
func TestChaosLedger(t *testing.T) {
	const item = "secrets/a"
	one, two := state{change: 1, revision: 1}, state{change: 2, revision: 2}
	gone := state{}
	written := func(t *testing.T, l *ledger) {
		l.begin(item, false)
		assert.Equal(t, fine, l.acknowledge(item, 1))
	}
	writeInDoubt := func(t *testing.T, l *ledger) { written(t, l); l.begin(item, false) }
	deleteInDoubt := func(t *testing.T, l *ledger) { written(t, l); l.begin(item, true) }
	deleted := func(t *testing.T, l *ledger) { deleteInDoubt(t, l); assert.Equal(t, fine, l.acknowledge(item, 0)) }
	refused := func(t *testing.T, l *ledger) { writeInDoubt(t, l); assert.Equal(t, fine, l.refuse(item)) }

	for _, c := range []struct {
		name  string
		given func(*testing.T, *ledger)
		shown []state // one read after another
		want  wrong   // of the last
	}{
		{"the acknowledged value", written, []state{one}, fine},
		{"an acknowledged write is gone", written, []state{gone}, lost},
		{"another revision", written, []state{{change: 1, revision: 2}}, altered},
		{"a write in doubt was done", writeInDoubt, []state{two}, fine},
		{"a write in doubt was not done", writeInDoubt, []state{one}, fine},
		{"a write in doubt was done, then lost", writeInDoubt, []state{two, one}, lost},
		{"a write in doubt was not done, then was", writeInDoubt, []state{one, two}, altered},
		{"a delete in doubt was done", deleteInDoubt, []state{gone}, fine},
		{"a delete in doubt was not done", deleteInDoubt, []state{one}, fine},
		{"a delete in doubt was done, then not", deleteInDoubt, []state{gone, one}, resurrected},
		{"back after a delete", deleted, []state{one}, resurrected},
		{"still deleted", deleted, []state{gone}, fine},
		{"a refused write shows", refused, []state{two}, altered},
		{"a refused write does not show", refused, []state{one}, fine},
		{"an item that nobody wrote", func(*testing.T, *ledger) {}, []state{one}, resurrected},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &ledger{records: map[string]*record{}}
			c.given(t, l)
			var got wrong
			for _, s := range c.shown {
				known, _ := l.look(item)
				got = l.settle(item, known, s, true)
			}
			assert.Equal(t, c.want, got, l.history(item))
		})
	}
}

// TestChaosLedgerReader: one who does not own the item may read the state of
// before while a change is under way, but not once it has been acknowledged.
func TestChaosLedgerReader(t *testing.T) {
	const item = "secrets/a"
	l := &ledger{records: map[string]*record{}}
	l.begin(item, false)
	l.acknowledge(item, 1)
	began, _ := l.look(item)
	l.begin(item, false)
	assert.Equal(t, fine, l.settle(item, began, state{1, 1, false}, false), "under way")
	assert.Equal(t, fine, l.acknowledge(item, 2))
	assert.Equal(t, fine, l.settle(item, began, state{1, 1, false}, false), "a read that began before")
	began, _ = l.look(item)
	assert.Equal(t, lost, l.settle(item, began, state{1, 1, false}, false), "one that began after")

	l.begin(item, false)
	assert.Equal(t, altered, l.acknowledge(item, 4), "a write that was done twice")
}
