// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// asked is a request as the search sees it.
type asked struct {
	input
	kind int  // of requests alike that were not answered; -1: it was
	turn byte // among those of its kind
}

// reached is a state, with how many requests of each kind have taken effect.
type reached struct {
	state
	taken string
}

// alike numbers the requests that were not answered and ask for the same. Where an order
// explains the answers, so does the one in which two of them have changed places. So they
// need to take effect in the order in which they began alone, and the search has n+1 ways
// to place n of them and not 2^n.
func alike(ops []porcupine.Operation) (numbered []porcupine.Operation, none string) {
	numbered = slices.SortedFunc(slices.Values(ops), func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	kinds, turns := map[input]int{}, []byte{}
	for n := range numbered {
		r := asked{input: numbered[n].Input.(input), kind: -1}
		if numbered[n].Output.(output).unknown {
			kind, known := kinds[r.input]
			if !known {
				kind = len(turns)
				kinds[r.input], turns = kind, append(turns, 0)
			}
			r.kind, r.turn = kind, turns[kind]
			turns[kind]++
		}
		numbered[n].Input = r
	}
	return numbered, string(make([]byte, len(turns)))
}

// inTurn is step, of requests alike in their order.
func inTurn(s reached, r asked, out output) (next []any) {
	if r.kind >= 0 {
		if s.taken[r.kind] != r.turn {
			return nil
		}
		taken := []byte(s.taken)
		taken[r.kind]++
		s.taken = string(taken)
	}
	for _, n := range step(s.state, r.input, out) {
		next = append(next, reached{n, s.taken})
	}
	return next
}

// search looks for an order of the requests of one item that explains every answer, from a
// first state.
func search(first state, ops []porcupine.Operation) porcupine.CheckResult {
	return searchCounting(first, ops, new(atomic.Int64))
}

// searchCounting is search, and counts what it tries.
func searchCounting(first state, ops []porcupine.Operation, tried *atomic.Int64) porcupine.CheckResult {
	ops, none := alike(ops)
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{reached{first, none}} },
		Step: func(s, in, out any) []any {
			tried.Add(1)
			return inTurn(s.(reached), in.(asked), out.(output))
		},
	}
	return porcupine.CheckOperationsTimeout(m.ToModel(), ops, explainWithin)
}

// A client that sends a request many times, and gets no answer, does not keep the search
// from ending: this one took minutes on a busy machine.
func TestSearchOfManyWithoutAnAnswer(t *testing.T) {
	var ops []porcupine.Operation
	add := func(in input, out output) {
		op := porcupine.Operation{Input: in, Output: out, Call: int64(2*len(ops) + 1), Return: int64(2*len(ops) + 2)}
		if out.unknown {
			op.Return = math.MaxInt64
		}
		ops = append(ops, op)
	}
	add(input{act: makes}, output{})
	add(input{act: list}, output{})
	add(input{act: put, value: "a"}, unanswered)
	for _, value := range []string{"b", "c"} {
		for _, again := range []bool{false, false, false, false, true, true, false, true} {
			add(input{act: put, value: value, again: again}, unanswered)
		}
	}
	add(input{act: list}, output{})
	add(input{act: put, value: "d"}, output{revision: 1})
	add(input{act: read}, output{value: "d", revision: 1})
	tried := new(atomic.Int64)
	require.Equal(t, porcupine.Ok, searchCounting(state{}, ops, tried))
	require.Less(t, tried.Load(), int64(1_000_000))
	add(input{act: read}, output{value: "d", revision: 30})
	require.Equal(t, porcupine.Illegal, searchCounting(state{}, ops, tried))
	t.Logf("%d steps", tried.Load())
}
