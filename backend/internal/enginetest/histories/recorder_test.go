// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// explainWithin bounds the search for an order of one item's requests.
const explainWithin = 10 * time.Minute

// place is an item of a tenant.
type place struct{ tenant, item string }

// recorder keeps which requests were made of each item, when they began and when their
// answers came, by a clock that counts.
type recorder struct {
	mu       sync.Mutex
	now      int64
	requests int
	items    map[place][]porcupine.Operation
}

func newRecorder(tenants, items []string) *recorder {
	r := &recorder{items: map[place][]porcupine.Operation{}}
	for _, t := range tenants {
		for _, i := range items {
			r.items[place{t, i}] = nil
		}
	}
	return r
}

// begin returns when a request begins.
func (r *recorder) begin() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	r.requests++
	return r.now
}

// end notes the answer of a request that began at a time, of one item, or, if item is
// empty, of each of the tenant's: outcome is asked for each.
func (r *recorder) end(began int64, client int, at place, in input, outcome func(item string) output) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	for p := range r.items {
		if p.tenant != at.tenant || at.item != "" && p.item != at.item {
			continue
		}
		out, ended := outcome(p.item), r.now
		if out.unknown {
			if in.act == read || in.act == list {
				continue // it says nothing
			}
			ended = math.MaxInt64
		}
		r.items[p] = append(r.items[p], porcupine.Operation{ClientId: client, Input: in, Call: began, Output: out, Return: ended})
	}
}

// explain finds an order of the requests of each item that explains every answer.
func (r *recorder) explain(t *testing.T, first map[string]state) {
	t.Helper()
	for p, ops := range r.items {
		found := search(first[p.tenant], ops)
		if found != porcupine.Ok {
			require.Fail(t, "no order explains the answers", "%s of %s: %s\n%s", p.item, p.tenant, found, told(ops))
		}
	}
}

// told lists the requests, in the order in which they began, with the beginnings of the
// values.
func told(ops []porcupine.Operation) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var text strings.Builder
	for _, op := range ops {
		in, out := op.Input.(input), op.Output.(output)
		ended := fmt.Sprint(op.Return)
		if op.Return == math.MaxInt64 {
			ended = "?"
		}
		fmt.Fprintf(&text, "%6d to %6s, client %d: %s %.12q again=%t: unknown=%t refused=%d noTenant=%t %.12q revision %d\n",
			op.Call, ended, op.ClientId, in.act, in.value, in.again, out.unknown, out.refused, out.noTenant, out.value, out.revision)
	}
	return text.String()
}
