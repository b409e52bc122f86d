// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// one is a request after the one before it, unless it has no answer.
type one struct {
	in  input
	out output
}

var unanswered = output{unknown: true}

// TestWhatNoOrderExplains gives the search histories that a faulty engine would make, and
// such that are right.
func TestWhatNoOrderExplains(t *testing.T) {
	a, b := input{act: put, value: "a"}, input{act: put, value: "b"}
	reads, lists, removes := input{act: read}, input{act: list}, input{act: remove}
	gone := output{noTenant: true}
	for name, c := range map[string]struct {
		history []one
		want    porcupine.CheckResult
	}{
		"an acknowledged write is lost":              {[]one{{a, output{revision: 1}}, {reads, output{}}}, porcupine.Illegal},
		"another one shows again":                    {[]one{{a, output{revision: 1}}, {b, output{revision: 2}}, {reads, output{value: "a", revision: 1}}}, porcupine.Illegal},
		"a write takes effect twice":                 {[]one{{a, output{revision: 1}}, {b, output{revision: 3}}}, porcupine.Illegal},
		"a deletion comes back":                      {[]one{{a, output{revision: 1}}, {removes, output{}}, {reads, output{value: "a", revision: 1}}}, porcupine.Illegal},
		"a list leaves an item out":                  {[]one{{a, output{revision: 1}}, {lists, output{}}}, porcupine.Illegal},
		"a refusal from a state that was not stored": {[]one{{a, output{revision: 1}}, {removes, unanswered}, {removes, output{refused: 404}}, {reads, output{value: "a", revision: 1}}}, porcupine.Illegal},
		"a conflict with what was not stored":        {[]one{{input{act: create, value: "a"}, unanswered}, {input{act: create, value: "b"}, output{refused: 409}}, {reads, output{}}}, porcupine.Illegal},
		"a write without an answer shows and goes":   {[]one{{a, unanswered}, {reads, output{value: "a", revision: 1}}, {reads, output{}}}, porcupine.Illegal},
		"it shows late":                              {[]one{{a, unanswered}, {reads, output{}}, {reads, output{value: "a", revision: 1}}}, porcupine.Ok},
		"it never does":                              {[]one{{a, unanswered}, {reads, output{}}, {b, output{revision: 1}}}, porcupine.Ok},
		"it is sent again, and recognized":           {[]one{{a, unanswered}, {input{act: put, value: "a", again: true}, output{revision: 1}}, {reads, output{value: "a", revision: 1}}}, porcupine.Ok},
		"a deleted tenant serves":                    {[]one{{input{act: deletes}, output{}}, {a, output{revision: 1}}}, porcupine.Illegal},
		"it is restored whole":                       {[]one{{a, output{revision: 1}}, {input{act: deletes}, output{}}, {input{act: restore}, output{}}, {reads, output{value: "a", revision: 1}}}, porcupine.Ok},
		"it is restored empty":                       {[]one{{a, output{revision: 1}}, {input{act: deletes}, output{}}, {input{act: restore}, output{}}, {reads, output{}}}, porcupine.Illegal},
		"a destroyed tenant comes back":              {[]one{{a, output{revision: 1}}, {input{act: destroy}, output{}}, {input{act: restore}, output{}}}, porcupine.Illegal},
		"a tenant created anew has what was before":  {[]one{{a, output{revision: 1}}, {input{act: destroy}, output{}}, {input{act: makes}, output{}}, {reads, output{value: "a", revision: 1}}}, porcupine.Illegal},
		"a repeated deletion takes a new tenant": {[]one{
			{input{act: destroy}, output{}}, {input{act: makes}, output{}}, {input{act: repeats}, output{}}, {reads, gone},
		}, porcupine.Illegal},
		"a deletion at once without an answer is restored": {[]one{{a, output{revision: 1}}, {input{act: destroy}, unanswered}, {input{act: restore}, output{}}, {reads, output{value: "a", revision: 1}}}, porcupine.Ok},
		"it goes later":                 {[]one{{input{act: destroy}, unanswered}, {lists, gone}, {input{act: makes}, output{}}, {reads, output{}}}, porcupine.Ok},
		"a tenant is gone for no cause": {[]one{{a, output{revision: 1}}, {reads, gone}}, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			ops := []porcupine.Operation{{Input: input{act: makes}, Output: output{}, Call: 1, Return: 2}}
			for n, o := range c.history {
				op := porcupine.Operation{Input: o.in, Output: o.out, Call: int64(2*n + 3), Return: int64(2*n + 4)}
				if o.out.unknown {
					op.Return = math.MaxInt64
				}
				ops = append(ops, op)
			}
			require.Equal(t, c.want, search(state{}, ops), told(ops))
		})
	}
}
